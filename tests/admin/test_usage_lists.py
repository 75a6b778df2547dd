"""The ledger's lists: windows, pages, filters, exact search, and totals."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing.admin.windows import LONGEST_WINDOW, window_between
from billing.models import UsageRecord
from billing.usage_sums import UsageSums
from providers.models import Deployment
from tenants.models import ApiKey
from tests.admin.seeding import Seeded, add_usage
from tests.factories import make_key, make_model, make_provider, make_tenant

USAGE = "admin:billing_usagerecord_changelist"
ATTEMPTS = "admin:billing_attempt_changelist"


@pytest.fixture
def key(db: None) -> ApiKey:
    return make_key(make_tenant("acme"))[0]


@pytest.fixture
def deployment(db: None) -> Deployment:
    return make_model(make_provider("https://api.example.com/v1", name="vendor"), name="chatty").deployments.get()


def listed(client: Client, page: str, **query: object) -> list[str]:
    """Request ids of a list, all its pages after one another."""
    url = reverse(page)
    response = client.get(url, query)
    found = []
    while True:
        assert response.status_code == 200, response.get("Location")
        changelist = response.context["cl"]
        found += [row.request_id for row in changelist.result_list]
        if changelist.older is None:
            return found
        response = client.get(url + changelist.older)


def totals(client: Client, **query: object) -> Any:
    found: UsageSums | None = client.get(reverse(USAGE), query).context["cl"].totals
    return found


@pytest.mark.parametrize("page", [USAGE, ATTEMPTS])
def test_pages_follow_one_another_without_gap_or_repetition(
    page: str, viewer: Client, key: ApiKey, deployment: Deployment
) -> None:
    now = timezone.now()
    moments = [now - dt.timedelta(minutes=1 + number // 40) for number in range(120)]
    made = [add_usage(key, deployment, created_at=moment).request_id for moment in moments]
    found = listed(viewer, page)
    assert sorted(found) == sorted(made)
    times = dict(UsageRecord.objects.values_list("request_id", "created_at"))
    assert [times[request_id] for request_id in found] == sorted(times.values(), reverse=True)


@pytest.mark.parametrize("page", [USAGE, ATTEMPTS])
def test_the_last_day_is_shown_unless_days_are_chosen(
    page: str, viewer: Client, key: ApiKey, deployment: Deployment
) -> None:
    now = timezone.now()
    for hours in (1, 25, 24 * 40, 24 * 100):
        add_usage(key, deployment, created_at=now - dt.timedelta(hours=hours), request_id=f"h{hours}")
    assert listed(viewer, page) == ["h1"]
    days_ago = [(now - dt.timedelta(days=days)).date() for days in range(101)]
    assert listed(viewer, page, created_at_from=days_ago[41]) == ["h1", "h25", "h960"]
    old = (now - dt.timedelta(hours=24 * 40)).date()
    assert listed(viewer, page, created_at_from=old, created_at_to=old) == ["h960"]
    assert listed(viewer, page, created_at_from=days_ago[100]) == ["h1", "h25", "h960"], "at most 92 days"
    assert listed(viewer, page, created_at_from="nonsense") == ["h1"]


def test_windows_are_whole_utc_days_of_at_most_92() -> None:
    window = window_between("2026-03-01", "2026-03-02")
    assert window.start == dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    assert window.end == dt.datetime(2026, 3, 3, tzinfo=dt.UTC)
    assert window_between("2020-01-01", "2026-03-02").start == window.end - LONGEST_WINDOW
    assert window_between("", "").is_default
    for first_day, last_day in (("0001-01-01", "0001-01-01"), ("9999-12-31", "9999-12-31"), ("2026-02-30", "x")):
        assert window_between(first_day, last_day).is_default, "days no ledger has"


def test_filters_and_their_totals(viewer: Client, key: ApiKey, deployment: Deployment) -> None:
    other_key, _ = make_key(make_tenant("other"))
    unpriced = make_model(make_provider("https://b.example.com/v1", name="second"), name="free", prices=None)
    add_usage(key, deployment, request_id="a")
    add_usage(key, deployment, request_id="b", ending="client_left", output_tokens=7)
    quarantined = {"quarantined": "It comes to -5 input tokens.", "reported": "{}"}
    add_usage(
        other_key, unpriced.deployments.get(),
        request_id="c", usage_source="reserve_bound", provider_usage=quarantined,
    )  # fmt: skip

    def chosen(**query: object) -> tuple[set[str], int]:
        return set(listed(viewer, USAGE, **query)), totals(viewer, **query).calls

    assert chosen() == ({"a", "b", "c"}, 3)
    assert chosen(tenant__id__exact=key.tenant_id) == ({"a", "b"}, 2)
    assert chosen(model_name="free") == ({"c"}, 1)
    assert chosen(provider_name="vendor") == ({"a", "b"}, 2)
    assert chosen(ending__exact="client_left") == ({"b"}, 1)
    assert set(listed(viewer, USAGE, usage_source__exact="reserve_bound")) == {"c"}
    assert totals(viewer, usage_source__exact="reserve_bound") is None, "no bucket knows the source"
    page = viewer.get(reverse("admin:billing_usagerecord_change", args=[UsageRecord.objects.get(request_id="c").pk]))
    assert "It comes to -5 input tokens." in page.content.decode(), "and says why"
    assert chosen(tenant__id__exact=key.tenant_id, model_name="free") == (set(), 0)
    assert totals(viewer).figures() == [
        ("Calls", "3"), ("Tokens in", "3,000"), ("Tokens out", "1,007"), ("Cost, USD", "0.0009"),
        ("Calls without a price", "1"),
    ]  # fmt: skip


def test_an_exact_request_id_is_found_whenever_it_was(viewer: Client, key: ApiKey, deployment: Deployment) -> None:
    old = timezone.now() - dt.timedelta(days=300)
    add_usage(key, deployment, created_at=old, request_id="req-Old")
    assert listed(viewer, USAGE, q=" req-Old ") == ["req-Old"]
    for inexact in ("req-old", "req-Ol", "%", "req_Old"):
        assert listed(viewer, USAGE, q=inexact) == []


def test_money_is_exact(viewer: Client, key: ApiKey, deployment: Deployment) -> None:
    row = add_usage(key, deployment, cost_nano_usd=1_000_000_001)
    page = reverse("admin:billing_usagerecord_change", args=[row.pk])
    for url in (reverse(USAGE), page):
        assert "1.000000001" in viewer.get(url).content.decode()
    unpriced = add_usage(key, deployment, price=None, cost_nano_usd=0)
    html = viewer.get(reverse("admin:billing_usagerecord_change", args=[unpriced.pk])).content.decode()
    assert "no price" in html, "no price is not the same as free"


def test_a_tenants_page_leads_to_its_usage(viewer: Client, seeded: Seeded) -> None:
    page = viewer.get(reverse("admin:tenants_tenant_change", args=[seeded.tenant.pk])).content.decode()
    link = f"{reverse(USAGE)}?tenant__id__exact={seeded.tenant.pk}"
    assert link in page
    rows = viewer.get(link).context["cl"].result_list
    assert {row.tenant_id for row in rows} == {seeded.tenant.pk}


@pytest.mark.parametrize(
    "cursor", ["nonsense", "_", "2026-01-01T00:00:00+00:00_x", "x_00000000-0000-7000-8000-000000000000"]
)
def test_a_cursor_that_is_none_leads_back_to_the_list(cursor: str, viewer: Client, db: None) -> None:
    response: Any = viewer.get(reverse(USAGE), {"before": cursor})
    assert (response.status_code, response["Location"]) == (302, f"{reverse(USAGE)}?e=1")
