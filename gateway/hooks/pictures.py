"""Hooks on pictures that come as a stream: all that is said of one is the prompt it was really made from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from gateway.hooks.windows import Windows
from providers.types import Chunk

if TYPE_CHECKING:
    from gateway.hooks.runner import CallHooks

REVISED = "revised_prompt"
MARK = f'"{REVISED}"'.encode()


class PictureWindows:
    """See `gateway.streaming.StreamJudge`. Events without words keep their bytes, which are the picture's."""

    def __init__(self, hooks: CallHooks) -> None:
        self._windows = Windows(hooks)

    async def pass_on(self, chunks: Iterable[Chunk]) -> list[Chunk]:
        """What may be sent now. Raises `ResponseBlockedError`."""
        return [await self._judged(chunk) if MARK in chunk.data else chunk for chunk in chunks]

    async def finish(self) -> list[Chunk]:
        """Nothing is held."""
        return []

    async def _judged(self, chunk: Chunk) -> Chunk:
        event = msgspec.json.decode(chunk.data)
        if not isinstance(event.get(REVISED), str):
            return chunk
        event[REVISED] = await self._windows.whole(event[REVISED], path=REVISED)
        return msgspec.structs.replace(chunk, data=msgspec.json.encode(event))
