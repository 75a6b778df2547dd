"""A bounded queue of frames with a lane for what must not wait.

Barging in is such: that somebody has begun to speak must overtake the seconds of sound that are still to be heard. All
else stays in its order, and whoever puts a frame in waits while the queue is full, which stops whoever sends to it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

HELD_BYTES = 256 * 1024
"""Five seconds of sound as base64; a single larger frame passes all the same."""

HELD_FRAMES = 512


class LanesClosedError(Exception):
    """Nothing is taken any more."""


class Lanes:
    """One direction of a session: one task puts frames in, another takes them out."""

    def __init__(self, *, held_bytes: int = HELD_BYTES) -> None:
        self._most_bytes = held_bytes
        self._urgent: deque[str] = deque()
        self._ordinary: deque[str] = deque()
        self._bytes = 0
        self._closed = False
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def __len__(self) -> int:
        return len(self._urgent) + len(self._ordinary)

    async def put(self, frame: str) -> None:
        """Add a frame, once there is room. Raises `LanesClosedError`."""
        while not self._room.is_set() and not self._closed:
            await self._room.wait()
        self._add(self._ordinary, frame)

    def put_urgent(self, frame: str) -> None:
        """Add a frame before all that are not urgent. Raises `LanesClosedError`."""
        self._add(self._urgent, frame)

    def put_last(self, frame: str) -> None:
        """Add a frame although there may be no room: the gateway's own few words."""
        self._add(self._ordinary, frame)

    async def take(self) -> str | None:
        """The next frame; None when the lanes are closed and empty."""
        while not self:
            if self._closed:
                return None
            self._filled.clear()
            await self._filled.wait()
        frame = (self._urgent or self._ordinary).popleft()
        self._bytes -= len(frame)
        self._make_room()
        return frame

    def drop(self) -> None:
        """Forget what is queued."""
        self._urgent.clear()
        self._ordinary.clear()
        self._bytes = 0
        self._room.set()

    def drop_those(self, unwanted: Callable[[str], bool]) -> None:
        """Forget some of what is queued."""
        self._ordinary = deque(frame for frame in self._ordinary if not unwanted(frame))
        self._bytes = sum(map(len, (*self._urgent, *self._ordinary)))
        self._make_room()

    def close(self) -> None:
        """Take nothing more; what is queued can still be taken out."""
        self._closed = True
        self._filled.set()
        self._room.set()

    def _make_room(self) -> None:
        if self._bytes < self._most_bytes and len(self) < HELD_FRAMES:
            self._room.set()

    def _add(self, lane: deque[str], frame: str) -> None:
        if self._closed:
            raise LanesClosedError
        lane.append(frame)
        self._bytes += len(frame)
        if self._bytes >= self._most_bytes or len(self) >= HELD_FRAMES:
            self._room.clear()
        self._filled.set()
