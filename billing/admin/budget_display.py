"""How a budget's standing is drawn: a bar that also reads as text, and what the pace leads to."""

from __future__ import annotations

import datetime as dt

from django.utils.html import format_html
from django.utils.safestring import SafeString

from billing.money import usd
from billing.standings import Standing
from tenants.operator_admin import number


def bar(standing: Standing, *, remark: str = "") -> SafeString:
    """How much is spent: a progress bar, and the same as text for whoever does not see it."""
    text = f"{standing.percent:,} %"
    return format_html(
        '<span class="spent{}"><progress max="100" value="{}" aria-label="{} spent">{}</progress>'
        '<span class="figure">{}</span></span><span class="remark">{} USD{}</span>',
        " full" if standing.percent >= 100 else "",
        min(standing.percent, 100),
        text,
        text,
        text,
        usd(standing.spent_nano_usd),
        remark,
    )


def fullest_bar(standing: Standing) -> SafeString:
    """The bar of a budget's fullest window, saying which that is when there are others."""
    others = f" by {standing.subject}, the fullest of {standing.windows:,}" if standing.windows > 1 else ""
    return bar(standing, remark=others)


def forecast(standing: Standing, now: dt.datetime) -> str:
    """When the limit will be reached at the pace of this period so far."""
    if standing.spent_nano_usd >= standing.limit_nano_usd:
        return "Spent"
    if standing.spent_nano_usd == 0:
        return "Nothing spent yet"
    exhausted = standing.exhausted_at(now)
    if exhausted is not None:
        return _sentence("At this pace exhausted on", exhausted)
    if standing.ends_at is None:
        return "At this pace not within ten years"
    return _sentence("Not before it begins anew on", standing.ends_at)


def _sentence(begin: str, moment: dt.datetime) -> SafeString:
    """The moment is kept on one line."""
    return format_html('{} <span class="moment">{} UTC</span>', begin, f"{moment:%Y-%m-%d %H:%M}")


def period_text(standing: Standing) -> str:
    """Which stretch of time is meant."""
    if standing.ends_at is None:
        return "Since it was made, for good"
    return f"{standing.starts_at:%Y-%m-%d %H:%M} to {standing.ends_at:%Y-%m-%d %H:%M} UTC"


def standing_row(standing: Standing, now: dt.datetime) -> SafeString:
    """One window as a row of the budget's page."""
    figures = (standing.reserved_nano_usd, standing.remaining_nano_usd)
    return format_html(
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
        standing.subject or "all",
        bar(standing),
        *(number(usd(figure)) for figure in figures),
        forecast(standing, now),
    )
