"""How long a stream may be silent, and how long its client may leave it unread: one timer for each, re-armed lazily."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Self

from providers.transport import Deadlines

if TYPE_CHECKING:
    from gateway.stopping import Stopping

CLIENT_SECONDS = 30.0
"""A client that takes nothing for so long is let go. Until then its provider is not read either, so that a stream holds
the buffers of two sockets and no more."""

ALIVE_TIMES = 3
"""Comments, pings and halves of chunks prove that a provider lives, but only for so many times the idle deadline."""


class Cause(StrEnum):
    """Why a stream is broken off."""

    SILENCE = "silence"
    CLIENT = "client"
    STOPPING = "stopping"


class StreamClock:
    """Watches over a stream inside `async with`, which raises `TimeoutError` when `cause` has come up.

    What passes by only leaves the time; the timer looks at it when it is due and arms itself again.
    """

    def __init__(self, deadlines: Deadlines, stopping: Stopping) -> None:
        self.idle_seconds = deadlines.idle
        self.cause: Cause | None = None
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._content_at = self._loop.time()
        self._sending_since: float | None = None
        self._stopping = stopping
        self._timeout = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._stopping.streams.add(self)
        self._look()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.streams.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def heard(self, content: bool) -> None:
        """The provider has sent something, with or without content."""
        self._heard_at = self._loop.time()
        if content:
            self._content_at = self._heard_at

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """While inside, it is the client that is waited for, and the provider may be as silent as it likes."""
        self._sending_since = self._loop.time()
        yield
        self._sending_since = None
        self._heard_at = self._content_at = self._loop.time()

    def break_off(self, cause: Cause) -> None:
        """End the stream at once."""
        if self.cause is None:
            self.cause = cause
            self._timeout.reschedule(self._loop.time())

    def _look(self) -> None:
        due, cause = self._due()
        if self._loop.time() >= due:
            self.break_off(cause)
        else:
            self._timer = self._loop.call_at(due, self._look)

    def _due(self) -> tuple[float, Cause]:
        if self._sending_since is not None:
            return self._sending_since + CLIENT_SECONDS, Cause.CLIENT
        silent = min(self._heard_at + self.idle_seconds, self._content_at + ALIVE_TIMES * self.idle_seconds)
        return silent, Cause.SILENCE
