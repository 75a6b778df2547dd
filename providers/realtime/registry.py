"""Which realtime protocol each kind of provider speaks."""

from __future__ import annotations

from providers.realtime.google import GoogleRealtimeAdapter
from providers.realtime.openai import OpenAIRealtimeAdapter
from providers.realtime.types import RealtimeAdapter

_OPENAI = OpenAIRealtimeAdapter()

REALTIME_ADAPTERS: dict[str, RealtimeAdapter] = {
    "openai": _OPENAI,
    "openai_compatible": _OPENAI,
    "google": GoogleRealtimeAdapter(),
    "mock": _OPENAI,
}
"""By `Provider.kind`. The chat adapter of the same kind says `realtime` among its operations."""


def realtime_adapter_for(kind: str) -> RealtimeAdapter:
    """The adapter of a kind of provider. Raises KeyError for one without voice."""
    return REALTIME_ADAPTERS[kind]
