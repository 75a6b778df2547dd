"""OpenAI's usage of pictures and sound, in billable units.

Source: the type definitions of the `openai` SDK 3.52.0.
"""

from __future__ import annotations

import math

import msgspec

from providers.failures import MALFORMED
from providers.types import Usage
from providers.usage import impossible, unbelievable

MISSING = (b"null", b"{}")


class _Details(msgspec.Struct):
    text_tokens: int | None = None
    image_tokens: int | None = None
    audio_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None
    input_token_details: _Details | None = None


_decode = msgspec.json.Decoder(_Usage).decode


def picture_usage(raw: bytes) -> Usage | None:
    """Of /images: what goes in is text and pictures, what comes out is pictures unless it says otherwise."""
    usage = _read(raw)
    if not isinstance(usage, _Usage):
        return usage
    given, made = usage.input_tokens_details or _Details(), usage.output_tokens_details or _Details()
    image_input, text_output = given.image_tokens or 0, made.text_tokens or 0
    units = {
        "input": usage.input_tokens - image_input,
        "image_input": image_input,
        "output": text_output,
        "image_output": usage.output_tokens - text_output,
    }
    return _usage(units, usage, raw=raw)


def transcript_usage(raw: bytes) -> Usage | None:
    """Of /audio/transcriptions: tokens, or how long the sound was. A second that was begun counts."""
    usage = _read(raw)
    if not isinstance(usage, _Usage):
        return usage
    if usage.seconds is not None:
        seconds = math.ceil(usage.seconds) if math.isfinite(usage.seconds) else -1
        return _usage({"seconds": seconds}, usage, raw=raw)
    heard = usage.input_token_details or usage.input_tokens_details or _Details()
    audio = heard.audio_tokens if heard.audio_tokens is not None else usage.input_tokens - (heard.text_tokens or 0)
    units = {"input": usage.input_tokens - audio, "audio_input": audio, "output": usage.output_tokens}
    return _usage(units, usage, raw=raw)


def speech_usage(raw: bytes) -> Usage | None:
    """Of /audio/speech: text goes in, sound comes out."""
    usage = _read(raw)
    if not isinstance(usage, _Usage):
        return usage
    return _usage({"input": usage.input_tokens, "audio_output": usage.output_tokens}, usage, raw=raw)


def _read(raw: bytes) -> _Usage | Usage | None:
    if raw in MISSING:
        return None
    try:
        return _decode(raw)
    except MALFORMED as error:
        return unbelievable(raw, str(error))


def _usage(units: dict[str, int], usage: _Usage, *, raw: bytes) -> Usage:
    if problem := impossible(units):
        return unbelievable(raw, problem)
    return Usage(
        units={unit: count for unit, count in units.items() if count},
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        raw=raw,
    )
