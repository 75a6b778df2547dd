"""The most a call may cost, before it is made: what the ledger holds for it."""

from __future__ import annotations

import msgspec

from billing.money import PICO_PER_NANO
from billing.pricing import INPUT_TOKENS, OUTPUT_TOKENS, Dearest, PriceVersion

OUTPUT_TOKENS_WHEN_UNKNOWN = 4096
"""For a model without a stated limit, and a call without one of its own: the limit is sent along, so it holds."""

MOST_OUTPUT_TOKENS = 1_000_000
"""No model of 2026 says more in one answer. It bounds what a call may hold, in money and in the database's integers."""

SMALLEST_ANSWER_TOKENS = 16
"""A call whose headroom affords less than this is refused: an answer cut there is of no use."""


TOKENS_OF_PICTURE = 40_000
"""gpt-4o-mini makes up to 36,835 of one in high detail; others at most a tenth of that."""

TOKENS_OF_PAGE = 5_000
"""Anthropic says up to 3,000 of a page's text, and reads its picture besides."""

TOKENS_OF_SECOND = {"audio": 50, "video": 400}
"""Gemini hears 32 in a second and sees 258; OpenAI's models hear 20."""

TOKENS_WHEN_UNKNOWN = 1_000_000
"""For what nobody can measure beforehand: within the model's window, where it is known."""


PIXELS_PER_TOKEN = 100
"""gpt-image makes 252 pixels of a token in high quality; newer ones have two qualities above it."""

SMALLEST_PICTURE_BOUND = 8_192
PICTURE_OF_ANY_SIZE = 16_384
TOKENS_OF_PREVIEW = 400

TOKENS_OF_SPOKEN_CHARACTER = 8
"""Spoken at a quarter of its speed, a character takes 0.27 s; Gemini makes 25 tokens of a second, OpenAI 20."""

SLOWEST_CHARACTERS_PER_SECOND = 3
SPEECH_OVERHEAD_TOKENS = 1_000
SPEECH_OVERHEAD_SECONDS = 30
WRITTEN_TOKENS_OF_SECOND = 20
"""Fast speech in a language of many tokens is 10."""


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


def media_token_bound(
    kind: str, *, size_bytes: int | None, seconds: int | None = None, pages: int | None = None
) -> int:
    """The most tokens that a picture, sound, film or document can be: what the dearest model of 2026 makes of it.

    `kind` is vision, audio, video or documents. `size_bytes` None: it is only known by its address.
    """
    if kind == "vision":
        return TOKENS_OF_PICTURE
    if kind == "documents" and pages is not None:
        return pages * TOKENS_OF_PAGE
    if kind in TOKENS_OF_SECOND and seconds is not None:
        return seconds * TOKENS_OF_SECOND[kind]
    return TOKENS_WHEN_UNKNOWN if size_bytes is None else min(size_bytes, TOKENS_WHEN_UNKNOWN)


def picture_token_bound(size: str | None, *, previews: int) -> int:
    """The most tokens that a picture to be made can be. A model that is free in its size makes a middling one."""
    width, _, height = (size or "").partition("x")
    is_size = width.isdigit() and height.isdigit() and len(width) <= 5 and len(height) <= 5
    pixels = int(width) * int(height) if is_size else 0
    tokens = max(SMALLEST_PICTURE_BOUND, -(-pixels // PIXELS_PER_TOKEN)) if pixels else PICTURE_OF_ANY_SIZE
    return tokens + previews * TOKENS_OF_PREVIEW


def speech_token_bound(characters: int) -> int:
    """The most tokens that spoken text can be."""
    return SPEECH_OVERHEAD_TOKENS + characters * TOKENS_OF_SPOKEN_CHARACTER


def speech_second_bound(characters: int) -> int:
    """The longest that text can be spoken, in seconds."""
    return SPEECH_OVERHEAD_SECONDS + characters // SLOWEST_CHARACTERS_PER_SECOND


def transcript_token_bound(seconds: int) -> int:
    """The most tokens that can be said in so long."""
    return SPEECH_OVERHEAD_TOKENS + seconds * WRITTEN_TOKENS_OF_SECOND


def bound_units(price: PriceVersion | None, *, input_tokens: int, output_tokens: int) -> dict[str, int]:
    """The bound in billable units: every token in the dearest of those it may be charged as."""
    counts = {_dearest(INPUT_TOKENS, price): input_tokens, _dearest(OUTPUT_TOKENS, price): output_tokens}
    return {unit: count for unit, count in counts.items() if count}


def _dearest(units: tuple[str, ...], price: PriceVersion | None) -> str:
    return units[0] if price is None else max(units, key=price.rate)


def estimate(
    rates: Dearest | None,
    *,
    input_tokens: int,
    max_output_tokens: int,
    choices: int,
    may_shrink: bool,
    other_pico_usd: int = 0,
) -> Estimate:
    """Bound a call; `other_pico_usd` is what it costs beside its tokens. One without a price holds nothing: a hard
    budget refuses it elsewhere."""
    if rates is None:
        return Estimate(fixed_nano_usd=0, output_pico_usd=0, max_output_tokens=max_output_tokens, may_shrink=may_shrink)
    fixed_pico = rates.input * input_tokens + rates.request + other_pico_usd
    return Estimate(
        fixed_nano_usd=-(-fixed_pico // PICO_PER_NANO),
        output_pico_usd=rates.output * choices,
        max_output_tokens=max_output_tokens,
        may_shrink=may_shrink,
    )
