"""Which periods of a tenant want a statement.

Each begins where the one before ended, or later when nothing was posted between. So no entry is on two statements or
on none, also when a tenant's time zone or schedule changes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from django.db.models import Max

from billing.budgets import window_of
from billing.models import Statement, StatementKind, StatementPeriod, StatementSchedule, StatementState
from billing.statements.entries import first_posted
from tenants.models import Tenant

FINAL = (StatementState.ISSUED, StatementState.LOCKED)


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` to before `end`, both UTC."""

    start: dt.datetime
    end: dt.datetime


def schedule_of(tenant: Tenant) -> StatementSchedule:
    """A tenant's schedule, or the default one, unsaved. One query."""
    return StatementSchedule.objects.filter(tenant=tenant).first() or StatementSchedule(tenant=tenant)


def issued_until(tenant: Tenant, *, before: dt.datetime | None = None) -> dt.datetime | None:
    """Where the last issued statement ended, of those that begin before a moment if one is given. One query."""
    issued = Statement.objects.filter(tenant=tenant, kind=StatementKind.STATEMENT, state__in=FINAL)
    if before is not None:
        issued = issued.filter(starts_at__lt=before)
    until: dt.datetime | None = issued.aggregate(until=Max("ends_at"))["until"]
    return until


def periods_due(tenant: Tenant, *, now: dt.datetime) -> Iterator[Span]:
    """The periods with entries that no issued statement has, the oldest first; the last may be under way."""
    zone, period = ZoneInfo(tenant.timezone), schedule_of(tenant).period
    covered = issued_until(tenant)
    while (entry_at := first_posted(tenant.pk, start=covered, end=now)) is not None:
        span = period_around(entry_at, period=period, zone=zone)
        yield Span(max(span.start, covered) if covered else span.start, span.end)
        covered = span.end


def period_around(moment: dt.datetime, *, period: str, zone: ZoneInfo) -> Span:
    """The day or month, by the clocks of a time zone, that a moment falls into."""
    start, end = window_of(period, moment, zone=zone)
    assert end is not None, "statements are of days and months"
    return Span(start, end)


def read_period(text: str) -> tuple[StatementPeriod, dt.date]:
    """A month such as 2026-10, or a day such as 2026-10-31, and its first day. Raises ValueError for anything else."""
    if len(text) == len("2026-10"):
        return StatementPeriod.MONTH, dt.date.fromisoformat(f"{text}-01")
    if len(text) == len("2026-10-31"):
        return StatementPeriod.DAY, dt.date.fromisoformat(text)
    raise ValueError(f"{text!r} is neither a month nor a day.")


def begins_in(span: Span, *, period: StatementPeriod, first_day: dt.date, zone: ZoneInfo) -> bool:
    """Whether a period begins in a month or on a day, by the clocks of a time zone."""
    day = span.start.astimezone(zone).date()
    return day.replace(day=1) == first_day if period == StatementPeriod.MONTH else day == first_day
