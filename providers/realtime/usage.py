"""OpenAI's realtime usage as disjoint billable units.

`response.done` reports what a response read and said by modality. Cached tokens are within the input, so they are taken
out of their modality; reasoning is within the text that was said. What no modality accounts for is text. Input
transcription is another model's work and comes with its own event, in tokens or in seconds.
"""

from __future__ import annotations

import math
from typing import Any

import orjson

from providers.types import Usage

MOST_TOKENS = 10**9
"""A larger count is no count."""

MOST_SECONDS = 24 * 3600


class _ImpossibleError(ValueError):
    """Figures that cannot be true, and why."""


def read_response_usage(usage: Any) -> Usage | None:
    """The `usage` of a `response.done`; None where the provider reports none."""
    if usage is None:
        return None
    try:
        return _response_usage(usage)
    except _ImpossibleError as error:
        return _unbelievable(usage, str(error))


def read_transcription_usage(usage: Any) -> Usage | None:
    """The `usage` of an input transcription's `completed`; None where the provider reports none."""
    if usage is None:
        return None
    try:
        return _transcription_usage(usage)
    except _ImpossibleError as error:
        return _unbelievable(usage, str(error))


def _response_usage(usage: Any) -> Usage:
    if not isinstance(usage, dict):
        raise _ImpossibleError("It is no object.")
    total_in, total_out = _count(usage, "input_tokens"), _count(usage, "output_tokens")
    inputs, outputs = _details(usage, "input_token_details"), _details(usage, "output_token_details")
    by_modality = {name: _count(inputs, f"{name}_tokens") for name in ("text", "audio", "image")}
    by_modality["text"] += _remainder(total_in, by_modality, what="input")
    cached = _cached(inputs, by_modality)
    said = {name: _count(outputs, f"{name}_tokens") for name in ("text", "audio")}
    said["text"] += _remainder(total_out, said, what="output")
    reasoning = _count(outputs, "reasoning_tokens")
    if reasoning > said["text"]:
        raise _ImpossibleError(f"{reasoning} tokens of reasoning in {said['text']} of text.")
    units = {
        "input": by_modality["text"] - cached["text"],
        "audio_input": by_modality["audio"] - cached["audio"],
        "image_input": by_modality["image"] - cached["image"],
        "cache_read": cached["text"],
        "audio_cache_read": cached["audio"],
        "image_cache_read": cached["image"],
        "output": said["text"] - reasoning,
        "reasoning": reasoning,
        "audio_output": said["audio"],
    }
    return Usage(
        units={unit: count for unit, count in units.items() if count},
        input_tokens=total_in,
        output_tokens=total_out,
        cache_read_tokens=sum(cached.values()),
        reasoning_tokens=reasoning,
        raw=orjson.dumps(usage),
    )


def _cached(inputs: dict[str, Any], by_modality: dict[str, int]) -> dict[str, int]:
    """Cached tokens by modality. Those that are of none are the cheapest to take out of: text first, then audio."""
    total = _count(inputs, "cached_tokens")
    details = _details(inputs, "cached_tokens_details")
    cached = {name: _count(details, f"{name}_tokens") for name in by_modality}
    for name, count in cached.items():
        if count > by_modality[name]:
            raise _ImpossibleError(f"{count} cached tokens of {by_modality[name]} of {name}.")
    left = total - sum(cached.values())
    if details and left < 0:
        raise _ImpossibleError(f"{total} cached tokens, of which {sum(cached.values())} are accounted for.")
    for name in by_modality:
        more = min(max(left, 0), by_modality[name] - cached[name])
        cached[name] += more
        left -= more
    if left > 0:
        raise _ImpossibleError(f"{total} cached tokens of {sum(by_modality.values())} in all.")
    return cached


def _remainder(total: int, parts: dict[str, int], *, what: str) -> int:
    """What of a total no modality accounts for."""
    left = total - sum(parts.values())
    if left < 0:
        raise _ImpossibleError(f"{total} tokens of {what}, of which {sum(parts.values())} are accounted for.")
    return left


def _transcription_usage(usage: Any) -> Usage:
    if not isinstance(usage, dict):
        raise _ImpossibleError("It is no object.")
    if usage.get("type") == "duration":
        seconds = usage.get("seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MOST_SECONDS:
            raise _ImpossibleError(f"seconds is {str(seconds)[:40]}.")
        whole = math.ceil(seconds)
        return Usage(
            units={"seconds": whole} if whole else {}, input_tokens=0, output_tokens=0, raw=orjson.dumps(usage)
        )
    total_in, total_out = _count(usage, "input_tokens"), _count(usage, "output_tokens")
    inputs = _details(usage, "input_token_details")
    heard = {name: _count(inputs, f"{name}_tokens") for name in ("text", "audio")}
    heard["text"] += _remainder(total_in, heard, what="input")
    units = {"input": heard["text"], "audio_input": heard["audio"], "output": total_out}
    return Usage(
        units={unit: count for unit, count in units.items() if count},
        input_tokens=total_in,
        output_tokens=total_out,
        raw=orjson.dumps(usage),
    )


def _details(holder: dict[str, Any], name: str) -> dict[str, Any]:
    found = holder.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _ImpossibleError(f"{name} is no object.")
    return found


def _count(holder: dict[str, Any], name: str) -> int:
    found = holder.get(name)
    if found is None:
        return 0
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= MOST_TOKENS:
        raise _ImpossibleError(f"{name} is {str(found)[:40]}.")
    return found


def _unbelievable(usage: Any, problem: str) -> Usage:
    return Usage(units={}, input_tokens=0, output_tokens=0, raw=orjson.dumps(usage), problem=problem)
