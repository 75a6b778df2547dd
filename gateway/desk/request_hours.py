"""How requests went, added up by the hour: counts and latencies of everything the request log has.

The database adds each batch of the log to its hours in the statement that writes it (migration 0013), so that every
process is counted, nothing is added to a request's path, and sums are right to the last half second. Latencies are
counted by buckets whose edges rise by a fifth: a percentile read from them is at most a tenth off, over any range.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import models
from django.db.models import Sum
from django.utils import timezone

STEP = 1.2
LONGEST_MS = 600_000


def _edges() -> tuple[int, ...]:
    edges, edge = [1], 1.0
    while edges[-1] < LONGEST_MS:
        edge *= STEP
        if round(edge) > edges[-1]:
            edges.append(round(edge))
    return tuple(edges)


EDGES_MS = _edges()
"""Bucket n holds what took at least edge n - 1 and less than edge n. Migration 0013 has these figures too."""

NO_LATENCY = -1
"""The bucket of voice sessions: how long somebody talked is no latency."""

HOURS_KEPT = dt.timedelta(days=400)


class RequestHour(models.Model):
    """The requests of one hour (UTC) that took about as long."""

    starts_at = models.DateTimeField()
    latency_bucket = models.SmallIntegerField()
    calls = models.BigIntegerField()
    failed = models.BigIntegerField(help_text="Answered with 500 or more, or broken in mid-stream.")
    refused = models.BigIntegerField(help_text="Answered with 400 to 498.")
    fell_back = models.BigIntegerField(help_text="For which more than one deployment was asked.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["starts_at", "latency_bucket"], name="request_hour_once"),
        ]

    def __str__(self) -> str:
        return f"{self.starts_at:%Y-%m-%d %H}:00"


@dataclass(slots=True)
class RequestSums:
    """What some hours come to."""

    calls: int = 0
    failed: int = 0
    refused: int = 0
    fell_back: int = 0
    latencies: dict[int, int] = field(default_factory=dict)
    """Calls by bucket, voice sessions left out."""

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one bucket's sums."""
        for name in ("calls", "failed", "refused", "fell_back"):
            setattr(self, name, getattr(self, name) + row[name])
        bucket = row["latency_bucket"]
        if bucket != NO_LATENCY:
            self.latencies[bucket] = self.latencies.get(bucket, 0) + row["calls"]

    def percentile_ms(self, percent: int) -> int | None:
        """The latency that so many of a hundred calls do not exceed, in ms; None where nothing was asked."""
        total = sum(self.latencies.values())
        if not total:
            return None
        wanted, passed = total * percent / 100, 0
        for bucket in sorted(self.latencies):
            count = self.latencies[bucket]
            if passed + count >= wanted:
                low, high = edges_of(bucket)
                return round(low + (high - low) * (wanted - passed) / count)
            passed += count
        return EDGES_MS[-1]


def bucket_of(latency_ms: int) -> int:
    """Where a latency is counted."""
    return bisect_left(EDGES_MS, latency_ms + 1)


def edges_of(bucket: int) -> tuple[int, int]:
    """From and to how many ms a bucket goes; the last one is taken to end where it begins."""
    low = EDGES_MS[bucket - 1] if bucket else 0
    return low, EDGES_MS[min(bucket, len(EDGES_MS) - 1)]


def sum_requests(start: dt.datetime) -> RequestSums:
    """Everything from the hour that begins at `start` until now. One query over a row for each hour and bucket."""
    sums = RequestSums()
    rows = RequestHour.objects.filter(starts_at__gte=start).values("latency_bucket")
    for row in rows.annotate(**_SUMS).order_by():
        sums.add(row)
    return sums


def sums_by(start: dt.datetime, starts: Iterable[dt.datetime]) -> dict[dt.datetime, RequestSums]:
    """The same for each stretch that begins at one of `starts`, in their order. One query."""
    order = list(starts)
    found = {moment: RequestSums() for moment in order}
    rows = RequestHour.objects.filter(starts_at__gte=start).values("starts_at", "latency_bucket", *_SUMS)
    for row in rows:
        place = bisect_left(order, row["starts_at"] + dt.timedelta(microseconds=1)) - 1
        if place >= 0:
            found[order[place]].add(row)
    return found


_SUMS = {name: Sum(name) for name in ("calls", "failed", "refused", "fell_back")}


def prune_hours() -> int:
    """Delete the hours that are older than `HOURS_KEPT`; returns how many rows."""
    return RequestHour.objects.filter(starts_at__lt=timezone.now() - HOURS_KEPT).delete()[0]
