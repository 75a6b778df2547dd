"""Which windows of which budgets a call is held in: pure, from rules and the facts of the call."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import msgspec

from billing.models import Period, Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRule:
    """A budget as the hot path holds it."""

    id: int
    scope: str
    subject: str
    period: str
    hard: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFacts:
    """What budgets may be about, by name; empty where a call has none."""

    project: str
    user: str
    key: str
    model: str
    provider: str

    def concern(self, rule: BudgetRule) -> bool:
        """Whether a rule is about this call. Without a subject it is about each there is, each in its own window."""
        subject = self.subject(rule.scope)
        return rule.scope == Scope.TENANT or (subject != "" and rule.subject in ("", subject))

    def subject(self, scope: str) -> str:
        """The call's own subject in a scope."""
        return "" if scope == Scope.TENANT else str(getattr(self, scope))


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """A window that a call is to be held in; its row is made when it is the first."""

    budget_id: int
    subject: str
    starts_at: dt.datetime
    ends_at: dt.datetime | None


def holds_for(rules: Iterable[BudgetRule], facts: CallFacts, *, moment: dt.datetime, zone: ZoneInfo) -> list[Hold]:
    """The windows a call at this moment counts in, one for each rule that is about it."""
    holds = []
    for rule in rules:
        starts_at, ends_at = window_of(rule.period, moment, zone=zone)
        subject = facts.subject(rule.scope)
        holds.append(Hold(budget_id=rule.id, subject=subject, starts_at=starts_at, ends_at=ends_at))
    return holds


FOREVER = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
"""When windows that never end are said to begin."""


def window_of(period: str, moment: dt.datetime, *, zone: ZoneInfo) -> tuple[dt.datetime, dt.datetime | None]:
    """The beginning and end, in UTC, of the period that a moment falls into, as clocks in a time zone have it."""
    if period == Period.TOTAL:
        return FOREVER, None
    return _window_at(period, int(moment.timestamp()), zone=zone)


@functools.lru_cache(maxsize=4096)
def _window_at(period: str, second: int, *, zone: ZoneInfo) -> tuple[dt.datetime, dt.datetime]:
    moment = dt.datetime.fromtimestamp(second, dt.UTC)
    if period == Period.HOUR:  # of UTC: a clock that is set back would have the same hour twice
        start = moment.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)
        return start, start + dt.timedelta(hours=1)
    today = moment.astimezone(zone).date()
    first, after = _days_of(period, today)
    return _midnight(first, zone), _midnight(after, zone)


def _days_of(period: str, today: dt.date) -> tuple[dt.date, dt.date]:
    """The first day of a period and the first day after it."""
    if period == Period.DAY:
        return today, today + dt.timedelta(days=1)
    if period == Period.WEEK:
        monday = today - dt.timedelta(days=today.weekday())
        return monday, monday + dt.timedelta(days=7)
    months = 3 if period == Period.QUARTER else 1
    month = (today.month - 1) // months * months + 1
    first = today.replace(month=month, day=1)
    return first, (first + dt.timedelta(days=31 * months)).replace(day=1)


def _midnight(day: dt.date, zone: ZoneInfo) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), tzinfo=zone).astimezone(dt.UTC)
