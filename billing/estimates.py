"""The most a call may cost, before it is made: what the ledger holds for it."""

from __future__ import annotations

import msgspec

from billing.money import PICO_PER_NANO
from billing.pricing import PriceVersion

OUTPUT_TOKENS_WHEN_UNKNOWN = 4096
"""For a model without a stated limit, and a call without one of its own: the limit is sent along, so it holds."""

SMALLEST_ANSWER_TOKENS = 16
"""A call whose headroom affords less than this is refused: an answer cut there is of no use."""

INPUT_UNITS = ("input", "cache_write_5m", "cache_write_1h")
"""An input token costs the dearest of these: nobody knows beforehand what the provider will cache."""

OUTPUT_UNITS = ("output", "reasoning")


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """An upper bound: `fixed_nano_usd` whatever is said, and `output_pico_usd` for each token the model may say."""

    fixed_nano_usd: int
    output_pico_usd: int
    max_output_tokens: int
    may_shrink: bool
    """Whether a smaller answer will do, because the client named no limit."""


def input_token_bound(input_bytes: int, context_window: int | None) -> int:
    """No tokenizer makes more than one token of a byte, and no model reads more than its window."""
    return min(input_bytes, context_window) if context_window else input_bytes


def estimate(
    price: PriceVersion | None, *, input_tokens: int, max_output_tokens: int, choices: int, may_shrink: bool
) -> Estimate:
    """Bound a call. A call without a price holds nothing: a hard budget refuses it elsewhere."""
    if price is None:
        return Estimate(fixed_nano_usd=0, output_pico_usd=0, max_output_tokens=max_output_tokens, may_shrink=may_shrink)
    input_rate = max(price.rate(unit) for unit in INPUT_UNITS)
    fixed_pico = input_rate * input_tokens + price.rate("requests")
    return Estimate(
        fixed_nano_usd=-(-fixed_pico // PICO_PER_NANO),
        output_pico_usd=max(price.rate(unit) for unit in OUTPUT_UNITS) * choices,
        max_output_tokens=max_output_tokens,
        may_shrink=may_shrink,
    )
