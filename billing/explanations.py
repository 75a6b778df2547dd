"""How a charge came about: its formula, line by line."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from billing.money import NANO_PER_USD, PICO_PER_NANO, plain, usd_per_million
from billing.pricing import TIER, UNITS, PriceVersion


class Line(NamedTuple):
    """One product of the sum: so many units, USD per million of them, and what that is in USD, not yet rounded."""

    unit: str
    amount: int
    rate: str
    usd: str


def explain(price: PriceVersion, units: Mapping[str, int]) -> list[Line]:
    """The formula of a usage row, from its units and its price version alone, in the vocabulary's order."""
    tier = units.get(TIER, 0)
    lines = []
    for unit in sorted(units.keys() - {TIER}, key=lambda unit: UNITS.index(unit) if unit in UNITS else len(UNITS)):
        rate = price.rate(unit, tier)
        usd = plain(Decimal(rate * units[unit]) / (PICO_PER_NANO * NANO_PER_USD))
        lines.append(Line(unit, units[unit], usd_per_million(rate), usd))
    return lines


def tier_words(price: PriceVersion, units: Mapping[str, int]) -> str:
    """Which rates a usage row was charged at, in words."""
    place = units.get(TIER, 0)
    if not place:
        return "base prices"
    tier = price.tiers[place - 1]
    return f"tier {tier.name}: {tier.condition()}"
