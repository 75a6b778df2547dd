"""Sums behind the ledger are those of its rows: each entry once, in any piece, in the days of any zone."""

from __future__ import annotations

import datetime as dt
import random
from collections import defaultdict
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from billing.analytics import roll_up as rolling
from billing.analytics.checks import differing_days, prune_analytics, repair_analytics
from billing.analytics.latency import BOUNDS_MS, COLUMNS, percentile_ms
from billing.analytics.queries import Question, data_through, measure_groups, measure_series
from billing.analytics.roll_up import roll_up
from billing.models import AnalyticsDay, AnalyticsHour, AnalyticsUserDay, Attempt, UsageRecord
from billing.tasks import check_analytics, roll_up_usage
from providers.models import AgentType
from tenants.models import Operator, Tenant
from tests.admin.seeding import add_adjustment, add_usage, attempt_id_at
from tests.factories import make_key, make_model, make_provider, make_tenant

BEGIN = dt.datetime(2026, 3, 25, tzinfo=dt.UTC)
"""The clocks of Berlin go forward on the 29th."""
END = BEGIN + dt.timedelta(days=8)
ENTRIES = 60
SOURCES = ("provider_final", "provider_final", "local_count", "unknown", "cache")


@pytest.fixture(params=["UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu"])
def tenant(db: None, request: Any) -> Tenant:
    """A week of charges at moments that are on an hour, beside it, and at quarters, and a call that was not charged."""
    AgentType.objects.create(name="coder", target="any")
    tenant = make_tenant(timezone=request.param)
    keys = [make_key(tenant)[0] for _ in range(2)]
    deployments = [make_model(make_provider("https://a.example.com/v1")).deployments.get() for _ in range(2)]
    dice = random.Random(3)
    for _ in range(ENTRIES):
        moment = BEGIN + dt.timedelta(hours=dice.randrange(7 * 24), minutes=dice.choice([0, 15, 30, 44]))
        add_usage(
            dice.choice(keys), dice.choice(deployments),
            created_at=moment + dt.timedelta(microseconds=dice.randint(-1, 1)),
            user=dice.choice(["", "u-1"]), cost_nano_usd=dice.randrange(1000), usage_source=dice.choice(SOURCES),
            ending=dice.choice(["completed", "failed"]), agent_type=dice.choice(["", "coder", "made-up"]),
            latency_ms=dice.randrange(200_000),
        )  # fmt: skip
    void(keys[0], deployments[0], BEGIN + dt.timedelta(days=2, hours=18, minutes=31))
    return tenant


def void(key: Any, deployment: Any, moment: dt.datetime) -> None:
    Attempt.objects.create(
        id=attempt_id_at(moment), request_id="r", tenant=key.tenant, api_key=key, deployment=deployment,
        operation="chat", model_name=deployment.model.name, provider_name=deployment.provider.name, state="voided",
        failure="timeout", created_at=moment, ended_at=moment,
    )  # fmt: skip


def expected(group: str, day_of: ZoneInfo) -> dict[Any, list[int]]:
    """Calls, failed, cached, of unknown cost, known and estimated cost by group and local day, from the rows."""
    sums: dict[Any, list[int]] = defaultdict(lambda: [0] * 6)
    for row in UsageRecord.objects.all():
        value = getattr(row, group)
        key = (value if value != "made-up" else "*", row.created_at.astimezone(day_of).date())
        known = row.usage_source in ("provider_final", "cache")
        figures = (
            1, row.ending == "failed", row.usage_source == "cache", row.usage_source == "unknown",
            row.cost_nano_usd * known, row.cost_nano_usd * (not known),
        )  # fmt: skip
        sums[key] = [old + int(new) for old, new in zip(sums[key], figures, strict=True)]
    return sums


def asked(group_by: str, zone: ZoneInfo, groups: list[Any]) -> dict[Any, list[int]]:
    midnight = dt.datetime.combine(BEGIN.date() - dt.timedelta(days=1), dt.time(), tzinfo=zone).astimezone(dt.UTC)
    question = Question(start=midnight, end=END + dt.timedelta(days=1), group_by=group_by, zone=zone)
    found = measure_series(question, groups)
    assert {moment for series in found.values() for moment in series} <= set(question.moments())
    return {
        (group, moment.astimezone(zone).date()): [
            sums.calls, sums.failed_calls, sums.cache_hits, sums.unknown_cost_calls, sums.known_nano_usd,
            sums.estimated_nano_usd,
        ]
        for (_, group), series in found.items()
        for moment, sums in series.items() if sums.calls
    }  # fmt: skip


def test_days_of_the_tenants_zone_are_those_of_the_rows(tenant: Tenant) -> None:
    roll_up(until=END)
    assert data_through() == END
    zone = ZoneInfo(tenant.timezone)
    for group_by, field in (("agent_type", "agent_type"), ("key", "api_key_id"), ("model", "model_name")):
        truth = expected(field, zone)
        assert asked(group_by, zone, [group for group, _ in truth]) == truth, group_by
    by_user = expected("user", ZoneInfo("UTC"))
    assert asked("user", ZoneInfo("UTC"), ["", "u-1"]) == by_user


