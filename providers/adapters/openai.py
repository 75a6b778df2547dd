"""OpenAI itself: its own protocol, with the members its newer models insist on."""

from __future__ import annotations

from typing import Any

from providers.adapters.openai_compatible import OpenAICompatibleAdapter
from providers.types import EmbeddingLimits


class OpenAIAdapter(OpenAICompatibleAdapter):
    """See `providers.types.Adapter`."""

    kind = "openai"
    embeddings_at_once = EmbeddingLimits(items=2048, tokens=300_000)
    """Source: platform.openai.com/docs/api-reference/embeddings/create, `input`."""
    pictures_as = None
    """Its models answer with base64 and refuse to be asked for it."""

    def adjust(self, members: dict[str, Any]) -> None:
        """Its reasoning models refuse the older `max_tokens`; every chat model takes `max_completion_tokens`."""
        if "max_tokens" in members:
            limit = members.pop("max_tokens")
            members.setdefault("max_completion_tokens", limit)


ADAPTER = OpenAIAdapter()
