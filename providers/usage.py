"""Reading a provider's usage object with suspicion: one that cannot be true must not become a charge. No Django."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from providers.types import Usage

TOKEN_COUNT_LIMIT = 1_000_000_000
"""No call uses a billion tokens; a larger figure is a provider's fault and is not believed."""


def impossible(units: Mapping[str, int]) -> str:
    """Why these units cannot be what a call used; empty when they can."""
    for unit, count in units.items():
        if not 0 <= count <= TOKEN_COUNT_LIMIT:
            return f"It comes to {count} {unit} tokens."
    return ""


def unbelievable(raw: bytes, problem: str) -> Usage:
    """A usage object that says something which cannot be: the call is charged by its bound."""
    return Usage(units={}, input_tokens=0, output_tokens=0, raw=raw, problem=problem)


def added(one: Usage, other: Usage) -> Usage:
    """What two attempts used together, for people and limits: charges are made from each by itself."""
    return msgspec.structs.replace(
        other,
        units={unit: one.units.get(unit, 0) + other.units.get(unit, 0) for unit in {**one.units, **other.units}},
        input_tokens=one.input_tokens + other.input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        cache_read_tokens=one.cache_read_tokens + other.cache_read_tokens,
        cache_write_tokens=one.cache_write_tokens + other.cache_write_tokens,
        reasoning_tokens=one.reasoning_tokens + other.reasoning_tokens,
    )
