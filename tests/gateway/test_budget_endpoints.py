"""GET /v1/budgets and GET /v1/usage: a key sees its own side of its own tenant, and nothing of another's."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from billing import usage_reports
from billing.budgets import window_of
from billing.errors import UsageReportError
from billing.models import Budget, BudgetOverride, BudgetWindow
from billing.money import NANO_PER_USD
from billing.usage_sums import Stretch
from tenants.models import ApiKey, Project, Tenant
from tests import factories
from tests.admin.seeding import add_usage
from tests.gateway.conftest import Platform
from tests.live import LiveServer, until

NOON = dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC)


def get(server: LiveServer, key: str, path: str, **query: str) -> Any:
    with server.client(key) as client:
        return client.get(path, params=query)


def budgets(server: LiveServer, key: str, count: int) -> list[dict[str, Any]]:
    """What a key is told, once the server knows of so many."""

    def asked() -> list[dict[str, Any]]:
        answer = get(server, key, "/budgets")
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["data"]
        return found if len(found) == count else []

    return until(asked, what=f"{count} budgets")  # type: ignore[no-any-return]


def window(budget: Budget, spent: int, *, subject: str = "", reserved: int = 0) -> BudgetWindow:
    starts_at, ends_at = window_of(budget.period, dt.datetime.now(dt.UTC), zone=dt.UTC)  # type: ignore[arg-type]
    return BudgetWindow.objects.create(
        budget=budget,
        subject=subject,
        starts_at=starts_at,
        ends_at=ends_at,
        spent_nano_usd=spent,
        reserved_nano_usd=reserved,
    )


@pytest.fixture
def shop(platform: Platform) -> tuple[Tenant, ApiKey, str]:
    """A tenant with a budget at every scope, of its own and of its neighbours within, and a key in project web."""
    tenant = factories.make_tenant()
    web = Project.objects.create(tenant=tenant, name="web")
    Project.objects.create(tenant=tenant, name="other")
    key, text = factories.make_key(tenant, "mine", project=web, user="u-1")
    factories.make_key(tenant, "theirs")
    for scope, subject in (
        ("project", "web"), ("project", "other"), ("key", "mine"), ("key", "theirs"), ("user", "u-1"), ("user", "u-2"),
        ("model", "mock-chat"),
    ):  # fmt: skip
        Budget.objects.create(tenant=tenant, scope=scope, subject=subject, limit_nano_usd=NANO_PER_USD)
    return tenant, key, text


def test_a_budget_says_all_about_itself(uvicorn: LiveServer, platform: Platform) -> None:
    tenant = factories.make_tenant()
    _, key = factories.make_key(tenant)
    budget = Budget.objects.create(tenant=tenant, limit_nano_usd=100 * NANO_PER_USD, period="day")
    window(budget, 30 * NANO_PER_USD + 1, reserved=5)
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    for extra, expires_at in ((10, soon), (1000, dt.datetime.now(dt.UTC))):
        BudgetOverride.objects.create(
            budget=budget, extra_nano_usd=extra * NANO_PER_USD, expires_at=expires_at, reason="x"
        )
    (told,) = budgets(uvicorn, key, 1)
    starts_at, resets_at = dt.datetime.fromisoformat(told.pop("starts_at")), told.pop("resets_at")
    assert dt.datetime.fromisoformat(resets_at) - starts_at == dt.timedelta(days=1)
    assert told == {
        "object": "budget", "scope": "tenant", "subject": None, "period": "day", "hard": True, "limit_usd": "110",
        "spent_usd": "30.000000001", "reserved_usd": "0.000000005", "remaining_usd": "79.999999994",
    }  # fmt: skip
    Budget.objects.filter(pk=budget.pk).update(limit_nano_usd=0, period="total")
    changed = until(
        lambda: [one for one in budgets(uvicorn, key, 1) if one["period"] == "total"], what="the change being seen"
    )
    assert (changed[0]["limit_usd"], changed[0]["remaining_usd"], changed[0]["resets_at"]) == ("10", "10", None)
    Budget.objects.filter(pk=budget.pk).update(enabled=False)
    until(lambda: get(uvicorn, key, "/budgets").json()["data"] == [], what="the budget being off")


def test_a_key_sees_what_its_calls_are_held_in(uvicorn: LiveServer, shop: tuple[Tenant, ApiKey, str]) -> None:
    tenant, _, text = shop
    each = Budget.objects.create(tenant=tenant, scope="user", period="day", limit_nano_usd=NANO_PER_USD)
    window(each, 7, subject="u-1")
    window(each, 9, subject="u-2")
    told = budgets(uvicorn, text, 5)
    seen = {(one["scope"], one["subject"], one["period"], one["spent_usd"]) for one in told}
    assert seen == {
        ("project", "web", "month", "0"),
        ("key", "mine", "month", "0"),
        ("user", "u-1", "month", "0"),
        ("user", "u-1", "day", "0.000000007"),
        ("model", "mock-chat", "month", "0"),
    }


def test_a_budget_of_each_model_names_those_used(uvicorn: LiveServer, platform: Platform) -> None:
    tenant = factories.make_tenant()
    _, key = factories.make_key(tenant)
    budget = Budget.objects.create(tenant=tenant, scope="model", limit_nano_usd=NANO_PER_USD)
    assert budgets(uvicorn, key, 1)[0]["subject"] is None
    window(budget, 1, subject="a")
    window(budget, 2, subject="b")
    assert [(one["subject"], one["spent_usd"]) for one in budgets(uvicorn, key, 2)] == [
        ("b", "0.000000002"), ("a", "0.000000001"),
    ]  # fmt: skip


def test_an_outsider_sees_nothing(uvicorn: LiveServer, platform: Platform, shop: tuple[Tenant, ApiKey, str]) -> None:
    """Tenant B has a project, a key and a user of the same names as A's."""
    tenant, key, _ = shop
    Budget.objects.create(tenant=tenant, limit_nano_usd=NANO_PER_USD)
    add_usage(key, platform.mock_chat.deployments.get(), created_at=NOON, user="u-1")
    other = factories.make_tenant()
    project = Project.objects.create(tenant=other, name="web")
    _, text = factories.make_key(other, "mine", project=project, user="u-1")
    answer = get(uvicorn, text, "/budgets")
    assert answer.status_code == 200 and answer.json()["data"] == []
    for group_by in usage_reports.GROUPS:
        query = {"from": "2026-03-01", "to": "2026-03-31", "group_by": group_by}
        told = get(uvicorn, text, "/usage", **query).json()
        assert told["data"] == [] and told["total"]["requests"] == 0


