"""A wire-level Gemini Live server with scripted turns, from google-genai 3.4.0's types; it sends binary frames."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

DELTA = base64.b64encode(b"\0" * 4800).decode()


@dataclass
class LiveTurn:
    """What is said in one turn, and the usage that is reported."""

    usage: dict[str, Any] = field(default_factory=dict)
    deltas: int = 2
    text: str = "hello"
    call: dict[str, Any] | None = None
    goes_away: bool = False
    """Whether the connection's end is announced after it."""


@dataclass
class LiveConnection:
    """One connection as it was seen."""

    setup: dict[str, Any]
    received: list[dict[str, Any]] = field(default_factory=list)


class FakeLive:
    """The server in a thread of its own, for the length of a `with` block."""

    api_key = "gm-fake-live"

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        """With a server's context it speaks TLS, which the vendor's SDK insists on."""
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: Server | None = None
        self.port = 0
        self.turns: list[LiveTurn] = []
        self.connections: list[LiveConnection] = []

    @property
    def base_url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def reset(self) -> None:
        self.turns, self.connections = [], []

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(timeout=10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    async def _start(self) -> None:
        self._server = await serve(
            self._talk, "127.0.0.1", 0, process_request=self._greet, close_timeout=0.5, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def _greet(self, connection: ServerConnection, request: Request) -> Response | None:
        if not request.path.startswith("/ws/google.ai.generativelanguage."):
            return connection.respond(404, "Not found")
        if request.headers.get("x-goog-api-key") != self.api_key:
            return connection.respond(403, "Forbidden")
        return None

    async def _talk(self, socket: ServerConnection) -> None:
        first = json.loads(await socket.recv())
        assert list(first) == ["setup"], first
        seen = LiveConnection(first["setup"])
        self.connections.append(seen)
        number = len(self.connections)
        await _say(socket, setupComplete={"sessionId": f"live-{number}"})
        await _say(socket, sessionResumptionUpdate={"newHandle": f"handle-{number}", "resumable": True})
        try:
            async for frame in socket:
                message = json.loads(frame)
                seen.received.append(message)
                content = message.get("clientContent") or message.get("client_content") or {}
                ends = (message.get("realtimeInput") or {}).keys() & {"activityEnd", "audioStreamEnd"}
                if content.get("turnComplete") or content.get("turn_complete") or ends or "toolResponse" in message:
                    await self._speak(socket, self.turns.pop(0) if self.turns else LiveTurn())
        except ConnectionClosed:
            pass

    async def _speak(self, socket: ServerConnection, turn: LiveTurn) -> None:
        if turn.call is not None:
            await _say(socket, toolCall={"functionCalls": [turn.call]}, usageMetadata=turn.usage)
            return
        for _ in range(turn.deltas):
            part = {"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": DELTA}}
            await _say(socket, serverContent={"modelTurn": {"parts": [part]}})
        await _say(socket, serverContent={"outputTranscription": {"text": turn.text}})
        await _say(socket, serverContent={"generationComplete": True})
        await _say(socket, serverContent={"turnComplete": True}, usageMetadata=turn.usage)
        if turn.goes_away:
            await _say(socket, goAway={"timeLeft": "60s"})


async def _say(socket: ServerConnection, **message: Any) -> None:
    await socket.send(json.dumps(message).encode())


def live_usage(
    *, prompt: dict[str, int], said: dict[str, int], cached: dict[str, int] | None = None, loose: int = 0,
    thoughts: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Usage as the vendor reports it, by modality; `loose` tokens of the prompt are in no detail."""
    metadata: dict[str, Any] = {
        "promptTokenCount": sum(prompt.values()) + loose,
        "responseTokenCount": sum(said.values()),
        "totalTokenCount": sum(prompt.values()) + loose + sum(said.values()),
        "promptTokensDetails": [{"modality": name, "tokenCount": count} for name, count in prompt.items()],
        "responseTokensDetails": [{"modality": name, "tokenCount": count} for name, count in said.items()],
    }
    if cached:
        metadata["cachedContentTokenCount"] = sum(cached.values())
        metadata["cacheTokensDetails"] = [{"modality": name, "tokenCount": count} for name, count in cached.items()]
    if thoughts:
        metadata["thoughtsTokenCount"] = thoughts
    return metadata
