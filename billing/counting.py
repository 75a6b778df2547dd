"""Usage as the gateway counts it where a provider has not said what it used."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from billing.pricing import INPUT_TOKENS, OUTPUT_TOKENS, TIER, PriceVersion
from providers.types import Usage

BYTES_PER_TOKEN = 4
"""English prose in the tokenizers of 2026 is 3.9 to 4.6 bytes a token. Used only where a provider reports nothing."""

CACHE_READ = ("cache_read", "audio_cache_read", "image_cache_read")


def count_tokens(size_bytes: int) -> int:
    """Tokens in a text of this size, rounded up."""
    return -(-size_bytes // BYTES_PER_TOKEN)


def counted_usage(*, input_bytes: int, output_bytes: int) -> Usage:
    """Usage as the gateway counts it when the provider did not say."""
    input_tokens, output_tokens = count_tokens(input_bytes), count_tokens(output_bytes)
    units = {"input": input_tokens, "output": output_tokens}
    return Usage(
        units={unit: count for unit, count in units.items() if count},
        input_tokens=input_tokens,
        output_tokens=output_tokens,
    )


def usage_of(units: Mapping[str, int]) -> Usage:
    """Usage that is known by its units."""
    return Usage(
        units={unit: count for unit, count in units.items() if count},
        input_tokens=sum(units.get(unit, 0) for unit in INPUT_TOKENS),
        output_tokens=sum(units.get(unit, 0) for unit in OUTPUT_TOKENS),
        cache_read_tokens=sum(units.get(unit, 0) for unit in CACHE_READ),
        reasoning_tokens=units.get("reasoning", 0),
    )


def charged_units(
    usage: Usage, price: PriceVersion | None, *, service_tier: str, moment: dt.datetime
) -> dict[str, int]:
    """All that a call's price is applied to: what was used, the call itself where that has a price, and the tier.

    The service tier is the provider's word, else what was asked for. The moment is when the attempt began.
    """
    units = usage.units
    if price is None:
        return units
    tier = 0
    if price.tiers:
        served = usage.service_tier or service_tier
        tier = price.tier_for(usage.input_tokens, service_tier=served, moment=moment)
    if price.rate("requests", tier):
        units = {**units, "requests": 1}
    return {**units, TIER: tier} if tier else units
