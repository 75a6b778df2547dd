"""Who is let in: so many requests at once. One more waits a moment, then it is told to come back, which costs less than
serving all of them late. /health, /ready and /metrics always answer, and the admin is not behind this door.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from gateway.errors import OverloadedError
from gateway.observation import SHED

if TYPE_CHECKING:
    from gateway.handler import DataPlaneHandler
    from gateway.runtime import Gateway

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

WAIT_SECONDS = 0.25
"""Longer than a burst, shorter than what a client would notice."""


class Door:
    """In front of the data plane's handler."""

    def __init__(self, handler: DataPlaneHandler, gateway: Gateway) -> None:
        self._handler = handler
        self._gateway = gateway
        self._free = gateway.config.max_in_flight
        self._waiting: deque[asyncio.Future[bool]] = deque()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if self._gateway.stopping.has_begun:
            send = _closing(send)
        if not scope["path"].startswith("/v1/"):
            await self._handler(scope, receive, send)
            return
        if self._free > 0:
            self._free -= 1
        elif not await self._wait():
            SHED.inc()
            error = OverloadedError(
                "This process has as many requests under way as it can serve. Ask again in a moment."
            )
            await self._handler.refuse(error, scope, send=send)
            return
        try:
            await self._handler(scope, receive, send)
        finally:
            self._leave()

    async def _wait(self) -> bool:
        """Wait for a place; False when none came free. At most as many wait as are served."""
        if len(self._waiting) >= self._gateway.config.max_in_flight:
            return False
        loop = asyncio.get_running_loop()
        place: asyncio.Future[bool] = loop.create_future()
        patience = loop.call_later(WAIT_SECONDS, self._give_up, place)
        self._waiting.append(place)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.result():
                self._leave()  # it was given a place in the same moment
            raise
        finally:
            patience.cancel()

    def _give_up(self, place: asyncio.Future[bool]) -> None:
        if not place.done():
            self._waiting.remove(place)
            place.set_result(False)

    def _leave(self) -> None:
        """Give the place to whoever waits longest."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(True)
                return
        self._free += 1


def _closing(send: Send) -> Send:
    """Have the connection closed after the answer, so that its client's next request goes to another process."""

    async def send_and_close(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        await send(message)

    return send_and_close
