"""OpenAI's realtime protocol, and whoever speaks the same: what clients send is what the provider gets.

Source: the type definitions of the `openai` SDK 3.52.0. No `OpenAI-Beta` header is sent: it asks for names of old.
"""

from __future__ import annotations

from urllib.parse import quote

import orjson

from providers.errors import Failure, ProviderError
from providers.realtime.types import Dial, Event, ServerEvent, SocketRequest, UpstreamSocket
from providers.types import Target

SCHEMES = {"https": "wss", "http": "ws", "mock": "mock"}


class OpenAIConversation:
    """See `providers.realtime.types.Conversation`."""

    def opening(self) -> list[str]:
        """The provider speaks first."""
        return []

    def to_provider(self, event: Event, text: str) -> list[str]:
        """The client's own bytes."""
        return [text]

    def from_provider(self, frame: str) -> list[ServerEvent]:
        """The provider's own bytes, read."""
        try:
            event = orjson.loads(frame)
        except orjson.JSONDecodeError as error:
            raise ProviderError(Failure.BROKEN, "The provider sent what is no JSON.") from error
        if not isinstance(event, dict):
            raise ProviderError(Failure.BROKEN, "The provider sent what is no event.")
        return [ServerEvent(frame, event)]


class OpenAIRealtimeAdapter:
    """See `providers.realtime.types.RealtimeAdapter`."""

    def connect(self, target: Target) -> SocketRequest:
        """The base URL's own host and path, with the scheme of sockets."""
        scheme, _, rest = target.base_url.partition("://")
        headers = {"Authorization": f"Bearer {target.secret}"} if target.secret else {}
        url = f"{SCHEMES.get(scheme, scheme)}://{rest}/realtime?model={quote(target.upstream_model, safe='')}"
        return SocketRequest(url=url, headers=headers)

    def conversation(self, target: Target) -> OpenAIConversation:
        """A fresh session."""
        return OpenAIConversation()

    def over(self, socket: UpstreamSocket, target: Target, *, dial: Dial) -> UpstreamSocket:
        """The socket itself."""
        return socket
