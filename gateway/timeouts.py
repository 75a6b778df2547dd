"""How long a call may wait for a provider: the defaults, and what an operator set instead."""

from __future__ import annotations

from functools import lru_cache

from gateway.context import Call
from providers.transport import Deadlines
from providers.types import Target, TimeoutOverrides

CONNECT_SECONDS = 3.0
FIRST_TOKEN_SECONDS = 30.0
IDLE_SECONDS = 30.0
REASONING_FIRST_TOKEN_SECONDS = 120.0
REASONING_IDLE_SECONDS = 90.0
"""Models that think first are silent for longer."""

STREAM_TOTAL_SECONDS = 600.0
TOTAL_SECONDS = {
    "chat": 180.0, "embeddings": 60.0, "images": 300.0, "image_edits": 300.0, "speech": 180.0, "transcription": 300.0,
    "translation": 300.0, "videos": 60.0,
}  # fmt: skip

PAINTING = frozenset({"images", "image_edits"})
"""They show nothing for as long as models that think first say nothing."""

REQUEST_SECONDS = 600.0
"""After this long since a request's arrival no further attempt is begun: OpenAI's SDKs have given up by then."""


def deadlines_for(call: Call, target: Target) -> Deadlines:
    """The deadlines of a call to a deployment. An answer that is no stream has one: that for the whole."""
    return _deadlines(call.operation, target.timeouts, stream=call.wire.stream, reasons=target.reasons)


@lru_cache(maxsize=1024)
def _deadlines(operation: str, overrides: TimeoutOverrides, *, stream: bool, reasons: bool) -> Deadlines:
    connect = overrides.connect or CONNECT_SECONDS
    if not stream:
        total = overrides.total or TOTAL_SECONDS[operation]
        return Deadlines(connect=connect, first_token=total, idle=total, total=total)
    is_slow = reasons or operation in PAINTING
    return Deadlines(
        connect=connect,
        first_token=overrides.first_token or (REASONING_FIRST_TOKEN_SECONDS if is_slow else FIRST_TOKEN_SECONDS),
        idle=overrides.idle or (REASONING_IDLE_SECONDS if is_slow else IDLE_SECONDS),
        total=overrides.total or STREAM_TOTAL_SECONDS,
    )
