"""M9: a statement's total is the ledger's, to the nano-USD, however often and by however many workers it is made."""

from __future__ import annotations

import datetime as dt
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, transaction

from billing.models import Statement, StatementLine, StatementState
from billing.statements.content import content_hash
from billing.statements.nightly import make_due_statements
from tenants.models import Project, Tenant
from tests.billing.statement_seeding import make_tenants, post_entries
from tests.billing.statement_worker import start_worker

ZONES = ("UTC", "America/New_York", "Asia/Kathmandu", "Pacific/Apia", "Europe/Berlin", "Pacific/Kiritimati")
START, END = (dt.datetime(2024, month, 15, 13, 7, tzinfo=dt.UTC) for month in (1, 4))
"""Past, over two ends of a month and the change of clocks in New York (10 March) and Berlin (31 March)."""

ENTRIES = 100_000
TENANTS = 50
KILLS = 20

Key = tuple[int, str]
Lines = dict[tuple[int, str, str, str, str, str], list[int]]


@pytest.fixture
def tenants(transactional_db: None) -> Iterator[list[Tenant]]:
    yield make_tenants(TENANTS, zones=ZONES)


def expected() -> tuple[Counter[Key], Lines]:
    """What each tenant's month comes to, and each line of it: added up in Python, row by row."""
    zones = {tenant.pk: ZoneInfo(tenant.timezone) for tenant in Tenant.objects.all()}
    projects = {None: "", **dict(Project.objects.values_list("pk", "name"))}
    totals: Counter[Key] = Counter()
    lines: Lines = {}
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT tenant_id, created_at, project_id, "user", model_name, provider_name, input_tokens, output_tokens, '
            "cost_nano_usd FROM billing_usagerecord"
        )
        for tenant_id, at, project_id, user, model, provider, tokens_in, tokens_out, cost in cursor.fetchall():
            local = at.astimezone(zones[tenant_id])
            month = f"{local.year}-{local.month:02d}"
            totals[tenant_id, month] += cost
            line = lines.setdefault((tenant_id, month, projects[project_id], user, model, provider), [0, 0, 0, 0])
            for place, figure in enumerate((1, tokens_in, tokens_out, cost)):
                line[place] += figure
    return totals, lines


def stated() -> tuple[dict[Key, int], Lines]:
    """The same of the statements."""
    months = {
        row.pk: (row.tenant_id, f"{row.starts_at.astimezone(ZoneInfo(row.timezone)):%Y-%m}")
        for row in Statement.objects.all()
    }
    totals = {months[row.pk]: row.subtotal_nano_usd for row in Statement.objects.all()}
    lines: Lines = {
        (*months[row.statement_id], row.project, row.user, row.model, row.provider): [
            row.calls, row.input_tokens, row.output_tokens, row.cost_nano_usd,
        ]
        for row in StatementLine.objects.all()
    }  # fmt: skip
    return totals, lines


def fingerprints() -> dict[Key, str]:
    """Every statement's hash, each reckoned again from what is stored."""
    found = {}
    for row in Statement.objects.select_related("credits"):
        assert content_hash(row) == row.content_hash
        found[row.tenant_id, row.starts_at.isoformat()] = row.content_hash
    return found


def undo() -> None:
    """Take all statements away, as no operator can: the triggers do not see a TRUNCATE."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("TRUNCATE billing_statement, billing_statementline")


def test_statements_equal_the_ledger_whoever_makes_them(tenants: list[Tenant]) -> None:
    post_entries(tenants, ENTRIES, start=START, end=END)
    ids = [tenant.pk for tenant in tenants]
    totals, lines = expected()
    assert sum(line[0] for line in lines.values()) == ENTRIES

    for tenant_id in ids:
        make_due_statements(tenant_id)
    assert stated() == (dict(totals), lines)
    assert set(Statement.objects.values_list("state", flat=True)) == {StatementState.ISSUED}
    once = fingerprints()
    assert len(once) == len(totals)

    for tenant_id in ids:
        make_due_statements(tenant_id)
    assert fingerprints() == once, "a rerun"

    undo()
    workers = [start_worker(ids) for _ in range(2)]
    for _, go in workers:
        go()
    for process, _ in workers:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert fingerprints() == once, "two workers at once"
    numbers = Statement.objects.order_by("tenant_id", "starts_at").values_list("tenant_id", "sequence")
    assert list(numbers) == [(tenant_id, place + 1) for tenant_id in ids for place in range(_months(once, tenant_id))]


def _months(found: dict[Key, Any], tenant_id: int) -> int:
    return sum(one == tenant_id for one, _ in found)


def test_a_killed_worker_leaves_whole_statements_or_none(tenants: list[Tenant]) -> None:
    few = tenants[:4]
    post_entries(few, 4_000, start=START, end=END)
    ids = [tenant.pk for tenant in few]
    process, go = start_worker(ids)
    began = time.monotonic()
    go()
    process.join(timeout=60)
    took_seconds = time.monotonic() - began
    assert process.exitcode == 0
    once = fingerprints()
    chance = random.Random(20)
    left_behind = Counter[int]()
    for _ in range(KILLS):
        undo()
        process, go = start_worker(ids)
        go()
        process.join(timeout=took_seconds * chance.random())
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        found = fingerprints()
        left_behind[len(found)] += 1
        assert found.items() <= once.items(), "what is there is whole"
        for tenant_id in ids:
            make_due_statements(tenant_id)
        assert fingerprints() == once
    assert len(left_behind) > 2, f"the kills came at different points: {left_behind}"
