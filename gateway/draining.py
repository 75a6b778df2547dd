"""Answers that are read to their end although their client has left, because the provider bills all of them anyway."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)


class Drains:
    """The answers of this process that nobody listens to any more: so many at once, each for so long."""

    def __init__(self, *, at_once: int, seconds: float) -> None:
        self._at_once = at_once
        self._seconds = seconds
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, rest: Callable[[], Awaitable[None]]) -> bool:
        """Read the rest of an answer; False where too many are being read already. `rest` ends its attempt whatever
        happens to it, also when it is cancelled because it takes too long."""
        if len(self._tasks) >= self._at_once:
            logger.warning("drain.refused", extra={"drains": len(self._tasks)})
            return False
        task = asyncio.get_running_loop().create_task(self._bounded(rest))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return True

    async def close(self, seconds: float) -> None:
        """Wait for those under way, then cut off the rest."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        cut = list(self._tasks)
        for task in cut:
            task.cancel()
        if cut:
            await asyncio.wait(cut)

    async def _bounded(self, rest: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await rest()
        except TimeoutError:
            logger.warning("drain.cut_off", extra={"seconds": self._seconds})

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("drain.failed", exc_info=error)
