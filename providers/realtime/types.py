"""What the relay and the realtime adapters say to each other. No Django, no network.

The clients speak OpenAI's realtime protocol as it is since its general availability. An adapter says where a provider's
socket is and keeps a `Conversation` for each session, which turns frames into frames; the transport moves them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from providers.types import Target

Event = dict[str, Any]


class SocketRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Where a provider's socket is, and what opens it."""

    url: str
    headers: dict[str, str]


class ServerEvent(msgspec.Struct, gc=False):
    """One event for the client: as it is sent, and as it was read."""

    text: str
    event: Event

    @property
    def type(self) -> str:
        """Its name; empty where it has none."""
        name = self.event.get("type")
        return name if isinstance(name, str) else ""


class Conversation(Protocol):
    """One session in a provider's protocol. Does no I/O."""

    def opening(self) -> list[str]:
        """The frames to send as soon as the socket is open."""
        ...

    def to_provider(self, event: Event, text: str) -> list[str]:
        """A client's event, read and as it was written, as the provider's frames. Raises `ProviderError` for what the
        provider cannot do."""
        ...

    def from_provider(self, frame: str) -> list[ServerEvent]:
        """A provider's frame as OpenAI's events. Raises `ProviderError` for garbage."""
        ...


class RealtimeAdapter(Protocol):
    """One provider's realtime protocol."""

    def connect(self, target: Target) -> SocketRequest:
        """What opens a session at a deployment."""
        ...

    def conversation(self, target: Target) -> Conversation:
        """A fresh session."""
        ...

    def over(self, socket: UpstreamSocket, target: Target, *, dial: Dial) -> UpstreamSocket:
        """What a session talks to over an open socket: the socket itself, or what translates, and may `dial` anew."""
        ...


class SocketClosed(msgspec.Struct, frozen=True):
    """How a provider's socket ended: 1006 without a word."""

    code: int
    reason: str


class SocketClosedError(Exception):
    """The provider's socket is closed."""

    def __init__(self, closed: SocketClosed) -> None:
        super().__init__(f"The provider closed its socket with {closed.code}.")
        self.closed = closed


class SocketRefusedError(Exception):
    """A handshake that was answered with a status."""

    def __init__(self, status: int, *, headers: dict[str, str], body: bytes) -> None:
        super().__init__(f"The provider answered the handshake with {status}.")
        self.status = status
        self.headers = headers
        self.body = body


class UpstreamSocket(Protocol):
    """A provider's socket, open. Frames are JSON as text."""

    async def send(self, text: str) -> None:
        """Send a frame, waiting while the provider does not read. Raises `SocketClosedError`."""
        ...

    async def receive(self) -> str:
        """The next frame. Raises `SocketClosedError`."""
        ...

    async def close(self) -> None:
        """Close it in order, or without if that takes too long. Never raises."""
        ...


Dial = Callable[[], Awaitable[UpstreamSocket]]
"""Opens another socket like the first. Raises `ProviderError`."""
