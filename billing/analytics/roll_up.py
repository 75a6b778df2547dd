"""Adds what the ledger has posted to the sums of analytics, each entry once, however often it is interrupted.

A cursor moves along the time at which entries were posted, in the transaction that adds them. It stays a minute behind,
as whoever closes a period does: a transaction that began earlier may commit later.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from django.db import connection, transaction
from django.utils import timezone

from billing.analytics.latency import BOUNDS_MS, COLUMNS
from billing.models import AnalyticsProgress
from billing.models.analytics import UNMAPPED
from tenants.models import Tenant

LAG = dt.timedelta(minutes=1)
CHUNK = dt.timedelta(hours=6)
"""What one transaction adds at most, so that much is never lost."""
TURN_SECONDS = 60.0
"""How long a task's turn may take to catch up before it leaves the rest to the next."""

SUMS = (
    "calls", "failed_calls", "voided_calls", "cache_hits", "unknown_cost_calls", "input_tokens", "output_tokens",
    "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "known_nano_usd", "estimated_nano_usd",
)  # fmt: skip
_CUBE = ("tenant_id", "starts_at", "project_id", "api_key_id", "model_name", "provider_name", "agent_type")
_TABLES = (
    ("billing_analyticshour", "date_bin(CASE WHEN tenant_id = ANY(%(odd)s) THEN interval '15 minutes' "
     "ELSE interval '1 hour' END, at, '2000-01-01 00:00Z')", _CUBE),
    ("billing_analyticsday", "date_trunc('day', at, 'UTC')", _CUBE),
    ("billing_analyticsuserday", "date_trunc('day', at, 'UTC')", ("tenant_id", "starts_at", '"user"')),
)  # fmt: skip

_FIRST = """
SELECT least((SELECT min(created_at) FROM billing_usagerecord), (SELECT min(created_at) FROM billing_adjustment),
    (SELECT min(ended_at) FROM billing_attempt WHERE state = 'voided'))
"""
# Agent types and users of voided calls are not in the ledger. A key's project is the one it has now.
_ENTRIES = f"""
SELECT created_at AS at, tenant_id, project_id, api_key_id, model_name, provider_name,
    CASE WHEN agent_type = '' OR agent_type IN (SELECT name FROM providers_agenttype) THEN agent_type
        ELSE '{UNMAPPED}' END AS agent_type,
    "user", 1 AS calls, (ending = 'failed')::int AS failed_calls, 0 AS voided_calls,
    (usage_source = 'cache')::int AS cache_hits,
    (usage_source = 'unknown' OR price_id IS NULL AND usage_source <> 'cache')::int AS unknown_cost_calls,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens,
    CASE WHEN usage_source IN ('provider_final', 'cache') THEN cost_nano_usd ELSE 0 END AS known_nano_usd,
    CASE WHEN usage_source IN ('provider_final', 'cache') THEN 0 ELSE cost_nano_usd END AS estimated_nano_usd,
    width_bucket(latency_ms, ARRAY[{", ".join(map(str, BOUNDS_MS))}]) AS latency
FROM billing_usagerecord WHERE created_at >= %(lower)s AND created_at < %(upper)s
UNION ALL
SELECT created_at, tenant_id, project_id, api_key_id, model_name, provider_name, '', "user",
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, amount_nano_usd, 0, NULL
FROM billing_adjustment WHERE created_at >= %(lower)s AND created_at < %(upper)s
UNION ALL
SELECT ended_at, voided.tenant_id, key.project_id, api_key_id, model_name, provider_name, '', NULL,
    0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL
FROM billing_attempt voided LEFT JOIN tenants_apikey key ON key.id = api_key_id
WHERE state = 'voided' AND ended_at >= %(lower)s AND ended_at < %(upper)s
"""  # noqa: S608 -- our own constants


def _upsert(table: str, starts_at: str, *, key: tuple[str, ...]) -> str:
    places = ", ".join(str(place + 1) for place in range(len(key)))
    latencies = (f"count(*) FILTER (WHERE latency = {place})" for place in range(len(COLUMNS)))
    names = (*SUMS, *COLUMNS)
    added = ", ".join(f"{name} = bucket.{name} + excluded.{name}" for name in names)
    return f"""
        INSERT INTO {table} AS bucket ({", ".join(key)}, {", ".join(names)})
        SELECT {", ".join(starts_at if name == "starts_at" else name for name in key)},
            {", ".join(f"sum({name})" for name in SUMS)}, {", ".join(latencies)}
        FROM entry {'WHERE "user" IS NOT NULL' if '"user"' in key else ""} GROUP BY {places} ORDER BY {places}
        ON CONFLICT ({", ".join(key)}) DO UPDATE SET {added}
    """  # noqa: S608 -- our own constants


