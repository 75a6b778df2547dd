"""A statement's lines added up by one thing: what fits on paper, and on a page of the admin."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Sum

from billing.models import LineKind, Statement

MOST_ROWS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One group's sums; `name` is "Others" for all beyond the dearest."""

    name: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost_nano_usd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """Rows that add up to the usage on the statement, the dearest first."""

    title: str
    rows: list[Row]


def breakdowns(statement: Statement) -> list[Breakdown]:
    """Usage by model and provider, by project, and by user; those that say something. One query each."""
    found = (
        Breakdown(title="By model", rows=_rows(statement, "model", "provider", nameless="no model")),
        Breakdown(title="By project", rows=_rows(statement, "project", nameless="no project")),
        Breakdown(title="By user", rows=_rows(statement, "user", nameless="no user")),
    )
    return [one for one in found if one.rows]


def other_lines(statement: Statement) -> list[tuple[str, str, int]]:
    """Adjustments, corrections and credits: what they are about, why, and how much. One query."""
    lines = statement.lines.exclude(kind=LineKind.USAGE).order_by("position")
    return [
        (_about(line.get_kind_display(), line.project, line.model), line.reason, line.cost_nano_usd) for line in lines
    ]


def _about(kind: str, *names: str) -> str:
    named = ", ".join(name for name in names if name)
    return f"{kind}: {named}" if named else kind


def _rows(statement: Statement, *fields: str, nameless: str) -> list[Row]:
    sums = ("calls", "input_tokens", "output_tokens", "cost_nano_usd")
    groups = (
        statement.lines.filter(kind=LineKind.USAGE)
        .values(*fields)
        .annotate(**{f"sum_{name}": Sum(name) for name in sums})
        .order_by("-sum_cost_nano_usd", *fields)
    )
    rows = [
        Row(
            name=" at ".join(group[field] for field in fields if group[field]) or nameless,
            **{name: int(group[f"sum_{name}"]) for name in sums},
        )
        for group in groups
    ]
    if len(rows) <= MOST_ROWS:
        return rows
    rest = rows[MOST_ROWS - 1 :]
    folded = {name: sum(getattr(row, name) for row in rest) for name in sums}
    return [*rows[: MOST_ROWS - 1], Row(name=f"{len(rest):,} others", **folded)]
