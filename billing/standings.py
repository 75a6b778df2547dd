"""How budgets stand now: what is spent and held in the periods under way, and when the money ends at this pace."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from django.db.models import (
    BigIntegerField,
    Count,
    DurationField,
    ExpressionWrapper,
    F,
    FloatField,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Sum,
    Value,
    Window,
)
from django.db.models.functions import Cast, Coalesce, Extract, Greatest

from billing.budgets import window_of
from billing.models import Budget, BudgetOverride, BudgetWindow

LEAST_PERCENT = 5
"""Less spent of a limit is no reason to warn: a month's first calls would spend it within the day at their pace.

A warning of what ends within a week comes at most eight hours later for it.
"""
FARTHEST_FORECAST = dt.timedelta(days=3650)
MICROSECOND = dt.timedelta(microseconds=1)
USED = F("spent_nano_usd") + F("reserved_nano_usd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One window of a budget, or the empty one of a period in which nothing was asked yet."""

    subject: str
    limit_nano_usd: int
    """With the extras in force."""
    spent_nano_usd: int
    reserved_nano_usd: int
    starts_at: dt.datetime
    ends_at: dt.datetime | None
    counted_from: dt.datetime
    """When the budget began to count in this window: a budget does not know what was spent before it was made."""
    windows: int = 1
    """How many windows the budget has in this period, this one the fullest."""

    @property
    def remaining_nano_usd(self) -> int:
        """What a further call may need at most; nothing when the limit was lowered below its use."""
        return max(self.limit_nano_usd - self.spent_nano_usd - self.reserved_nano_usd, 0)

    @property
    def percent(self) -> int:
        """How much of the limit is spent, rounded down: 100 says that it is all gone."""
        return self.spent_nano_usd * 100 // self.limit_nano_usd if self.limit_nano_usd else 100

    def exhausted_at(self, now: dt.datetime) -> dt.datetime | None:
        """When the limit will be spent if money goes on going as it has so far.

        None when that is not before the period ends, or not within ten years. A window that is spent is so by now.
        """
        left = self.limit_nano_usd - self.spent_nano_usd
        if left <= 0:
            return now
        elapsed = (now - self.counted_from) // MICROSECOND
        farthest = (self.ends_at - now if self.ends_at else FARTHEST_FORECAST) // MICROSECOND
        # In whole numbers: a timedelta overflows when multiplied by nano-USD.
        if left * elapsed >= farthest * self.spent_nano_usd:
            return None
        return now + left * elapsed // self.spent_nano_usd * MICROSECOND


def with_extras(budgets: QuerySet[Budget], now: dt.datetime) -> QuerySet[Budget]:
    """The budgets with what their unexpired overrides add, as `extra_nano_usd`."""
    in_force = BudgetOverride.objects.filter(budget=OuterRef("pk"), expires_at__gt=now).order_by().values("budget")
    # A sum of bigints is a numeric.
    total = in_force.annotate(total=Cast(Sum("extra_nano_usd"), BigIntegerField())).values("total")
    return budgets.annotate(extra_nano_usd=Coalesce(Subquery(total, output_field=BigIntegerField()), 0))


def windows_now(budgets: Iterable[Budget], now: dt.datetime) -> QuerySet[BudgetWindow]:
    """The windows that these budgets are spent from now; their tenants should be loaded with them."""
    begun: dict[dt.datetime, list[int]] = defaultdict(list)
    for budget in budgets:
        begun[_period_now(budget, now)[0]].append(budget.pk)
    under_way = Q(pk__in=())
    for starts_at, ids in begun.items():
        under_way |= Q(starts_at=starts_at, budget_id__in=ids)
    return BudgetWindow.objects.filter(under_way)


def fullest_standings(budgets: Iterable[Budget], now: dt.datetime) -> dict[int, Standing]:
    """For each budget, by id, its window with the most spent and held. One query; budgets come from `with_extras`."""
    budgets = list(budgets)
    fullest = (
        windows_now(budgets, now)
        .annotate(windows=Window(Count("pk"), partition_by=[F("budget_id")]))
        .order_by("budget_id", USED.desc(), "pk")
        .distinct("budget_id")
    )
    found = {window.budget_id: window for window in fullest}
    return {budget.pk: standing_of(budget, found.get(budget.pk), now=now) for budget in budgets}


def standings_of(budget: Budget, now: dt.datetime, *, most: int) -> list[Standing]:
    """A budget's windows, the fullest first, at most so many; the empty one when there is none yet. One query."""
    windows = windows_now([budget], now).annotate(windows=Window(Count("pk"))).order_by(USED.desc(), "pk")[:most]
    return [standing_of(budget, window, now=now) for window in windows] or [standing_of(budget, None, now=now)]


def standing_of(budget: Budget, window: BudgetWindow | None, *, now: dt.datetime, subject: str = "") -> Standing:
    """How a window of a budget stands; without a window, how a subject does that has spent nothing."""
    starts_at, ends_at = _period_now(budget, now)
    return Standing(
        subject=window.subject if window else subject or budget.subject,
        limit_nano_usd=budget.limit_nano_usd + budget.extra_nano_usd,  # type: ignore[attr-defined]
        spent_nano_usd=window.spent_nano_usd if window else 0,
        reserved_nano_usd=window.reserved_nano_usd if window else 0,
        starts_at=starts_at,
        ends_at=ends_at,
        counted_from=max(starts_at, budget.created_at),
        windows=getattr(window, "windows", 1) if window else 0,
    )


def running_out(now: dt.datetime, *, within: dt.timedelta, most: int) -> list[tuple[Budget, Standing]]:
    """The budgets that are spent, or will be within so long at the pace of their period, the nearest first.

    Two queries: the database leaves out what is not on its way to its limit, extras aside, and gives the `most` worst.
    """
    counted_from = Greatest("starts_at", "budget__created_at")
    elapsed = Extract(ExpressionWrapper(Value(now) - counted_from, DurationField()), "epoch")
    pace = Cast("spent_nano_usd", FloatField()) / Greatest(Cast(elapsed, FloatField()), Value(1.0))
    windows = (
        BudgetWindow.objects.filter(Q(ends_at__gt=now) | Q(ends_at=None), starts_at__lte=now, budget__enabled=True)
        .filter(budget__limit_nano_usd__gt=0)  # a limit of nothing is meant to refuse
        .annotate(expected=F("spent_nano_usd") + pace * within.total_seconds())
        .filter(
            expected__gte=F("budget__limit_nano_usd"),
            spent_nano_usd__gte=F("budget__limit_nano_usd") / 100 * LEAST_PERCENT,
        )
        .order_by(F("expected") / F("budget__limit_nano_usd"))
        .reverse()[:most]
    )
    found = list(windows)
    budgets = with_extras(Budget.objects.filter(pk__in={window.budget_id for window in found}), now)
    by_id = {budget.pk: budget for budget in budgets.select_related("tenant")}
    ends: list[tuple[dt.datetime, Budget, Standing]] = []
    for window in found:
        budget = by_id[window.budget_id]
        standing = standing_of(budget, window, now=now)
        end = standing.exhausted_at(now)
        if end is not None and end <= now + within:
            ends.append((end, budget, standing))
    return [(budget, standing) for _, budget, standing in sorted(ends, key=lambda each: (each[0], each[1].pk))]


def _period_now(budget: Budget, now: dt.datetime) -> tuple[dt.datetime, dt.datetime | None]:
    return window_of(budget.period, now, zone=ZoneInfo(budget.tenant.timezone))
