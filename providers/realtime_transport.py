"""Every frame to and from a provider's realtime socket goes through here.

As in `providers.transport`, no proxy and no redirect is followed, and the address that is really dialled is checked.
`mock:` is not dialled: it is answered in this process. A reader that stops reading stops the provider: at most
`QUEUED_FRAMES` wait here, then the socket's own window closes.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from urllib.parse import urlsplit

import websockets
from websockets.asyncio.client import ClientConnection, connect

from providers.errors import DeadlineError, Failure, ProviderError
from providers.realtime.mock import MockSocket
from providers.realtime.types import (
    SocketClosed,
    SocketClosedError,
    SocketRefusedError,
    SocketRequest,
    UpstreamSocket,
)
from tenants.addresses import is_public

MAX_FRAME_BYTES = 16 * 1024 * 1024
QUEUED_FRAMES = 16
WRITE_BUFFER_BYTES = 64 * 1024
OPEN_SECONDS = 10.0
CLOSE_SECONDS = 1.0
PING_SECONDS = 20.0
PORTS = {"wss": 443, "ws": 80}


async def open_socket(request: SocketRequest, *, allow_private_network: bool) -> UpstreamSocket:
    """Open a session's socket. Raises `SocketRefusedError` or `ProviderError`."""
    if request.url.startswith("mock:"):
        return MockSocket(request.url)
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            dialled = await _dial(request.url, allow_private_network=allow_private_network)
            return _Socket(await _shake_hands(request, dialled))
    except TimeoutError as error:
        raise DeadlineError("connect", OPEN_SECONDS) from error
    except websockets.InvalidStatus as error:
        answer = error.response
        raise SocketRefusedError(
            answer.status_code, headers={name.lower(): value for name, value in answer.headers.raw_items()},
            body=bytes(answer.body or b""),
        ) from error  # fmt: skip
    except (websockets.InvalidHandshake, websockets.InvalidURI) as error:
        raise ProviderError(Failure.BROKEN, f"The provider does not speak WebSocket here: {error}") from error
    except OSError as error:
        raise ProviderError(Failure.UNREACHABLE, f"The provider cannot be reached: {error}") from error


async def _shake_hands(request: SocketRequest, dialled: socket.socket) -> ClientConnection:
    handed_over = False
    try:
        connection = await connect(
            request.url,
            sock=dialled,
            additional_headers=request.headers,
            user_agent_header=None,
            compression=None,
            proxy=None,
            process_exception=lambda error: error,
            open_timeout=None,
            close_timeout=CLOSE_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            max_size=MAX_FRAME_BYTES,
            max_queue=QUEUED_FRAMES,
            write_limit=WRITE_BUFFER_BYTES,
        )
        handed_over = True
        return connection
    finally:
        if not handed_over:
            dialled.close()


async def _dial(url: str, *, allow_private_network: bool) -> socket.socket:
    """Connect to the first of a host's addresses that answers and may be dialled."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ProviderError(Failure.UNREACHABLE, f"{parts.scheme}:// is not a scheme of sockets.")
    loop = asyncio.get_running_loop()
    port = parts.port or PORTS[parts.scheme]
    found = await loop.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    last: OSError = OSError(f"{parts.hostname} has no address.")
    for family, kind, protocol, _, address in found:
        if not allow_private_network and not is_public(ipaddress.ip_address(str(address[0]).partition("%")[0])):
            last = PermissionError(f"{address[0]} is not a public address and a private one is not allowed here")
            continue
        dialling = socket.socket(family, kind, protocol)
        dialling.setblocking(False)
        dialling.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await loop.sock_connect(dialling, address)
        except OSError as error:
            last = error
            dialling.close()
        except asyncio.CancelledError:
            dialling.close()
            raise
        else:
            return dialling
    raise last


class _Socket:
    """A connection of `websockets`, with its errors made ours."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, text: str) -> None:
        try:
            await self._connection.send(text)
        except websockets.ConnectionClosed as error:
            raise SocketClosedError(_how(error)) from error

    async def receive(self) -> str:
        try:
            frame = await self._connection.recv(decode=True)
        except websockets.ConnectionClosed as error:
            raise SocketClosedError(_how(error)) from error
        except UnicodeDecodeError:
            return ""  # a binary frame that holds no text is garbage, which its reader says
        assert isinstance(frame, str)
        return frame

    async def close(self) -> None:
        await self._connection.close()


def _how(error: websockets.ConnectionClosed) -> SocketClosed:
    received = error.rcvd
    return SocketClosed(received.code, received.reason) if received is not None else SocketClosed(1006, "")
