"""The client's side of a session: a WebSocket as ASGI servers give it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

ABNORMAL = 1006


class ClientClosedError(Exception):
    """The client's socket is closed."""

    def __init__(self, code: int) -> None:
        super().__init__(f"The client closed its socket with {code}.")
        self.code = code


class ClientSocket:
    """An accepted socket. Whoever sends waits while the client does not read, where its server can tell."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.is_gone = False

    async def receive(self) -> str:
        """The next frame; empty for a binary one, which no event is. Raises `ClientClosedError`."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.is_gone = True
            raise ClientClosedError(message.get("code") or ABNORMAL)
        return message.get("text") or ""

    async def send(self, text: str) -> None:
        """Send a frame. Raises `ClientClosedError`."""
        try:
            await self._send({"type": "websocket.send", "text": text})
        except (OSError, RuntimeError) as error:  # uvicorn raises the one, daphne the other
            self.is_gone = True
            raise ClientClosedError(ABNORMAL) from error

    async def close(self, code: int, reason: str) -> None:
        """Close it, if it is still there. Never raises, and waits for no client that does not read."""
        if self.is_gone:
            return
        self.is_gone = True
        try:
            async with asyncio.timeout(1):
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except (OSError, RuntimeError, TimeoutError):
            return
