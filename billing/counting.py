"""Usage as the gateway counts it where a provider has not said what it used."""

from __future__ import annotations

from billing.pricing import PriceVersion
from providers.types import Usage

BYTES_PER_TOKEN = 4
"""English prose in the tokenizers of 2026 is 3.9 to 4.6 bytes a token. Used only where a provider reports nothing."""


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


def with_call_fee(units: dict[str, int], price: PriceVersion | None) -> dict[str, int]:
    """The units of one call, with the call itself where its model has a price for that."""
    if price is not None and price.rate("requests"):
        return {**units, "requests": 1}
    return units