_ADD = f"""
WITH entry AS MATERIALIZED ({_ENTRIES}),
    hours AS ({_upsert(*_TABLES[0][:2], key=_TABLES[0][2])}),
    days AS ({_upsert(*_TABLES[1][:2], key=_TABLES[1][2])})
{_upsert(*_TABLES[2][:2], key=_TABLES[2][2])}
"""


@dataclass(frozen=True, slots=True)
class Caught:
    """How far a turn has come, and how far it wanted to."""

    through: dt.datetime
    target: dt.datetime
    first_at: dt.datetime

    @property
    def is_complete(self) -> bool:
        return self.through >= self.target

    @property
    def share(self) -> float:
        """Of the whole time there is usage of, from 0 to 1."""
        whole = self.target - self.first_at
        return min(1.0, (self.through - self.first_at) / whole) if whole else 1.0


def roll_up(
    *, until: dt.datetime | None = None, seconds: float = TURN_SECONDS, say: Callable[[Caught], None] = lambda now: None
) -> Caught | None:
    """Add everything that was posted before `until` (a minute ago), in pieces that are each committed.

    Stops after so many seconds with what is left for the next turn. None where another process is at it.
    """
    target = until or timezone.now() - LAG
    stop_at = time.monotonic() + seconds
    odd = tenants_with_odd_days()
    while True:
        caught = _add_next(target, odd=odd)
        if caught is None:
            return None
        say(caught)
        if caught.is_complete or time.monotonic() >= stop_at:
            return caught


def _add_next(target: dt.datetime, *, odd: list[int]) -> Caught | None:
    with transaction.atomic():
        progress = _claim()
        if progress is None:
            return None
        upper = min(progress.through + CHUNK, target)
        if progress.through < upper:
            _add(progress.through, upper, odd=odd)
            progress.through = upper
            progress.save(update_fields=["through"])
        return Caught(progress.through, target, progress.first_at)


def _claim() -> AnalyticsProgress | None:
    """The cursor, for this transaction alone; None while another has it."""
    if not AnalyticsProgress.objects.exists():
        with connection.cursor() as cursor:
            cursor.execute(_FIRST)
            (first,) = cursor.fetchone()
        start = (first or timezone.now() - LAG).replace(minute=0, second=0, microsecond=0)
        AnalyticsProgress.objects.get_or_create(pk=1, defaults={"through": start, "first_at": start})
    return AnalyticsProgress.objects.select_for_update(skip_locked=True).first()


def _add(lower: dt.datetime, upper: dt.datetime, *, odd: list[int]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_ADD, {"lower": lower, "upper": upper, "odd": odd})


def rebuild_day(day: dt.datetime) -> bool:
    """Sum a day of UTC anew from the ledger, as far as the cursor is. False where another process has the cursor."""
    with transaction.atomic():
        progress = _claim()
        if progress is None:
            return False
        end = min(day + dt.timedelta(days=1), progress.through)
        with connection.cursor() as cursor:
            for table, _, _ in _TABLES:
                cursor.execute(
                    f"DELETE FROM {table} WHERE starts_at >= %s AND starts_at < %s",  # noqa: S608 -- our own constants
                    [day, day + dt.timedelta(days=1)],
                )
        if day < end:
            _add(day, end, odd=tenants_with_odd_days())
    return True


def begin_again() -> None:
    """Forget every sum; the next turn begins with the oldest charge there is."""
    with transaction.atomic(), connection.cursor() as cursor:
        AnalyticsProgress.objects.select_for_update().first()
        cursor.execute("TRUNCATE " + ", ".join(table for table, _, _ in _TABLES))
        AnalyticsProgress.objects.all().delete()


def tenants_with_odd_days() -> list[int]:
    """The tenants whose midnight is not on a whole hour of UTC, at some time of the year."""
    zones = Tenant.objects.exclude(timezone="UTC").values_list("pk", "timezone")
    return [pk for pk, name in zones if _is_odd(name, _seasons())]


def _seasons() -> Iterable[dt.datetime]:
    year = timezone.now().year
    return [dt.datetime(year, month, 1, tzinfo=dt.UTC) for month in (1, 7)]


def _is_odd(zone: str, moments: Iterable[dt.datetime]) -> bool:
    offsets = (moment.astimezone(ZoneInfo(zone)).utcoffset() or dt.timedelta() for moment in moments)
    return any(offset % dt.timedelta(hours=1) for offset in offsets)
