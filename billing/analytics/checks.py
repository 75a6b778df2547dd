"""Whether the sums of analytics are those of the ledger's own buckets; days that are not are summed anew."""

from __future__ import annotations

import datetime as dt

from django.db.models import F, Sum
from django.utils import timezone

from billing.analytics.roll_up import rebuild_day
from billing.models import AnalyticsDay, AnalyticsHour, AnalyticsProgress, AnalyticsUserDay, UsageDay
from billing.retention import usage_months

DAY = dt.timedelta(days=1)
CHECKED = dt.timedelta(days=7)
"""The days each night looks at again."""
HOURS_KEPT = dt.timedelta(days=100)
"""Somewhat longer than the longest range that can be asked for by the hour, or in a tenant's own days."""


def differing_days(days: dt.timedelta = CHECKED) -> list[dt.datetime]:
    """The whole days of UTC, of the last so many, whose calls or cost are not those of `UsageDay`. Two queries.

    An entry that was committed later than the cursor allows for shows up here.
    """
    progress = AnalyticsProgress.objects.first()
    if progress is None:
        return []
    start = _midnight(max(timezone.now() - days, progress.first_at))
    span = {"starts_at__gte": start, "starts_at__lt": _midnight(progress.through)}
    kept = AnalyticsDay.objects.filter(**span).values("starts_at")
    ours = kept.annotate(made=Sum("calls"), cost=Sum(F("known_nano_usd") + F("estimated_nano_usd")))
    theirs = UsageDay.objects.filter(**span).values("starts_at").annotate(made=Sum("calls"), cost=Sum("cost_nano_usd"))
    mine = {row["starts_at"]: (row["made"], row["cost"]) for row in ours}
    books = {row["starts_at"]: (row["made"], row["cost"]) for row in theirs}
    nothing = (0, 0)
    return sorted(day for day in {*mine, *books} if mine.get(day, nothing) != books.get(day, nothing))


def repair_analytics() -> int:
    """Sum the days anew that differ, as far as their charges are still there; returns how many."""
    months = usage_months()
    oldest = months[0].starts_at if months else timezone.now()
    return sum(rebuild_day(day) for day in differing_days() if day >= oldest)


def prune_analytics() -> int:
    """Delete hours that nobody can ask for, and the users of months whose charges are gone; returns how many rows."""
    months = usage_months()
    pruned, _ = AnalyticsHour.objects.filter(starts_at__lt=timezone.now() - HOURS_KEPT).delete()
    if months:
        pruned += AnalyticsUserDay.objects.filter(starts_at__lt=months[0].starts_at).delete()[0]
    return pruned


def _midnight(moment: dt.datetime) -> dt.datetime:
    return moment.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
