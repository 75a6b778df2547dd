"""Seeded usage balances, and what looks at it reads buckets."""

from __future__ import annotations

import datetime as dt
import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from billing.models import UsageRecord
from billing.usage_reports import GROUPS, report_usage
from billing.usage_sums import Stretch
from tenants.models import Operator, Role, Tenant
from tests.billing.books import verified

ROWS = 20_000


@pytest.mark.django_db(transaction=True)
def test_twenty_thousand_charges(client: Client) -> None:
    said = StringIO()
    call_command("seed_usage", "--rows", str(ROWS), "--days", "40", "--tenants", "8", stdout=said)
    assert f"{ROWS:,} of {ROWS:,}, 0 s left" in said.getvalue()
    verified()
    assert UsageRecord.objects.count() == ROWS

    client.force_login(Operator.objects.create(username="o", role=Role.OWNER, is_staff=True))
    tenant = Tenant.objects.order_by("pk").first()
    midnight = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    month = Stretch(start=midnight - dt.timedelta(days=30))
    with CaptureQueriesContext(connection) as asked:
        home = client.get("/admin/")
        for group_by in GROUPS:
            assert report_usage(tenant.pk, group_by, stretch=month, zone="UTC")
        listed = client.get(reverse("admin:billing_usagerecord_changelist"))
    assert home.context["figures"] and listed.context["cl"].totals.calls > 0
    sums = [query["sql"] for query in asked if "coalesce(sum(" in query["sql"]]
    assert len(sums) >= len(GROUPS) + 1
    for sql in sums:
        scanned = rows_scanned(sql)
        assert scanned <= 1_000, (scanned, sql)

    with pytest.raises(CommandError, match="only an empty one is seeded"):
        call_command("seed_usage", "--rows", "10", "--days", "1", "--tenants", "1")


def rows_scanned(sql: str) -> int:
    """How many charges a query really reads: at most those of the two hours at the ends of its range."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
        plan = cursor.fetchone()[0]
    plans = json.loads(plan) if isinstance(plan, str) else plan
    return sum(_scanned(node["Plan"]) for node in plans)


def _scanned(node: dict[str, Any]) -> int:
    read = 0
    if str(node.get("Relation Name", "")).startswith("billing_usagerecord"):
        read = int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
    return read + sum(_scanned(child) for child in node.get("Plans", ()))
