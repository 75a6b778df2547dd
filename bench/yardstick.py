"""The yardstick: the least a Python gateway can do. A bare ASGI relay over aiohttp: no keys, no limits, no ledger, no
parsing. Machines differ and drift; the ratio to this relay, measured in the same run, does so much less.
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_HEADERS = {"authorization": "Bearer upstream", "content-type": "application/json"}
_MAX_CONNECTIONS = 4000  # more than the held streams


class Relay:
    """The ASGI application; `provider_url` has no trailing slash and no path."""

    def __init__(self, provider_url: str) -> None:
        self._provider_url = provider_url
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass one HTTP request on, and its answer back."""
        if scope["type"] != "http":
            return
        body = await _read_body(receive)
        async with self._provider().post(self._provider_url + scope["path"], data=body, headers=_HEADERS) as answer:
            content_type = answer.headers.get("content-type", "application/json").encode()
            headers = [(b"content-type", content_type)]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            if b"event-stream" not in content_type:
                await send({"type": "http.response.body", "body": await answer.read()})
                return
            async for chunk in answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    def _provider(self) -> aiohttp.ClientSession:
        # Not made in __init__: a ClientSession belongs to the running event loop.
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=_MAX_CONNECTIONS)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session


async def _read_body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


app = Relay(os.environ.get("PROVIDER_URL", "http://127.0.0.1:18080"))
