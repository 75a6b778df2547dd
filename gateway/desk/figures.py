"""The figures at the head of the operators' home: what is spent and how requests go, each with its window.

They are read from sums that are kept with every entry, never from usage: as many rows as there are hours and buckets.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.db.models import Count, Sum
from django.urls import reverse
from django.utils import timezone

from billing.models import Budget, Period, Scope
from billing.money import usd
from billing.usage_sums import Stretch, UsageSums, sum_usage
from gateway.caching.models import CacheDay
from gateway.desk.kept import kept
from gateway.desk.request_hours import RequestSums, sum_requests

NBSP = "\N{NO-BREAK SPACE}"
WINDOW = dt.timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure: its name, its text with the unit, what else is to be said, and the page with what is behind it."""

    key: str
    title: str
    text: str
    remark: str
    link: str
    is_bad: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgeted:
    """What tenants may spend in a month in all, and how many of them have such a limit."""

    limit_nano_usd: int
    tenants: int


def home_figures(now: dt.datetime) -> list[Figure]:
    """All of them. At most five queries; what is spent today and how requests went is read anew each time."""
    midnight = midnight_of(now)
    return [*_money(now, midnight), *_traffic(now), _cache(midnight)]


def midnight_of(moment: dt.datetime) -> dt.datetime:
    """Where its day began, UTC."""
    return moment.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def day_ago(now: dt.datetime) -> dt.datetime:
    """Where the window of requests begins: at a whole hour, so that nothing but sums is read."""
    return (now - WINDOW).astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)


def _money(now: dt.datetime, midnight: dt.datetime) -> list[Figure]:
    today = sum_usage(Stretch(start=midnight))
    month = today + _month_before(midnight)
    budgeted = kept("budgeted", _budgeted)
    usage = reverse("admin:billing_usagerecord_changelist")
    unpriced = f", {month.unpriced_calls:,} calls of unknown cost" if month.unpriced_calls else ""
    return [
        Figure(
            key="spent_today",
            title="Spent today",
            text=f"{usd(today.cost_nano_usd)} USD",
            remark=f"{today.calls:,} charges since 00:00 UTC",
            link=f"{usage}?created_at_from={midnight:%Y-%m-%d}",
        ),
        Figure(
            key="spent_month",
            title="Spent this month",
            text=f"{usd(month.cost_nano_usd)} USD",
            remark=f"{month.calls:,} charges since {midnight:%Y-%m}-01{unpriced}",
            link=f"{usage}?created_at_from={midnight:%Y-%m}-01",
            is_bad=bool(unpriced),
        ),
        Figure(
            key="budgeted",
            title="Of the monthly budgets",
            text=_share(month.cost_nano_usd, budgeted.limit_nano_usd),
            remark=f"{usd(budgeted.limit_nano_usd)} USD for {budgeted.tenants:,} tenants, all spending counted",
            link=f"{reverse('admin:billing_budget_changelist')}?scope__exact=tenant&period__exact=month",
            is_bad=month.cost_nano_usd > budgeted.limit_nano_usd > 0,
        ),
    ]


def _month_before(midnight: dt.datetime) -> UsageSums:
    """What the month came to before today: nothing is posted there any more."""
    first = midnight.replace(day=1)
    if first == midnight:
        return UsageSums()
    return kept(f"month:{midnight:%Y-%m-%d}", lambda: sum_usage(Stretch(start=first, end=midnight)), seconds=600)


def _budgeted() -> Budgeted:
    rows = Budget.objects.filter(scope=Scope.TENANT, period=Period.MONTH, enabled=True)
    sums = rows.aggregate(limit=Sum("limit_nano_usd"), tenants=Count("tenant", distinct=True))
    return Budgeted(limit_nano_usd=int(sums["limit"] or 0), tenants=sums["tenants"])


def _traffic(now: dt.datetime) -> list[Figure]:
    start = day_ago(now)
    sums = sum_requests(start)
    since = f"since {start:%Y-%m-%d %H:%M} UTC"
    requests = reverse("admin:gateway_requestrecord_changelist")
    window = f"created_at_from={start:%Y-%m-%d}"
    return [
        Figure(
            key="requests",
            title="Requests",
            text=f"{sums.calls:,}",
            remark=f"{sums.refused:,} refused, {since}",
            link=f"{requests}?{window}",
        ),
        Figure(
            key="errors",
            title="Errors",
            text=_share(sums.failed, sums.calls),
            remark=f"{sums.failed:,} failed, {since}",
            link=f"{requests}?{window}&end=failed",
            is_bad=sums.failed * 100 > sums.calls,
        ),
        Figure(
            key="fallbacks",
            title="Fallbacks",
            text=_share(sums.fell_back, sums.calls),
            remark=f"{sums.fell_back:,} asked a second deployment, {since}",
            link=reverse("admin:providers_deployment_changelist"),
        ),
        Figure(
            key="latency",
            title="Latency p50 / p95 / p99",
            text=" / ".join(_seconds(sums, percent) for percent in (50, 95, 99)),
            remark=f"to the end of the answer, {since}",
            link=f"{requests}?{window}",
        ),
    ]


def _cache(midnight: dt.datetime) -> Figure:
    first = midnight.replace(day=1).date()
    hits, misses, saved = kept("cache", lambda: _cached(first))
    return Figure(
        key="cache",
        title="Saved by the cache",
        text=f"{usd(saved)} USD",
        remark=f"{_share(hits, hits + misses)} of {hits + misses:,} calls that may, since {first}",
        link=reverse("admin:gateway_cacherule_changelist"),
    )


def _cached(first: dt.date) -> tuple[int, int, int]:
    sums = CacheDay.objects.filter(day__gte=first).aggregate(Sum("hits"), Sum("misses"), Sum("saved_nano_usd"))
    return tuple(int(sums[f"{name}__sum"] or 0) for name in ("hits", "misses", "saved_nano_usd"))  # type: ignore[return-value]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "nothing yet"


def _seconds(sums: RequestSums, percent: int) -> str:
    found = sums.percentile_ms(percent)
    if found is None:
        return "-"
    return f"{found}{NBSP}ms" if found < 1000 else f"{found / 1000:.1f}{NBSP}s"


def through(now: dt.datetime | None = None) -> str:
    """The label of a figure's age: everything that was posted or logged before is in it."""
    return f"data through {(now or timezone.now()).astimezone(dt.UTC):%H:%M:%S} UTC"
