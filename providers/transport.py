"""Every byte to and from a provider goes through here: the one module that awaits the network.

aiohttp carries the data plane: its client costs half of what httpx's pool does at 200 calls in flight
(docs/decisions/0003-aiohttp-on-the-data-plane.md). Cookies, proxies from the environment and redirects are off; the
address that is really dialled is checked, which a name that resolves differently the second time cannot evade.

Two schemes are not dialled: `mock:` is answered in this process, `cli:` by the session pool, if there is one.
"""

from __future__ import annotations

import asyncio
import errno
import io
import ipaddress
import socket
from collections.abc import Mapping
from typing import Any, Protocol

import aiohttp
import msgspec
from yarl import URL

from providers import mock_provider
from providers.cli.pool import LocalResponse, SessionPool
from providers.errors import DeadlineError, Failure, ProviderError
from providers.types import UpstreamRequest
from tenants.addresses import is_public

ANSWER_LIMIT_BYTES = 64 * 1024 * 1024
ERROR_LIMIT_BYTES = 64 * 1024
LARGE_BODY_BYTES = 1024 * 1024
"""aiohttp wants larger bodies as a file, so that sending them does not hold up the loop."""

KEEPALIVE_SECONDS = 30
AUTO_HEADERS = frozenset({"Accept-Encoding", "User-Agent", "Accept"})
"""aiohttp adds these by itself; compressed answers would cost more CPU than they save on the way."""


class Deadlines(msgspec.Struct, frozen=True, kw_only=True):
    """How long a provider may take, in seconds. `total` None: no bound but the silence between bytes.

    `first_token` is for whoever waits for the answer to begin; the transport itself does not know what a token is.
    """

    connect: float = 3.0
    first_token: float = 30.0
    idle: float = 30.0
    total: float | None = None


class UpstreamResponse(Protocol):
    """An answer whose head has come."""

    status: int
    headers: Mapping[str, str]

    async def next(self) -> bytes:
        """The bytes that have come since, as one piece; empty at the end. Raises `ProviderError`."""
        ...

    def close(self) -> None:
        """Let go of it; a body that has not ended is cut off, which the provider sees as a client that left."""
        ...


async def read_all(response: UpstreamResponse, *, limit_bytes: int = ANSWER_LIMIT_BYTES) -> bytes:
    """The whole body. Raises `ProviderError` beyond the limit."""
    pieces = []
    size = 0
    while piece := await response.next():
        pieces.append(piece)
        size += len(piece)
        if size > limit_bytes:
            raise ProviderError(Failure.BROKEN, f"The provider's answer is larger than {limit_bytes} bytes.")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def read_error(response: UpstreamResponse) -> bytes:
    """The beginning of an error's body: what follows 64 KiB says nothing more."""
    body = b""
    while len(body) < ERROR_LIMIT_BYTES and (piece := await response.next()):
        body += piece
    return body[:ERROR_LIMIT_BYTES]


class Transport:
    """Connection pools for one process. Create it inside a running event loop; close it when done."""

    def __init__(self, sessions: SessionPool | None = None) -> None:
        self._sessions = sessions
        self._public = _session(_public_socket)
        self._private = _session(None)
        self._urls: dict[str, URL] = {}

    async def send(
        self, request: UpstreamRequest, *, deadlines: Deadlines, allow_private_network: bool
    ) -> UpstreamResponse:
        """Send a request and wait for the head of its answer, whatever its status. Raises `ProviderError`."""
        if request.url.startswith("mock:"):
            return _MockResponse(mock_provider.answer(request))
        if request.url.startswith("cli:"):
            return await self._send_to_cli(request)
        session = self._private if allow_private_network else self._public
        large = len(request.body) > LARGE_BODY_BYTES
        try:
            response = await session.request(
                request.method,
                self._url(request.url),
                data=io.BytesIO(request.body) if large else request.body,
                headers=request.headers,
                allow_redirects=False,
                timeout=_client_timeout(deadlines),
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _explain(error, deadlines) from error
        return _HttpResponse(response, deadlines)

    async def _send_to_cli(self, request: UpstreamRequest) -> UpstreamResponse:
        if self._sessions is not None:
            return await self._sessions.send(request)
        if request.method == "GET":
            return LocalResponse(501)  # Celery's processes have no pool, and cannot say how those of the others are
        raise ProviderError(Failure.UNREACHABLE, "There are no CLI sessions: LLM_CLI_COMMAND is not set.")

    async def close(self) -> None:
        """Close every connection."""
        await self._public.close()
        await self._private.close()

    def _url(self, text: str) -> URL:
        url = self._urls.get(text)
        if url is None:
            if len(self._urls) > 1000:
                self._urls.clear()
            url = self._urls[text] = URL(text)
        return url


class _HttpResponse:
    __slots__ = ("_deadlines", "_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, deadlines: Deadlines) -> None:
        self._response = response
        self._deadlines = deadlines
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    async def next(self) -> bytes:
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _explain(error, self._deadlines) from error

    def close(self) -> None:
        self._response.close() if not self._response.content.at_eof() else self._response.release()


class _MockResponse:
    def __init__(self, reply: mock_provider.MockReply) -> None:
        self.status = reply.status
        self.headers: Mapping[str, str] = reply.headers
        self._parts = iter(reply.parts)
        self._coming: tuple[float, bytes] | None = None
        """The part being waited for; it is not lost when whoever waits is cancelled."""

    async def next(self) -> bytes:
        if self._coming is None:
            self._coming = next(self._parts, None)
        if self._coming is None:
            return b""
        pause_seconds, data = self._coming
        if pause_seconds:
            await asyncio.sleep(pause_seconds)
        self._coming = None
        return data

    def close(self) -> None:
        """Nothing is held."""


def _session(socket_factory: Any) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=0, keepalive_timeout=KEEPALIVE_SECONDS, ttl_dns_cache=30, socket_factory=socket_factory
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        skip_auto_headers=AUTO_HEADERS,
    )


def _public_socket(address_info: tuple[Any, ...]) -> socket.socket:
    """Make the socket for an address that has been resolved, unless it leads into a private network."""
    family, kind, protocol, _, address = address_info
    if not is_public(ipaddress.ip_address(address[0].partition("%")[0])):
        reason = f"{address[0]} is not a public address and a private one is not allowed here"
        raise PermissionError(errno.EACCES, reason)
    return socket.socket(family=family, type=kind, proto=protocol)


_timeouts: dict[Deadlines, aiohttp.ClientTimeout] = {}


def _client_timeout(deadlines: Deadlines) -> aiohttp.ClientTimeout:
    timeout = _timeouts.get(deadlines)
    if timeout is None:
        timeout = _timeouts[deadlines] = aiohttp.ClientTimeout(
            total=deadlines.total,
            sock_connect=deadlines.connect,
            sock_read=max(deadlines.idle, deadlines.first_token),  # whoever reads has the finer clock
        )
    return timeout


def _explain(error: Exception, deadlines: Deadlines) -> ProviderError:
    """Say what an exception of the network means for the call."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return DeadlineError("connect", deadlines.connect)
    if isinstance(error, aiohttp.SocketTimeoutError):
        return DeadlineError("idle", deadlines.idle)
    if isinstance(error, TimeoutError):
        return DeadlineError("total", deadlines.total or 0)
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL):
        return ProviderError(Failure.UNREACHABLE, f"The provider cannot be reached: {error}")
    return ProviderError(Failure.BROKEN, f"The connection to the provider broke: {error or type(error).__name__}")
