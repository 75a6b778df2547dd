"""The charts of the operators' home over a chosen range: who spends, on what, and how requests go."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import connection
from django.utils.safestring import SafeString

from billing.money import NANO_PER_USD
from gateway.desk import charts
from gateway.desk.figures import midnight_of
from gateway.desk.request_hours import RequestSums, sums_by
from tenants.models import Tenant

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)

SPENT = """
SELECT starts_at, tenant_id, model_name, provider_name, grouping(tenant_id, model_name, provider_name),
    sum(cost_nano_usd)
FROM {table} WHERE starts_at >= %s
GROUP BY GROUPING SETS ((starts_at, tenant_id), (starts_at, model_name), (starts_at, provider_name))
"""
"""One look at the buckets for all three. What `grouping` gives has a bit for each column that is not grouped by."""

DIMENSIONS = {0b011: ("tenant", 1), 0b101: ("model", 2), 0b110: ("provider", 3)}
NO_CHARGE = "no charge"
"""What an adjustment is about that corrects none."""


@dataclass(frozen=True, slots=True)
class Range:
    """A choice: its name in the address, its words, how long it is and by what it is drawn."""

    name: str
    words: str
    length: dt.timedelta
    step: dt.timedelta

    def starts(self, now: dt.datetime) -> list[dt.datetime]:
        """Where each bar begins, the last one the hour or day under way."""
        last = midnight_of(now)
        if self.step == HOUR:
            last = now.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)
        count = self.length // self.step
        return [last - self.step * back for back in range(count - 1, -1, -1)]

    def label(self, start: dt.datetime) -> str:
        return f"{start:%H:%M}" if self.step == HOUR else f"{start:%b} {start.day}"


RANGES = {
    each.name: each
    for each in (
        Range("24h", "24 hours", 24 * HOUR, HOUR),
        Range("7d", "7 days", 7 * DAY, DAY),
        Range("30d", "30 days", 30 * DAY, DAY),
    )
}
USUAL = "24h"


def panels(chosen: Range, now: dt.datetime) -> list[SafeString]:
    """Five charts: three queries."""
    starts = chosen.starts(now)
    labels = [chosen.label(start) for start in starts]
    spent = _spent(chosen, starts)
    drawn = [
        charts.stacked_bars(f"Spent by {name}, {chosen.words}", labels, series=spent[name], unit="USD")
        for name in ("tenant", "model", "provider")
    ]
    sums = sums_by(starts[0], starts)
    return [*drawn, *_traffic(chosen, labels, sums=[sums[start] for start in starts])]


def _spent(chosen: Range, starts: list[dt.datetime]) -> dict[str, dict[str, list[Decimal]]]:
    """USD by dimension, then name, then place."""
    places = {start: place for place, start in enumerate(starts)}
    found: dict[str, dict[Any, list[Decimal]]] = {name: {} for name, _ in DIMENSIONS.values()}
    table = "billing_usagehour" if chosen.step == HOUR else "billing_usageday"
    with connection.cursor() as cursor:
        cursor.execute(SPENT.format(table=table), [starts[0]])
        for row in cursor.fetchall():
            name, column = DIMENSIONS[row[4]]
            if (place := places.get(row[0])) is None:
                continue
            series = found[name].setdefault(row[column], [Decimal(0)] * len(starts))
            series[place] += Decimal(row[5]) / NANO_PER_USD
    names: Mapping[Any, str] = dict(Tenant.objects.filter(pk__in=list(found["tenant"])).values_list("pk", "name"))
    named: dict[str, dict[str, list[Decimal]]] = defaultdict(dict)
    for name, series_of in found.items():
        for key, series in series_of.items():
            named[name][str(names.get(key, key) or NO_CHARGE)] = series
    return {name: named[name] for name, _ in DIMENSIONS.values()}


def _traffic(chosen: Range, labels: list[str], *, sums: list[RequestSums]) -> list[SafeString]:
    ends = {
        "answered": [each.calls - each.failed - each.refused for each in sums],
        "refused": [each.refused for each in sums],
        "failed": [each.failed for each in sums],
    }
    latencies = {f"p{percent}": [each.percentile_ms(percent) for each in sums] for percent in (50, 95, 99)}
    return [
        charts.stacked_bars(f"Requests, {chosen.words}", labels, series=ends, unit="requests"),
        charts.lines(f"Latency, {chosen.words}", labels, series=latencies, unit="ms"),
    ]
