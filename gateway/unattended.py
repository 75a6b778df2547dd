"""Calls with an idempotency key go on when their client leaves: it will ask again, and the answer is paid for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

UNATTENDED_LIMIT = 256
"""Calls of a process that go on without their client. One more is broken off, like a call without a key."""


class Unattended:
    """Runs such calls, each in a task of its own. Deadlines towards the provider end them at the latest."""

    def __init__(self) -> None:
        self._calls: set[asyncio.Task[None]] = set()
        self._alone = 0

    async def run(self, serve: Callable[[Send], Coroutine[Any, Any, None]], *, receive: Receive, send: Send) -> None:
        """Serve a client until it has its answer or leaves; then the call goes on by itself."""
        is_there = True

        async def send_while_there(message: Message) -> None:
            if is_there:
                await send(message)

        call = asyncio.get_running_loop().create_task(serve(send_while_there))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        leaving = asyncio.get_running_loop().create_task(_until_it_leaves(receive))
        try:
            await asyncio.wait((call, leaving), return_when=asyncio.FIRST_COMPLETED)
            if call.done():
                return call.result()
        finally:
            is_there = False
            leaving.cancel()
            if not call.done():
                self._leave_alone(call)

    async def close(self) -> None:
        """Break off what goes on, and wait until each call has said how it ends."""
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls)

    def _leave_alone(self, call: asyncio.Task[None]) -> None:
        if self._alone >= UNATTENDED_LIMIT:
            call.cancel()
            return
        self._alone += 1
        call.add_done_callback(self._no_longer_alone)

    def _no_longer_alone(self, call: asyncio.Task[None]) -> None:
        self._alone -= 1
        if not call.cancelled():
            call.result()


async def _until_it_leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
