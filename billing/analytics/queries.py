"""What analytics answers: measures by one dimension over a stretch of time, from sums alone.

What a question reads grows with time, keys and models, and not with calls. Days of UTC have buckets of their own; the
days of another zone are made of hours.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection

from billing.analytics.latency import COLUMNS, percentile_ms
from billing.analytics.roll_up import SUMS
from billing.models import AnalyticsProgress

DIMENSIONS = {
    "tenant": "tenant_id", "project": "project_id", "user": '"user"', "key": "api_key_id", "model": "model_name",
    "provider": "provider_name", "agent_type": "agent_type",
}  # fmt: skip
"""What usage may be grouped and narrowed by, and its column."""

BY_USER = frozenset({"tenant", "user"})
"""The only dimensions where users are asked for."""

UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class Measured:
    """What some usage came to."""

    calls: int = 0
    failed_calls: int = 0
    voided_calls: int = 0
    cache_hits: int = 0
    unknown_cost_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    known_nano_usd: int = 0
    estimated_nano_usd: int = 0
    latencies: Sequence[int] = ()

    @property
    def errors(self) -> int:
        """Calls to a provider that failed, charged or not."""
        return self.failed_calls + self.voided_calls

    @property
    def cost_nano_usd(self) -> int:
        return self.known_nano_usd + self.estimated_nano_usd

    def latency_ms(self, share: float) -> int | None:
        """The latency that this share of calls did not exceed; None where nothing was called."""
        return percentile_ms(self.latencies, share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A stretch of time, from `start` to before `end`, in buckets, and what is left of the usage in it.

    `narrow` has the values of dimensions to keep: ids of tenants, projects and keys, names of the others.
    """

    start: dt.datetime
    end: dt.datetime
    group_by: str
    step: str = "day"
    """`day` or `hour`, of `zone`."""
    zone: ZoneInfo = UTC
    narrow: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def of_users(self) -> bool:
        return self.group_by == "user" or "user" in self.narrow

    def moments(self) -> Iterator[dt.datetime]:
        """Where the buckets begin, UTC."""
        at = self.start
        while at < self.end:
            yield at
            at = _next_day(at, self.zone) if self.step == "day" else at + dt.timedelta(hours=1)

    @property
    def _table(self) -> str:
        if self.of_users:
            return "billing_analyticsuserday"
        return "billing_analyticsday" if self.step == "day" and self.zone.key == "UTC" else "billing_analyticshour"

    def _where(self) -> tuple[str, list[Any]]:
        words = ["starts_at >= %s", "starts_at < %s"]
        values: list[Any] = [self.start, self.end]
        for name, wanted in self.narrow.items():
            words.append(f"{DIMENSIONS[name]} = ANY(%s)")
            values.append(list(wanted))
        return " AND ".join(words), values


def _next_day(moment: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    tomorrow = moment.astimezone(zone).date() + dt.timedelta(days=1)
    return dt.datetime.combine(tomorrow, dt.time(), tzinfo=zone).astimezone(dt.UTC)


EVERYTHING = (*SUMS, *COLUMNS)
"""All columns that are added up."""
ORDERS = {
    **{name: f"sum({name})" for name in SUMS},
    "cost": "sum(known_nano_usd + estimated_nano_usd)",
    "errors": "sum(failed_calls + voided_calls)",
}
"""By which sum groups may be ranked, the greatest first."""


def measure_groups(question: Question, *, order: str, most: int) -> tuple[list[tuple[Any, Measured]], Measured]:
    """The greatest groups, at most so many, and what all groups come to. One query, which reads the buckets once."""
    where, values = question._where()
    sums = ", ".join(f"sum({name}) AS {name}" for name in EVERYTHING)
    again = ", ".join(f"coalesce(sum({name}), 0)" for name in EVERYTHING)
    sql = f"""
        WITH groups AS MATERIALIZED (
            SELECT {DIMENSIONS[question.group_by]} AS name, {ORDERS[order]} AS rank, {sums}
            FROM {question._table} WHERE {where} GROUP BY 1
        ), greatest AS (SELECT * FROM groups ORDER BY rank DESC, name LIMIT {most:d})
        SELECT true, name, {", ".join(EVERYTHING)}, rank FROM greatest
        UNION ALL SELECT false, NULL, {again}, NULL FROM groups ORDER BY 1, {len(EVERYTHING) + 3} DESC, 2
    """  # noqa: S608 -- our own constants
    total, *rows = _rows(sql, values)
    return [(row[1], _measured(EVERYTHING, row[2:-1])) for row in rows], _measured(EVERYTHING, total[2:-1])


def measure_series(
    question: Question, groups: Sequence[Any], *, columns: Sequence[str] = EVERYTHING
) -> dict[tuple[bool, Any], dict[dt.datetime, Measured]]:
    """The buckets of some groups by `(True, group)`, and of all others together by `(False, None)`. One query.

    Only the columns named are added up; the others are 0.
    """
    where, values = question._where()
    column = DIMENSIONS[question.group_by]
    found: dict[tuple[bool, Any], dict[dt.datetime, Measured]] = {}
    named = [group for group in groups if group is not None]
    chosen = f"coalesce({column} = ANY(%s), %s)"
    sums = ", ".join(f"sum({name})" for name in columns)
    sql = (
        f"SELECT {chosen}, CASE WHEN {chosen} THEN {column} END, date_trunc(%s, starts_at, %s), {sums} "  # noqa: S608
        f"FROM {question._table} WHERE {where} GROUP BY 1, 2, 3"
    )
    kept = [named, None in groups]
    for row in _rows(sql, [*kept, *kept, question.step, question.zone.key, *values]):
        found.setdefault((row[0], row[1]), {})[row[2]] = _measured(columns, row[3:])
    return found


def data_through() -> dt.datetime | None:
    """Up to which moment sums have everything; None before the first turn."""
    progress = AnalyticsProgress.objects.first()
    return progress.through if progress else None


def _rows(sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())


def _measured(names: Sequence[str], row: Sequence[Any]) -> Measured:
    figures = dict(zip(names, map(int, row), strict=True))
    sums = {name: figures.get(name, 0) for name in SUMS}
    return Measured(**sums, latencies=tuple(figures.get(name, 0) for name in COLUMNS))
