"""Bodies that are read as they come. Forms may carry hundreds of megabytes; everything else is read whole."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]

FORM = b"multipart/form-data"


class ClientLeft(Exception):
    """The client went away before its request was whole."""


class BodyStream:
    """The pieces of one request's body. The server sends on only as fast as they are read."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = asyncio.Event()

    async def next(self) -> bytes:
        """The next piece; empty at the end. Raises `ClientLeft`."""
        while not self._ended.is_set():
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            if not message.get("more_body", False):
                self._ended.set()
            if piece := message.get("body", b""):
                return bytes(piece)
        return b""

    async def receive(self) -> Message:
        """What comes after the body: for whoever watches for the client's leaving."""
        await self._ended.wait()
        return await self._receive()


def is_form(headers: dict[bytes, bytes]) -> bool:
    """Whether a request's body is a form with files."""
    return headers.get(b"content-type", b"").lower().startswith(FORM)
