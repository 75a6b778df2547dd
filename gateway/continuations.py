"""What providers want back with a turn's tool results, kept for clients that speak only OpenAI's protocol.

Kept in Redis for a day, so any process can answer the next turn. Losing it is survivable: adapters then ask without the
earlier thoughts. So no call fails and none waits longer than Redis's timeout for it.
"""

from __future__ import annotations

import hashlib
import logging
import time

import msgspec
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.context import Call
from providers.types import Continuation, WireRequest

logger = logging.getLogger(__name__)

KEPT_SECONDS = 24 * 60 * 60
"""A tool may wait for a person's approval; after a day the conversation has rather been given up."""

SIZE_LIMIT_BYTES = 1024 * 1024
"""Thoughts are a few kilobytes, signatures included. More than this is not kept."""

TURNS_LIMIT = 256
"""How many of a conversation's latest tool turns are looked up."""

PAUSE_SECONDS = 1.0
"""For how long nobody asks a Redis that has just failed."""


class Continuations:
    """The store of one gateway. A tenant's are out of every other's reach: its id is in the key."""

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )
        self._away_until = 0.0

    async def keep(self, continuation: Continuation, call: Call) -> None:
        """Keep it for the caller's tenant; says so in the log when that is not possible."""
        if len(continuation.data) > SIZE_LIMIT_BYTES or self._is_away():
            return
        key = _key(call, continuation.kind, call_id=continuation.call_id)
        try:
            await self._redis.set(key, continuation.data, ex=KEPT_SECONDS)
        except (RedisError, OSError) as error:
            self._rest(error)

    async def recalled(self, wire: WireRequest, call: Call, *, kind: str) -> WireRequest:
        """The request with what is kept for its earlier turns by a provider of this kind."""
        if self._is_away():
            return wire
        turns = wire.tool_turns[-TURNS_LIMIT:]
        try:
            found = await self._redis.mget([_key(call, kind, call_id=call_id) for call_id in turns])
        except (RedisError, OSError) as error:
            self._rest(error)
            return wire
        kept = {call_id: data for call_id, data in zip(turns, found, strict=True) if data is not None}
        return msgspec.structs.replace(wire, continuations=kept) if kept else wire

    async def close(self) -> None:
        """Let go of the connections."""
        await self._redis.aclose()

    def _is_away(self) -> bool:
        return time.monotonic() < self._away_until

    def _rest(self, error: Exception) -> None:
        self._away_until = time.monotonic() + PAUSE_SECONDS
        logger.warning("continuations.redis_away", extra={"reason": str(error)})


def _key(call: Call, kind: str, *, call_id: str) -> str:
    """Call ids come from clients and providers, in any length and letters. The braces keep a tenant's in one slot."""
    digest = hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:40]
    return f"continuation:{{{call.caller.principal.tenant_id}}}:{kind}:{digest}"
