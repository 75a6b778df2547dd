"""What a limit would mean before it is saved: when it runs out at the last days' pace, and what it had refused."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from django.db.models import QuerySet, Sum

from billing.budgets import window_of
from billing.models import Budget, Scope, UsageHour, UserDay
from billing.standings import Standing, standings_of, with_extras

LOOKED_BACK = dt.timedelta(days=7)
MICROSECOND = dt.timedelta(microseconds=1)
FIELDS = {
    Scope.PROJECT: "project__name", Scope.KEY: "api_key__name", Scope.MODEL: "model_name",
    Scope.PROVIDER: "provider_name",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The last seven days beside a limit."""

    spent_nano_usd: int
    calls: int
    above: int
    """How many calls came when the limit would have been spent in their period; counted by the hour, for end users by
    the day."""
    spent_now_nano_usd: int
    """In the period under way, as the budget has counted it."""
    exhausted_at: dt.datetime | None
    """When the limit runs out at this pace; None where the period ends before, or nothing is spent."""
    ends_at: dt.datetime | None
    """When the period ends."""

    @property
    def a_day_nano_usd(self) -> int:
        return self.spent_nano_usd // LOOKED_BACK.days


@dataclass(frozen=True, slots=True)
class _Slice:
    starts_at: dt.datetime
    whose: str
    cost: int
    calls: int


def pace_of(budget: Budget, now: dt.datetime) -> Pace:
    """How a budget, saved or not, compares with the last seven days. Up to three queries, over buckets."""
    zone = ZoneInfo(budget.tenant.timezone)
    slices = _slices(budget, now - LOOKED_BACK)
    spent = sum(one.cost for one in slices)
    standing = _standing(budget, now)
    _, ends_at = window_of(budget.period, now, zone=zone)
    spent_now = standing.spent_nano_usd if standing is not None else 0
    return Pace(
        spent_nano_usd=spent,
        calls=sum(one.calls for one in slices),
        above=_above(budget, slices, zone=zone),
        spent_now_nano_usd=spent_now,
        exhausted_at=_exhausted_at(budget.limit_nano_usd - spent_now, _fastest(slices), now=now, ends_at=ends_at),
        ends_at=ends_at,
    )


def _standing(budget: Budget, now: dt.datetime) -> Standing | None:
    if budget.pk is None:
        return None
    saved = with_extras(Budget.objects.filter(pk=budget.pk).select_related("tenant"), now).first()
    return standings_of(saved, now, most=1)[0] if saved is not None else None


def _slices(budget: Budget, since: dt.datetime) -> list[_Slice]:
    """What was spent since, by whom, in the smallest pieces that are kept."""
    rows: QuerySet[UserDay] | QuerySet[UsageHour]
    if budget.scope == Scope.USER:
        field, rows = "user", UserDay.objects.all()
    else:
        field, rows = FIELDS.get(Scope(budget.scope), ""), UsageHour.objects.all()
    rows = rows.filter(tenant=budget.tenant, starts_at__gte=since)
    if field:
        rows = rows.filter(**{field: budget.subject} if budget.subject else {f"{field}__gt": ""})
    grouped = rows.order_by("starts_at").values_list("starts_at", *((field,) if field else ()))
    sums = grouped.annotate(cost=Sum("cost_nano_usd"), made=Sum("calls"))
    return [_Slice(row[0], str(row[1] or "") if field else "", int(row[-2]), int(row[-1])) for row in sums]


def _above(budget: Budget, slices: Iterable[_Slice], *, zone: ZoneInfo) -> int:
    """How many calls began in a piece before which the limit of their window was spent."""
    spent: dict[tuple[str, dt.datetime], int] = {}
    above = 0
    for one in slices:
        window = (one.whose, window_of(budget.period, one.starts_at, zone=zone)[0])
        before = spent.get(window, 0)
        if before + one.cost > budget.limit_nano_usd:
            # Of the piece in which it runs out, the share that was beyond it.
            beyond = one.cost if before >= budget.limit_nano_usd else before + one.cost - budget.limit_nano_usd
            above += -(-one.calls * beyond // one.cost) if one.cost > 0 else 0
        spent[window] = before + one.cost
    return above


def _fastest(slices: Iterable[_Slice]) -> int:
    """What the one spent that spent most: of a budget for each, the first to run out."""
    spent: dict[str, int] = {}
    for one in slices:
        spent[one.whose] = spent.get(one.whose, 0) + one.cost
    return max(spent.values(), default=0)


def _exhausted_at(left: int, pace: int, *, now: dt.datetime, ends_at: dt.datetime | None) -> dt.datetime | None:
    if left <= 0:
        return now
    if pace <= 0:
        return None
    span = LOOKED_BACK // MICROSECOND
    farthest = (ends_at - now if ends_at is not None else dt.timedelta(days=3650)) // MICROSECOND
    needed = left * span // pace
    return now + needed * MICROSECOND if needed < farthest else None
