"""How a process ends: it says that it is not ready, takes no more connections, and lets what is under way finish."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

from gateway.stream_clock import Cause, StreamClock

logger = logging.getLogger(__name__)

CANCEL_AGAIN_SECONDS = 0.1


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end. One that is connecting to Redis may take a cancellation for its own timeout
    and go on (redis-py, Python 3.11), so it is cancelled until it has ended."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_AGAIN_SECONDS)


class Stopping:
    """From SIGTERM on: `notice_seconds` while /ready already says 503 and calls are still taken, then the server's own
    shutdown, which takes no more; streams that go on after `seconds` get an error event."""

    def __init__(self, *, notice_seconds: float, seconds: float) -> None:
        self.has_begun = False
        self.streams: set[StreamClock] = set()
        """Those being passed on by this process."""
        self.before_shutdown: Callable[[], Awaitable[None]] | None = None
        """What must be over before the server's own shutdown, which cuts off what is no request."""
        self._notice_seconds = notice_seconds
        self._ending: asyncio.Task[None] | None = None
        self._seconds = seconds

    def on_signals(self) -> None:
        """Put ourselves before the server's handlers. Call it inside the running loop."""
        if threading.current_thread() is not threading.main_thread():
            return  # a server in a thread is not ended by signals
        for number in (signal.SIGTERM, signal.SIGINT):
            server = signal.getsignal(number)
            if callable(server):
                signal.signal(number, self._handler(server))

    def _handler(self, server: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], None]:
        loop = asyncio.get_running_loop()

        def handle(number: int, frame: FrameType | None) -> None:
            if self.has_begun:
                server(number, frame)  # who asks twice does not want to wait
                return
            loop.call_soon_threadsafe(self._begin, lambda: server(number, frame))

        return handle

    def _begin(self, shut_down: Callable[[], Any]) -> None:
        if self.has_begun:
            return
        self.has_begun = True
        logger.info("process.stopping", extra={"streams": len(self.streams)})
        loop = asyncio.get_running_loop()
        self._ending = loop.create_task(self._end(shut_down))
        loop.call_later(self._notice_seconds + self._seconds, self._break_off)

    async def _end(self, shut_down: Callable[[], Any]) -> None:
        """Both the notice and what must be over first take their time, side by side."""
        before: list[Awaitable[None]] = [asyncio.sleep(self._notice_seconds)]
        if self.before_shutdown is not None:
            before.append(self.before_shutdown())
        try:
            await asyncio.gather(*before)
        finally:
            shut_down()

    def _break_off(self) -> None:
        if self.streams:
            logger.warning("process.streams_cut_off", extra={"streams": len(self.streams)})
        for stream in list(self.streams):
            stream.break_off(Cause.STOPPING)
