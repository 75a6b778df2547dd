"""M10: a hold is settled into the window it was reserved in, whatever the clock has done since."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from django.db import connection

from billing import sql
from billing.budgets import holds_for, window_of
from billing.entries import Void, new_attempt_id
from billing.models import Budget, BudgetWindow, Period
from billing.verification import verify
from tests import factories
from tests.billing.ledger_model import period_by_search
from tests.billing.test_ledger import reservation, settlement
from tests.billing.test_ledger_machine import FACTS_OF_NOBODY, rule_of
from tests.billing.test_one_end import execute

BORDERS = [
    # zone, period, the last moment before the border in UTC, the window's beginning and end in UTC
    ("UTC", "hour", "2026-11-21T09:59:59.9", "2026-11-21T09:00", "2026-11-21T10:00"),
    ("UTC", "day", "2026-11-21T23:59:59.9", "2026-11-21T00:00", "2026-11-22T00:00"),
    ("Europe/Berlin", "day", "2026-03-29T21:59:59.9", "2026-03-28T23:00", "2026-03-29T22:00"),  # 23 hours
    ("Europe/Berlin", "day", "2026-10-25T22:59:59.9", "2026-10-24T22:00", "2026-10-25T23:00"),  # 25 hours
    ("Europe/Berlin", "hour", "2026-10-25T00:59:59.9", "2026-10-25T00:00", "2026-10-25T01:00"),  # 2 o'clock, twice
    ("Europe/Berlin", "week", "2026-03-29T21:59:59.9", "2026-03-22T23:00", "2026-03-29T22:00"),
    ("Europe/Berlin", "month", "2026-03-31T21:59:59.9", "2026-02-28T23:00", "2026-03-31T22:00"),
    ("America/New_York", "day", "2026-03-09T03:59:59.9", "2026-03-08T05:00", "2026-03-09T04:00"),
    ("America/New_York", "day", "2026-11-02T04:59:59.9", "2026-11-01T04:00", "2026-11-02T05:00"),
    ("America/Havana", "day", "2026-03-08T04:59:59.9", "2026-03-07T05:00", "2026-03-08T05:00"),  # no midnight after
    ("America/Havana", "day", "2026-11-02T04:59:59.9", "2026-11-01T04:00", "2026-11-02T05:00"),  # two midnights before
    ("Asia/Beirut", "day", "2026-10-24T21:59:59.9", "2026-10-23T21:00", "2026-10-24T22:00"),  # back at midnight
    ("Australia/Lord_Howe", "day", "2026-04-05T13:29:59.9", "2026-04-04T13:00", "2026-04-05T13:30"),  # half an hour
    ("Asia/Kathmandu", "month", "2028-02-29T18:14:59.9", "2028-01-31T18:15", "2028-02-29T18:15"),  # a leap day
    ("Pacific/Kiritimati", "month", "2026-12-31T09:59:59.9", "2026-11-30T10:00", "2026-12-31T10:00"),
    ("America/New_York", "quarter", "2027-01-01T04:59:59.9", "2026-10-01T04:00", "2027-01-01T05:00"),
    ("UTC", "quarter", "2026-06-30T23:59:59.9", "2026-04-01T00:00", "2026-07-01T00:00"),
    ("UTC", "total", "2026-12-31T23:59:59.9", "2020-01-01T00:00", ""),
]  # fmt: skip


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("zone", "period", "last", "begins", "ends"), BORDERS)
def test_reserved_before_the_border_and_ended_after_it(
    zone: str, period: str, last: str, begins: str, ends: str
) -> None:
    budget = Budget.objects.create(tenant=factories.make_tenant(), period=period, limit_nano_usd=1000)
    before, after = utc(last), utc(last) + dt.timedelta(seconds=0.2)
    old, failed, new = (
        reservation(
            new_attempt_id(),
            created_at=moment,
            fixed_nano_usd=500,
            max_output_tokens=0,
            holds=holds_for([rule_of(budget)], FACTS_OF_NOBODY, moment=moment, zone=ZoneInfo(zone)),
        )
        for moment in (before, before, after)
    )
    with connection.cursor() as cursor:
        execute(cursor, sql.reserve(None), [old, failed])
        if period != Period.TOTAL:
            execute(cursor, sql.reserve(None), [new])
        execute(cursor, sql.SETTLE, [settlement(old.id, cost_nano_usd=400)])
        execute(cursor, sql.VOID, [Void(attempt_id=failed.id, failure="broken")])
    first, *rest = BudgetWindow.objects.order_by("starts_at")
    assert (first.starts_at, first.ends_at) == (utc(begins), utc(ends) if ends else None)
    assert (first.spent_nano_usd, first.reserved_nano_usd) == (400, 0)
    if period != Period.TOTAL:
        (second,) = rest
        assert second.starts_at == first.ends_at, "no gap, and nothing twice"
        assert (second.spent_nano_usd, second.reserved_nano_usd) == (0, 500)
    assert [finding for finding in verify() if finding.breaches] == []


ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "America/Havana", "America/Santiago", "Asia/Beirut", "Asia/Kathmandu",
    "Africa/Casablanca", "Australia/Lord_Howe", "Pacific/Chatham", "Pacific/Kiritimati", "Pacific/Pago_Pago",
]  # fmt: skip


@pytest.mark.parametrize("zone_name", ZONES)
def test_windows_are_what_a_wall_clock_says_on_every_day_of_two_years(zone_name: str) -> None:
    zone, moment = ZoneInfo(zone_name), dt.datetime(2026, 1, 1, 0, 0, 0, 100_000, tzinfo=dt.UTC)
    while moment.year < 2028:
        starts_at, ends_at = window_of("day", moment, zone=zone)
        assert period_by_search("day", moment, zone) == (starts_at, ends_at), moment
        assert ends_at is not None
        moment = ends_at + dt.timedelta(seconds=0.1)
    for period in ("week", "month", "quarter", "hour"):
        for days in range(0, 730, 13):
            moment = dt.datetime(2026, 1, 1, days % 24, 30, tzinfo=dt.UTC) + dt.timedelta(days=days)
            assert period_by_search(period, moment, zone) == window_of(period, moment, zone=zone), moment