@pytest.mark.parametrize("path", ["/budgets", "/usage"])
def test_both_need_a_key_that_may(uvicorn: LiveServer, platform: Platform, path: str) -> None:
    tenant = factories.make_tenant()
    _, chat_only = factories.make_key(tenant, scopes=("chat",))
    _, usage_only = factories.make_key(tenant, scopes=("usage",))
    assert get(uvicorn, "bsr_live_nonsense", path).status_code == 401
    refused = get(uvicorn, chat_only, path)
    assert refused.status_code == 403 and refused.json()["error"]["code"] == "permission_denied"
    assert get(uvicorn, usage_only, path).status_code == 200
    with uvicorn.client(usage_only) as client:
        assert client.post(path, json={}).status_code == 405


@pytest.fixture(scope="module")
def books(seeded: Platform) -> tuple[Tenant, str]:
    """A tenant in Berlin with a known March: around the midnight between the 9th and 10th, and around the end."""
    tenant = factories.make_tenant(timezone="Europe/Berlin")
    web = Project.objects.create(tenant=tenant, name="web")
    key, text = factories.make_key(tenant, "one", project=web)
    bare, _ = factories.make_key(tenant, "two")
    chat, embed = seeded.mock_chat.deployments.get(), seeded.mock_embed.deployments.get()
    for moment, who, where, more in (
        ("2026-03-09T22:59:59.999999+00:00", key, chat, {"cost_nano_usd": 1}),
        ("2026-03-09T23:00:00+00:00", key, chat, {"cost_nano_usd": 2, "cache_read_tokens": 7, "user": "u-1"}),
        ("2026-03-10T12:00:00+00:00", bare, embed, {"cost_nano_usd": 3, "reasoning_tokens": 5}),
        ("2026-03-31T21:59:59+00:00", bare, embed, {"cost_nano_usd": 0, "price": None, "cache_write_tokens": 2}),
        ("2026-03-31T22:00:00+00:00", bare, embed, {"cost_nano_usd": 1_000_000_000}),
    ):
        add_usage(who, where, created_at=dt.datetime.fromisoformat(moment), **more)
    return tenant, text


