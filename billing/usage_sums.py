"""What some usage comes to, however much there is: whole days and hours are read from their buckets, the rest from the
ledger's entries. So every sum is exact to the microsecond, and what it reads does not grow with the calls.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection, models
from django.db.models import QuerySet
from django.db.models.functions import TruncDate
from django.utils import timezone

from billing.models import Entry, UsageDay, UsageHour, UserDay
from billing.money import usd

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
BY_DAY = "day"
"""Group by the day in a time zone."""
BY_USER = "user"
FIGURES = (
    "calls", "unpriced_calls", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
    "reasoning_tokens", "cost_nano_usd",
)  # fmt: skip

Narrow = Callable[[QuerySet[Any]], QuerySet[Any]]
"""Chooses among buckets or entries: they have the same columns, but users only where users are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSums:
    """What some usage came to."""

    calls: int = 0
    unpriced_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano_usd: int = 0
    """Charges, adjustments and corrections: where much was credited, less than nothing."""

    def __add__(self, other: UsageSums) -> UsageSums:
        return UsageSums(**{name: getattr(self, name) + getattr(other, name) for name in FIGURES})

    def figures(self) -> list[tuple[str, str]]:
        """What to show people: labels and figures, the cost in USD, exactly."""
        shown = [
            ("Calls", f"{self.calls:,}"),
            ("Tokens in", f"{self.input_tokens:,}"),
            ("Tokens out", f"{self.output_tokens:,}"),
            ("Cost, USD", usd(self.cost_nano_usd)),
        ]
        return [*shown, ("Calls without a price", f"{self.unpriced_calls:,}")] if self.unpriced_calls else shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """From `start` to before `end`; without an end, until now."""

    start: dt.datetime
    end: dt.datetime | None = None


def sum_usage(stretch: Stretch, *, narrow: Narrow = lambda rows: rows) -> UsageSums:
    """Everything added up. One query."""
    return sum((sums for _, sums in group_usage((), stretch, narrow=narrow)), UsageSums())


def group_usage(
    group_by: Sequence[str],
    stretch: Stretch,
    *,
    narrow: Narrow = lambda rows: rows,
    zone: ZoneInfo | None = None,
    most: int | None = None,
) -> list[tuple[tuple[Any, ...], UsageSums]]:
    """Sums by columns that buckets have, in their order, or by `BY_DAY` in a time zone (UTC). One query.

    At most so many groups are read. By `BY_USER` only alone: users have buckets of their own, of days only.
    """
    zone = zone or ZoneInfo("UTC")
    parts = [
        _columns(narrow(model._default_manager.filter(starts_at__gte=start, starts_at__lt=end)), group_by, zone=zone)
        for model, start, end in _sources(group_by, stretch, zone=zone)
    ]
    if not parts:
        return []
    union = parts[0].union(*parts[1:], all=True) if len(parts) > 1 else parts[0]
    entries, parameters = union.query.sql_with_params()
    names = [f"group_{place}" for place in range(len(group_by))]
    places = ", ".join(str(place + 1) for place in range(len(group_by)))
    sums = ", ".join(f"coalesce(sum({name}), 0)" for name in FIGURES)
    ordered = f"GROUP BY {places} ORDER BY {places}" if group_by else ""
    limited = f"LIMIT {int(most)}" if most is not None else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {', '.join([*names, sums])} FROM ({entries}) AS entry ({', '.join([*names, *FIGURES])}) "  # noqa: S608 -- names of our own
            f"{ordered} {limited}",
            parameters,
        )
        rows = cursor.fetchall()
    return [(tuple(row[: len(names)]), _sums(row[len(names) :])) for row in rows]


def _sums(row: Sequence[Any]) -> UsageSums:
    return UsageSums(**{name: int(figure) for name, figure in zip(FIGURES, row, strict=True)})


def _columns(rows: QuerySet[Any], group_by: Sequence[str], *, zone: ZoneInfo) -> QuerySet[Any]:
    if BY_DAY in group_by:
        rows = rows.annotate(day=TruncDate("starts_at", tzinfo=zone))
    return rows.order_by().values_list(*group_by, *FIGURES)


# Which buckets a stretch is made of ---------------------------------------------------------------------------------
Span = tuple[dt.datetime, dt.datetime]


def _sources(
    group_by: Sequence[str], stretch: Stretch, *, zone: ZoneInfo
) -> Iterator[tuple[type[models.Model], dt.datetime, dt.datetime]]:
    """What to add up from which table: together the spans are the stretch, without overlap.

    Each is a part of the query by itself: with 90 spans in one condition the planner reads what lies between them too.
    """
    # Nothing is posted after now, so today's buckets hold what there is until now.
    end = stretch.end or _ceiling(timezone.now(), DAY)
    cuts = [stretch.start, *(_midnights(stretch.start, end, zone=zone) if BY_DAY in group_by else ()), end]
    spans: dict[type[models.Model], list[Span]] = {}
    by_user = BY_USER in group_by
    for start, until in itertools.pairwise(cuts):
        for model, span in _pieces(start, until, by_user=by_user):
            spans.setdefault(model, []).append(span)
    return ((model, *span) for model, found in spans.items() for span in _joined(found))


def _pieces(start: dt.datetime, end: dt.datetime, *, by_user: bool) -> Iterator[tuple[type[models.Model], Span]]:
    """A stretch as whole days, whole hours beside them, and what is left at its ends."""
    levels: list[tuple[type[models.Model], dt.timedelta | None]] = (
        [(UserDay, DAY), (Entry, None)] if by_user else [(UsageDay, DAY), (UsageHour, HOUR), (Entry, None)]
    )
    left = [(start, end)]
    for model, length in levels:
        rest: list[Span] = []
        for lower, upper in left:
            first = _ceiling(lower, length) if length else lower
            last = _floor(upper, length) if length else upper
            if first < last:
                yield model, (first, last)
                rest += [(lower, first), (last, upper)]
            else:
                rest.append((lower, upper))
        left = [(lower, upper) for lower, upper in rest if lower < upper]
        if length is None:
            return


def _midnights(start: dt.datetime, end: dt.datetime, *, zone: ZoneInfo) -> Iterator[dt.datetime]:
    """The local midnights between two moments: where they are not on the hour, a bucket has some of both days."""
    day = start.astimezone(zone).date() + DAY
    while (midnight := dt.datetime.combine(day, dt.time(), tzinfo=zone).astimezone(dt.UTC)) < end:
        if midnight > start:
            yield midnight
        day += DAY


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Spans that touch, as one."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _floor(moment: dt.datetime, length: dt.timedelta) -> dt.datetime:
    return moment - (moment - dt.datetime(2000, 1, 1, tzinfo=dt.UTC)) % length


def _ceiling(moment: dt.datetime, length: dt.timedelta) -> dt.datetime:
    floor = _floor(moment, length)
    return floor if floor == moment else floor + length
