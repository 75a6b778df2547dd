"""Entries and leads in Redis. While it is away nothing is found and nothing kept, and no call fails for it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gateway.caching.entries import Entry, pack, unpack
from gateway.redis_script import RedisAwayError, RedisScript

logger = logging.getLogger(__name__)

SCRIPT = Path(__file__).with_name("store.lua").read_text()

LEASE_SECONDS = 10
"""So long after a leader's death others go on without it. A leader that lives renews its lease."""


class Found(NamedTuple):
    """What Redis says of a question: its entries, best first, and whether somebody (or we) makes the call."""

    entries: list[Entry]
    is_led: bool = False


NOTHING = Found([])


class CacheStore:
    """The keys of one gateway. A tenant's are out of every other's reach: its id is in each of them."""

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        self._script = RedisScript(url, SCRIPT, timeout_seconds=timeout_seconds)

    @property
    def is_away(self) -> bool:
        """Whether it is no use to ask at the moment."""
        return self._script.is_away

    async def read(self, keys: Sequence[str]) -> Found:
        """What is kept under any of these keys, and whether anybody makes the call for the first."""
        return await self._find(keys, "read")

    async def lead(self, keys: Sequence[str], *, token: str) -> Found:
        """Take the lead of the first key unless somebody has it, then look again: `is_led` says whether it is ours."""
        return await self._find(keys, "lead", token, LEASE_SECONDS * 1000)

    async def keep(self, key: str, entry: Entry, *, seconds: int, token: str) -> None:
        """Keep an entry for so long, and let go of the lead if we have it."""
        await self._run([_lead(key), key], ["keep", token, seconds * 1000, pack(entry, key=key)])

    async def prolong(self, key: str, *, token: str) -> None:
        """Say that the leader lives."""
        await self._run([_lead(key)], ["prolong", token, LEASE_SECONDS * 1000])

    async def give_up(self, key: str, *, token: str) -> None:
        """Let go of a lead."""
        await self._run([_lead(key)], ["give_up", token])

    async def close(self) -> None:
        """Let go of the connection."""
        await self._script.close()

    async def _find(self, keys: Sequence[str], *arguments: str | int) -> Found:
        reply = await self._run([_lead(keys[0]), *keys], arguments)
        return Found(_opened(keys, reply[1:]), is_led=bool(reply[0])) if reply else NOTHING

    async def _run(self, keys: Sequence[str], arguments: Sequence[str | int]) -> list[Any]:
        """What the script answers; nothing while Redis is away."""
        if self.is_away:
            return []
        try:
            return [*await self._script.run(keys, arguments)]
        except RedisAwayError:
            return []


def _lead(key: str) -> str:
    return f"{key}:lead"


def _opened(keys: Sequence[str], packed: Sequence[bytes | None]) -> list[Entry]:
    entries = []
    for key, data in zip(keys, packed, strict=True):
        entry = unpack(data, key=key) if data is not None else None
        if entry is not None:
            entries.append(entry)
        elif data is not None:
            logger.warning("response_cache.entry_damaged", extra={"key": key})
    return entries