def test_pieces_and_repetition_change_nothing(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    roll_up(until=END)
    whole = [list(table.objects.order_by("pk").values_list(*FACTS)) for table in TABLES]
    monkeypatch.setattr(rolling, "CHUNK", dt.timedelta(hours=1, minutes=7))
    rolling.begin_again()
    said = []
    roll_up(until=BEGIN + dt.timedelta(days=3), say=said.append)
    roll_up(until=END)
    roll_up(until=END)
    assert len(said) > 50
    assert [caught.share for caught in said] == sorted(caught.share for caught in said)
    for before, table in zip(whole, TABLES, strict=True):
        assert sorted(before) == sorted(table.objects.values_list(*FACTS)), table


TABLES = (AnalyticsHour, AnalyticsDay, AnalyticsUserDay)
FACTS = ("starts_at", "calls", "failed_calls", "voided_calls", "known_nano_usd", "estimated_nano_usd", *COLUMNS)


@pytest.mark.parametrize("tenant", ["UTC"], indirect=True)
def test_groups_are_ranked_and_narrowed(tenant: Tenant) -> None:
    roll_up(until=END)
    question = Question(start=BEGIN - dt.timedelta(days=1), end=END, group_by="key", narrow={"tenant": [tenant.pk]})
    groups, everything = measure_groups(question, order="calls", most=10)
    assert [sums.calls for _, sums in groups] == sorted((sums.calls for _, sums in groups), reverse=True)
    assert everything.calls == ENTRIES == sum(everything.latencies)
    assert everything.errors == UsageRecord.objects.filter(ending="failed").count() + 1
    ((_, dearest),), all_of_it = measure_groups(question, order="cost", most=1)
    assert dearest.cost_nano_usd < all_of_it.cost_nano_usd == everything.cost_nano_usd
    elsewhere = Question(start=BEGIN, end=END, group_by="key", narrow={"tenant": [tenant.pk + 1]})
    nobody, nothing = measure_groups(elsewhere, order="calls", most=10)
    assert (nobody, nothing.calls) == ([], 0)


@pytest.mark.parametrize("tenant", ["UTC"], indirect=True)
def test_what_the_cursor_missed_is_found_and_summed_anew(tenant: Tenant) -> None:
    roll_up(until=END)
    key, _ = make_key(tenant)
    late = add_usage(key, make_model(make_provider("https://b.example.com/v1")).deployments.get(), created_at=BEGIN)
    day = dt.timedelta(days=(timezone.now() - BEGIN).days + 2)
    assert differing_days(day) == [BEGIN]
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_make_partitions(%s, 1)", [BEGIN])
    for found in differing_days(day):
        assert rolling.rebuild_day(found)
    assert differing_days(day) == []
    assert sum(AnalyticsHour.objects.filter(api_key=key).values_list("known_nano_usd", flat=True)) == late.cost_nano_usd


def test_the_tasks_keep_a_minute_behind_and_forget_what_is_old(db: None) -> None:
    key, _ = make_key(make_tenant())
    deployment = make_model(make_provider("https://a.example.com/v1")).deployments.get()
    now = timezone.now()
    for age in (dt.timedelta(days=101), dt.timedelta(hours=2), dt.timedelta(seconds=10)):
        add_usage(key, deployment, created_at=now - age)
    roll_up_usage()
    assert data_through() > now - 2 * rolling.LAG
    assert sum(AnalyticsHour.objects.values_list("calls", flat=True)) == 2, "not what may be under way"
    check_analytics()
    assert AnalyticsHour.objects.count() == 1
    assert AnalyticsDay.objects.count() == 2
    assert prune_analytics() == 0
    assert repair_analytics() == 0


def test_an_adjustment_is_money_and_no_call(db: None) -> None:
    key, _ = make_key(make_tenant())
    charge = add_usage(key, make_model(make_provider("https://a.example.com/v1")).deployments.get(), cost_nano_usd=10)
    Operator.objects.create(username="who-adjusts")
    add_adjustment(charge)
    roll_up(until=timezone.now() + dt.timedelta(seconds=1))
    (day,) = AnalyticsDay.objects.all()
    assert (day.calls, day.known_nano_usd) == (1, 11)


def test_percentiles_are_exact_to_their_class() -> None:
    dice = random.Random(1)
    latencies = sorted(int(dice.lognormvariate(7, 1)) for _ in range(2000))
    counts = [0] * (len(BOUNDS_MS) + 1)
    for latency in latencies:
        counts[sum(latency >= bound for bound in BOUNDS_MS)] += 1
    edges = (0, *BOUNDS_MS, 10**9)
    for share in (0.01, 0.5, 0.95, 0.99, 1.0):
        truth = latencies[max(0, int(share * len(latencies)) - 1)]
        place = sum(truth >= bound for bound in BOUNDS_MS)
        assert edges[place] <= percentile_ms(counts, share) <= edges[place + 1]
    assert percentile_ms([0] * len(counts), 0.5) is None
    assert percentile_ms([0] * len(BOUNDS_MS) + [3], 0.5) == BOUNDS_MS[-1]


@pytest.mark.parametrize("tenant", ["UTC"], indirect=True)
def test_the_command_says_how_far_it_is(tenant: Tenant, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("roll_up_usage")
    call_command("roll_up_usage", "--rebuild", "--repair")
    said = capsys.readouterr().out
    assert "100%, 0 s left" in said
    assert "Days made anew: 0." in said
    assert "Summed through" in said
