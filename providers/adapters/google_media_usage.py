"""Bodies of /images and /audio as OpenAI writes them, for what Gemini made."""

from __future__ import annotations

from typing import Any

import msgspec

from providers.openai_shape import Shown
from providers.types import Usage

_encode = msgspec.json.encode


def pictures_body(pictures: list[Shown], usage: Usage | None, *, created: int) -> bytes:
    """An `images.response`."""
    body: dict[str, Any] = {
        "created": created,
        "data": [{"b64_json": shown.data} for shown in pictures],
        "output_format": pictures[0].media_type.removeprefix("image/"),
    }
    if usage is not None:
        body["usage"] = picture_usage_object(usage)
    return _encode(body)


def picture_usage_object(usage: Usage) -> dict[str, Any]:
    """OpenAI's usage of a picture."""
    image_input, image_output = usage.units.get("image_input", 0), usage.units.get("image_output", 0)
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "input_tokens_details": {"text_tokens": usage.input_tokens - image_input, "image_tokens": image_input},
        "output_tokens_details": {"text_tokens": usage.output_tokens - image_output, "image_tokens": image_output},
    }


def transcript_body(text: str, usage: Usage | None) -> bytes:
    """A transcription."""
    return _encode({"text": text, **({"usage": transcript_usage_object(usage)} if usage is not None else {})})


def transcript_usage_object(usage: Usage) -> dict[str, Any]:
    """OpenAI's usage of a transcription by tokens."""
    audio = usage.units.get("audio_input", 0) + usage.units.get("audio_cache_read", 0)
    return {
        "type": "tokens",
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "input_token_details": {"audio_tokens": audio, "text_tokens": usage.input_tokens - audio},
    }
