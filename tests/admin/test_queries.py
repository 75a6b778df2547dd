"""Each page makes as many queries over 60 rows as over 3, and exactly as many as tests/frozen/admin_queries.json says.

A changed count is a decision: look at what the page asks the database now, then write the new figure there.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.admin.seeding import NOT_ADDED, SHOWN, Seeded, begin, grow

FROZEN = Path(__file__).parents[1] / "frozen" / "admin_queries.json"
ADDED_BY_FORM = [model for model in SHOWN if model._meta.model_name not in NOT_ADDED]


def pages(seeded: Seeded) -> dict[str, str]:
    """A name and the URL of each page."""
    found = {
        "home": reverse("admin:index"),
        "usage explorer": reverse("admin:desk_usage"),
        "provider board": reverse("provider_board"),
        "playground": reverse("playground"),
    }
    for model in SHOWN:
        label = f"{model._meta.app_label}_{model._meta.model_name}"
        row = seeded.page_object(model)
        found[f"{label} list"] = reverse(f"admin:{label}_changelist")
        found[f"{label} page"] = reverse(f"admin:{label}_change", args=[row.pk])
        found[f"{label} history"] = reverse(f"admin:{label}_history", args=[row.pk])
    for model in ADDED_BY_FORM:
        label = f"{model._meta.app_label}_{model._meta.model_name}"
        found[f"{label} form"] = reverse(f"admin:{label}_add")
    return found


def count_queries(client: Client, seeded: Seeded) -> dict[str, int]:
    counts = {}
    for name, url in pages(seeded).items():
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert client.get(url).status_code == 200, name
        counts[name] = len(queries)
    return counts


@pytest.fixture
def few(db: None) -> Seeded:
    seeded = begin()
    grow(seeded, 3)
    return seeded


def test_pages_make_a_fixed_number_of_queries(owner: Client, few: Seeded) -> None:
    count_queries(owner, few)  # warms what Django keeps: content types, the session
    over_few = count_queries(owner, few)
    grow(few, 57)
    over_many = count_queries(owner, few)
    assert over_many == over_few
    assert over_few == json.loads(FROZEN.read_text()), json.dumps(over_few, indent=2)


@pytest.mark.parametrize(
    "table", ["billing_usagerecord", "billing_attempt", "gateway_requestrecord", "tenants_auditevent"]
)
def test_the_ledger_is_neither_counted_nor_skipped_through(table: str, owner: Client, few: Seeded) -> None:
    grow(few, 57)
    url = reverse(f"admin:{table}_changelist")
    first = owner.get(url)
    with CaptureQueriesContext(connection) as queries:
        second = owner.get(url + first.context["cl"].older)
    assert second.context["cl"].result_list
    asked = [query["sql"] for query in queries if table in query["sql"]]
    assert asked
    for sql in asked:
        assert "OFFSET" not in sql
        assert "LIMIT" in sql or "billing_usageday" in sql, "the list's page, or sums that are read from buckets"
