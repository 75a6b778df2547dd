"""Gemini Live's `usageMetadata` as OpenAI's realtime usage, from which it is charged."""

from __future__ import annotations

from typing import Any

TEXT, AUDIO = "TEXT", "AUDIO"
PICTURES = ("IMAGE", "VIDEO")


def as_openai_usage(metadata: dict[str, Any]) -> dict[str, Any]:
    """What a turn used, with the vendor's own object beside it.

    Details do not always add up: what they leave out stays in the totals, and is charged as text. Thoughts are not
    within the response's tokens.
    """
    prompt = _details(metadata, "promptTokensDetails", "toolUsePromptTokensDetails")
    said = _details(metadata, "responseTokensDetails")
    cached = _details(metadata, "cacheTokensDetails", "cachedTokensDetails")
    thoughts = _count(metadata, "thoughtsTokenCount")
    return {
        "input_tokens": _count(metadata, "promptTokenCount") + _count(metadata, "toolUsePromptTokenCount"),
        "output_tokens": _count(metadata, "responseTokenCount") + thoughts,
        "total_tokens": _count(metadata, "totalTokenCount"),
        "input_token_details": {
            "text_tokens": prompt.get(TEXT, 0),
            "audio_tokens": prompt.get(AUDIO, 0),
            "image_tokens": sum(prompt.get(name, 0) for name in PICTURES),
            "cached_tokens": _count(metadata, "cachedContentTokenCount"),
            "cached_tokens_details": {
                "text_tokens": cached.get(TEXT, 0),
                "audio_tokens": cached.get(AUDIO, 0),
                "image_tokens": sum(cached.get(name, 0) for name in PICTURES),
            }
            if cached
            else None,
        },
        "output_token_details": {
            "text_tokens": said.get(TEXT, 0) + thoughts,
            "audio_tokens": said.get(AUDIO, 0),
            "reasoning_tokens": thoughts,
        },
        "vendor": metadata,
    }


def _count(metadata: dict[str, Any], name: str) -> Any:
    """A number as it came: what cannot be true is found where it is charged."""
    found = metadata.get(name)
    return 0 if not isinstance(found, int) or isinstance(found, bool) else found


def _details(metadata: dict[str, Any], *names: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        for detail in metadata.get(name) or []:
            modality = str(detail.get("modality"))
            found[modality] = found.get(modality, 0) + _count(detail, "tokenCount")
    return found
