"""Drift as text, as a table, and as a chart whose figures the table has too."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from billing.models import ReconciliationRow, ReconciliationRun
from billing.money import usd
from billing.reconciliation.comparison import Drift

MOST_ROWS = 500
"""On the page. The sums above it are of all rows."""

CHART_HEIGHT = 120
BAR_PITCH = 14


def drift_text(drift: Drift, amount: str) -> str:
    """By how much, and how much that is of ours."""
    if drift.difference == 0:
        return "agrees"
    signed = amount if amount.startswith(("-", "+")) else f"+{amount}"
    return f"{signed} ({_percent(drift)})"


def rows_table(run: ReconciliationRun) -> SafeString:
    """Each day and model: theirs, ours, and the drift of both, marked where it stands out. One query."""
    rows = list(run.rows.all()[: MOST_ROWS + 1])
    body = format_html_join("", "{}", ((_row(row),) for row in rows[:MOST_ROWS]))
    more = format_html("<p>{}</p>", f"The first {MOST_ROWS} rows are shown.") if len(rows) > MOST_ROWS else ""
    return format_html(
        '<table class="figures breakdown"><tr><th>Day</th><th class="words">Model</th><th>Tokens, theirs</th>'
        "<th>ours</th><th>drift</th><th>Cost USD, theirs</th><th>ours</th><th>drift</th></tr>{}</table>{}",
        body,
        more,
    )


def drift_chart(run: ReconciliationRun) -> SafeString:
    """A bar for each day: above the line they charge more than the ledger has, below it less. One query."""
    drifts: dict[dt.date, int] = defaultdict(int)
    for day, theirs, ours in run.rows.values_list("day", "their_cost_nano_usd", "our_cost_nano_usd"):
        drifts[day] += theirs - ours
    largest = max((abs(drift) for drift in drifts.values()), default=0)
    if not largest:
        return format_html("<p>{}</p>", "Every day agrees to the nano-USD.")
    middle = CHART_HEIGHT // 2
    bars = []
    for place, (day, drift) in enumerate(sorted(drifts.items())):
        height = -(-abs(drift) * middle // largest)
        top = middle - height if drift > 0 else middle
        kind = "more" if drift > 0 else "less"
        bars.append((kind, place * BAR_PITCH + 2, top, BAR_PITCH - 4, height, f"{day}: {usd(drift)} USD"))
    width = len(drifts) * BAR_PITCH
    return format_html(
        '<svg class="drift" role="img" aria-label="Cost drift by day; the table below has the figures" '
        'viewBox="0 0 {} {}" width="{}" height="{}">{}<line x1="0" x2="{}" y1="{}" y2="{}"/></svg>'
        '<p class="remark">{} to {}, at most {} USD a day. Up: the provider charges more than the ledger has.</p>',
        width,
        CHART_HEIGHT,
        width,
        CHART_HEIGHT,
        format_html_join("", '<rect class="{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>', bars),
        width,
        middle,
        middle,
        run.first_day,
        run.last_day,
        usd(largest),
    )


def _row(row: ReconciliationRow) -> SafeString:
    tokens = Drift(theirs=row.their_tokens, ours=row.our_tokens)
    cost = Drift(theirs=row.their_cost_nano_usd, ours=row.our_cost_nano_usd)
    unknown = "" if row.known else format_html(' <span class="remark">{}</span>', "unknown here")
    return format_html(
        '<tr><th class="day">{}</th><td class="words">{}{}</td><td>{}</td><td>{}</td>{}<td>{}</td><td>{}</td>{}</tr>',
        row.day,
        row.model,
        unknown,
        f"{row.their_tokens:,}",
        f"{row.our_tokens:,}",
        _drift_cell(tokens, f"{tokens.difference:+,}"),
        usd(row.their_cost_nano_usd),
        usd(row.our_cost_nano_usd),
        _drift_cell(cost, usd(cost.difference)),
    )


def _drift_cell(drift: Drift, amount: str) -> SafeString:
    return format_html('<td class="{}">{}</td>', "stands-out" if drift.stands_out else "", drift_text(drift, amount))


def _percent(drift: Drift) -> str:
    return "none here" if drift.percent is None else f"{drift.percent:+.2f} %"