def usage(server: LiveServer, key: str, **query: str) -> Any:
    answer = get(server, key, "/usage", **{"from": "2026-03-01", "to": "2026-03-31", **query})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_usage_is_summed_exactly(uvicorn: LiveServer, books: tuple[Tenant, str]) -> None:
    told = usage(uvicorn, books[1])
    assert told["from"] == "2026-02-28T23:00:00+00:00" and told["to"] == "2026-03-31T22:00:00+00:00"
    assert (told["object"], told["group_by"], told["time_zone"]) == ("usage", "model", "Europe/Berlin")
    assert told["data"] == [
        {"model": "mock-chat", "requests": 2, "input_tokens": 2000, "output_tokens": 1000, "cache_read_tokens": 7,
         "cache_write_tokens": 0, "reasoning_tokens": 0, "unpriced_requests": 0, "cost_usd": "0.000000003"},
        {"model": "mock-embed", "requests": 2, "input_tokens": 2000, "output_tokens": 1000, "cache_read_tokens": 0,
         "cache_write_tokens": 2, "reasoning_tokens": 5, "unpriced_requests": 1, "cost_usd": "0.000000003"},
    ]  # fmt: skip
    assert told["total"]["requests"] == 4 and told["total"]["cost_usd"] == "0.000000006"


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [
        ("day", {"2026-03-09": 1, "2026-03-10": 2, "2026-03-31": 1}),
        ("project", {"web": 2, None: 2}),
        ("user", {"u-1": 1, None: 3}),
        ("api_key", {"one": 2, "two": 2}),
        ("model", {"mock-chat": 2, "mock-embed": 2}),
    ],
)
def test_usage_by(group_by: str, expected: dict[Any, int], uvicorn: LiveServer, books: tuple[Tenant, str]) -> None:
    told = usage(uvicorn, books[1], group_by=group_by)
    assert {group[group_by]: group["requests"] for group in told["data"]} == expected
    costs = sum(Decimal(group["cost_usd"]) for group in told["data"])
    assert costs == Decimal(told["total"]["cost_usd"])


def test_a_range_may_be_given_to_the_microsecond(uvicorn: LiveServer, books: tuple[Tenant, str]) -> None:
    told = usage(uvicorn, books[1], **{"from": "2026-03-09T22:59:59.999999Z", "to": "2026-03-09T23:00:00Z"})
    assert told["total"]["requests"] == 1, "to is not included"


def test_without_a_range_it_is_thirty_days(uvicorn: LiveServer, platform: Platform) -> None:
    _, key = factories.make_key(factories.make_tenant())
    told = get(uvicorn, key, "/usage").json()
    start, end = (dt.datetime.fromisoformat(told[side]) for side in ("from", "to"))
    assert dt.timedelta(days=29) <= end - start <= dt.timedelta(days=30)
    assert (start.hour, start.minute) == (0, 0)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"group_by": "tenant"}, "group_by"),
        ({"group_by": ""}, "group_by"),
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-03-01T00:00:00"}, "from"),
        ({"from": "0001-01-01", "to": "0001-01-02"}, "to"),
        ({"to": "9999-12-31"}, "to"),
        ({"to": "9999-12-31T23:59:59-14:00"}, "to"),
        ({"from": "2026-02-30"}, "from"),
        ({"from": "2026-03-02", "to": "2026-03-01"}, "from"),
        ({"from": "2026-01-01", "to": "2026-04-03"}, "from"),
    ],
)
def test_a_senseless_question_names_its_parameter(
    query: dict[str, str], param: str, uvicorn: LiveServer, books: tuple[Tenant, str]
) -> None:
    answer = get(uvicorn, books[1], "/usage", **query)
    assert answer.status_code == 400, answer.text
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == ("validation_error", param)


def test_a_quarter_is_not_too_long(uvicorn: LiveServer, books: tuple[Tenant, str]) -> None:
    for first, last in (("2026-07-01", "2026-09-30"), ("2026-10-01", "2026-12-31")):
        assert get(uvicorn, books[1], "/usage", **{"from": first, "to": last}).status_code == 200


def test_what_is_too_much_is_refused_not_cut(books: tuple[Tenant, str], monkeypatch: pytest.MonkeyPatch) -> None:
    tenant, _ = books
    march = Stretch(start=NOON.replace(day=1), end=NOON.replace(day=31))
    assert len(usage_reports.report_usage(tenant.pk, "model", stretch=march, zone="UTC")) == 2
    monkeypatch.setattr(usage_reports, "MOST_GROUPS", 1)
    with pytest.raises(UsageReportError, match="ask for a shorter range"):
        usage_reports.report_usage(tenant.pk, "model", stretch=march, zone="UTC")
