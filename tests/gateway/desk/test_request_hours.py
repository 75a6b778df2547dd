"""Requests added up by the hour, by the statement that logs them."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.utils import timezone

from gateway.desk.request_hours import (
    EDGES_MS,
    HOURS_KEPT,
    RequestHour,
    RequestSums,
    bucket_of,
    edges_of,
    prune_hours,
    sum_requests,
)
from gateway.models import RequestRecord
from tests.factories import make_key, make_tenant


def test_hours_have_the_log_to_the_row(db: None) -> None:
    now = timezone.now().replace(minute=30, second=0, microsecond=0)
    key, _ = make_key(make_tenant())
    latencies = [0, 1, 2, 3, 100, 999, 60_000, 10_000_000]
    rows = [
        RequestRecord(
            tenant=key.tenant, api_key=key, request_id=f"r{number}", created_at=now - dt.timedelta(hours=number % 2),
            operation="chat", requested_model="m", status=200, stream=False, latency_ms=latency, upstream_ms=0,
            skipped=[], attempts=[],
        )
        for number, latency in enumerate(latencies)
    ]  # fmt: skip
    rows.append(RequestRecord(**{**_told(rows[0]), "operation": "realtime", "latency_ms": 3_600_000, "status": 101}))
    RequestRecord.objects.bulk_create(rows)
    sums = sum_requests(now - dt.timedelta(hours=3))
    assert (sums.calls, sums.failed, sums.refused) == (len(rows), 0, 0)
    expected: dict[int, int] = {}
    for latency in latencies:
        expected[bucket_of(latency)] = expected.get(bucket_of(latency), 0) + 1
    assert sums.latencies == expected, "the database and Python agree on every bucket"
    for latency in (0, 1, 17, 950, 599_999):
        low, high = edges_of(bucket_of(latency))
        assert low <= latency < high and (high <= 1.35 * low or high <= 10)
    assert len(EDGES_MS) < 80


def _told(row: RequestRecord) -> dict[str, Any]:
    names = [field.attname for field in RequestRecord._meta.concrete_fields if field.attname != "id"]
    return {name: getattr(row, name) for name in names}


def test_percentiles_are_a_tenth_off_at_most() -> None:
    sums = RequestSums()
    assert sums.percentile_ms(95) is None
    for latency in range(1, 1001):
        bucket = bucket_of(latency)
        sums.latencies[bucket] = sums.latencies.get(bucket, 0) + 1
    for percent in (1, 50, 95, 99, 100):
        found = sums.percentile_ms(percent)
        assert found is not None and abs(found - 10 * percent) <= percent + 1


def test_old_hours_go(db: None) -> None:
    for age in (HOURS_KEPT - dt.timedelta(days=1), HOURS_KEPT + dt.timedelta(days=1)):
        moment = timezone.now() - age
        RequestHour.objects.create(starts_at=moment, latency_bucket=1, calls=1, failed=0, refused=0, fell_back=0)
    assert prune_hours() == 1
    assert RequestHour.objects.count() == 1
