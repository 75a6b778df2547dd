"""Prices that look typed per thousand or per token, where per million was asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from billing.money import usd_per_million
from billing.pricing import rate_in
from billing.tiers import Tier

SUSPICIOUS_FACTOR = 300
"""Vendors change prices by tens of percent, seldom by ten times. A figure this far off was typed in another unit."""

THOUSAND, MILLION = 1_000, 1_000_000
BETWEEN = 30_000
"""Nearer to a thousand below, nearer to a million above, as factors go."""


class Known(NamedTuple):
    """Prices to hold new ones against: pico-USD by unit, and whose they are."""

    source: str
    rates: Mapping[str, int]


class Doubt(NamedTuple):
    """A price that needs a second look, and the question in words."""

    unit: str
    question: str


def find_doubts(rates: Mapping[str, int], *, tiers: Sequence[Tier], known: Sequence[Known]) -> list[Doubt]:
    """The prices, in tiers too, that are about 1,000 or 1,000,000 times off all that is known of their unit.

    What nothing is known of is not doubted, nor is a price of 0: that is no slip of the unit.
    """
    return [
        Doubt(unit, f"{unit}{place}: {question}")
        for place, typed in (("", rates), *((f" in tier {tier.name}", tier.rates) for tier in tiers))
        for unit, rate in typed.items()
        if (question := _question(rate, _figures(unit, known)))
    ]


def _figures(unit: str, known: Iterable[Known]) -> list[tuple[str, int]]:
    return [(one.source, rate) for one in known if (rate := rate_in(one.rates, unit))]


def _question(rate: int, figures: Sequence[tuple[str, int]]) -> str:
    if not rate or not figures or not all(_is_far(rate, figure) for _, figure in figures):
        return ""
    source, figure = figures[0]
    small, factor = rate < figure, max(rate, figure) // min(rate, figure)
    unit_of_price, slip = ("token or unit", MILLION) if factor > BETWEEN else ("thousand", THOUSAND)
    text, against = usd_per_million(rate), f"{source} is {usd_per_million(figure)}."
    if small:
        meant = usd_per_million(rate * slip)
        return f"{text} looks like a price per {unit_of_price}: did you mean {meant} per million? {against}"
    meant = usd_per_million(rate // slip)
    return f"{text} is about {slip:,} times too much: did you mean {meant} per million? {against}"


def _is_far(one: int, other: int) -> bool:
    return max(one, other) >= SUSPICIOUS_FACTOR * min(one, other)
