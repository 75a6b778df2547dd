"""Prices as people quote them: USD per million units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from billing.money import usd_per_million
from billing.pricing import UNITS
from billing.tiers import Tier


def quote_rates(rates: Mapping[str, int]) -> dict[str, str]:
    """USD per million units by unit, in the vocabulary's order."""
    return {unit: usd_per_million(rates[unit]) for unit in UNITS if unit in rates}


def quote_tier(tier: Tier) -> dict[str, Any]:
    """A tier as a configuration file has it."""
    return {"name": tier.name, **tier.conditions(), "prices": quote_rates(tier.rates)}
