"""A wire-level OpenAI realtime server with scripted responses, and a log of what it was really sent.

Written from the type definitions of the `openai` SDK 3.52.0; it shares no code with the gateway.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

DELTA_BYTES = 4800
"""A tenth of a second of sound."""


@dataclass
class Turn:
    """One scripted response: what is said, and the usage that is reported."""

    usage: dict[str, Any] | None = None
    deltas: int = 2
    """How many tenths of a second are said."""
    pace_seconds: float = 0.0
    text: str = "hello"
    status: str = "completed"
    done: bool = True
    """Whether it ever reports its end; it does not either when it is cancelled."""
    cancelled_usage: dict[str, Any] | None = None
    """What it reports when it is cancelled before its end."""
    delta_bytes: int = DELTA_BYTES
    pieces: tuple[str, ...] = ()
    """What is said, a piece with each tenth of a second; then all of it is told again wherever it ends."""
    drop: int | None = None
    """Close the socket with this code in the middle; 0: without a word."""


@dataclass
class Connection:
    """One client as it was seen."""

    path: str
    headers: dict[str, str]
    received: list[dict[str, Any]] = field(default_factory=list)
    received_at: list[float] = field(default_factory=list)
    closed: bool = False

    def types(self) -> list[str]:
        return [event["type"] for event in self.received]


class FakeRealtime:
    """The server in a thread of its own, for the length of a `with` block."""

    api_key = "sk-fake-realtime"

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: Server | None = None
        self.port = 0
        self.reset()

    def reset(self) -> None:
        self.turns: list[Turn] = []
        self.scripted: dict[str, Turn] = {}
        """By the `event_id` of the client's event that begins them; a frame of sound with one ends a turn of speech."""
        self.scripted_transcriptions: dict[str, dict[str, Any]] = {}
        """Usage by the `event_id` of the commit."""
        self.connections: list[Connection] = []
        self.refuse: tuple[int, dict[str, Any]] | None = None
        self.transcription_usage: dict[str, Any] | None = None
        self.transcript = "hi"

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

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
            self._talk, "127.0.0.1", 0, process_request=self._greet, compression=None, max_size=None, close_timeout=0.5
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def _greet(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.headers.get("authorization") != f"Bearer {self.api_key}":
            return _refusal(401, {"error": {"message": "Incorrect API key.", "code": "invalid_api_key"}})
        if self.refuse is not None:
            return _refusal(*self.refuse)
        return None

    async def _talk(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        headers = {name.lower(): text for name, text in socket.request.headers.raw_items()}
        seen = Connection(socket.request.path, headers)
        self.connections.append(seen)
        model = parse_qs(urlsplit(seen.path).query)["model"][0]
        try:
            await Talk(self, socket, seen, model).run()
        except ConnectionClosed:
            pass
        finally:
            seen.closed = True


def _refusal(status: int, body: dict[str, Any]) -> Response:
    encoded = json.dumps(body).encode()
    headers = Headers({"content-type": "application/json", "content-length": str(len(encoded))})
    return Response(status, HTTPStatus(status).phrase, headers, encoded)


class Talk:
    """One session."""

    def __init__(self, fake: FakeRealtime, socket: ServerConnection, seen: Connection, model: str) -> None:
        self._fake = fake
        self._socket = socket
        self._seen = seen
        self._numbers = itertools.count(1)
        self._session: dict[str, Any] = {"type": "realtime", "id": "sess_upstream", "model": model, "audio": {}}
        self._speaking: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        await self.tell("session.created", session=self._session)
        async for text in self._socket:
            event = json.loads(text)
            self._seen.received.append(event)
            self._seen.received_at.append(time.monotonic())
            await self._take(event)
        for task in self._speaking.values():
            task.cancel()

    async def tell(self, kind: str, **members: Any) -> None:
        number = next(self._numbers)
        await self._socket.send(json.dumps({"type": kind, "event_id": f"event_{number}", **members}))

    async def _take(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "session.update":
            self._session |= event["session"]
            await self.tell("session.updated", session=self._session)
        elif kind == "input_audio_buffer.commit":
            await self._commit(self._fake.scripted_transcriptions.get(event.get("event_id", "")))
        elif kind == "input_audio_buffer.append" and event.get("event_id") in self._fake.scripted:
            await self.tell("input_audio_buffer.speech_started", audio_start_ms=0, item_id="item_v")
            await self.tell("input_audio_buffer.speech_stopped", audio_end_ms=0, item_id="item_v")
            await self._commit(None)
            self._begin(self._fake.scripted[event["event_id"]])
        elif kind == "conversation.item.create":
            await self.tell("conversation.item.added", item=event["item"], previous_item_id=None)
        elif kind == "response.create":
            turn = self._fake.scripted.get(event.get("event_id", ""))
            self._begin(turn or (self._fake.turns.pop(0) if self._fake.turns else Turn(usage=usage())))
        elif kind == "response.cancel":
            for task in list(self._speaking.values()):
                task.cancel("cancelled")

    async def _commit(self, used: dict[str, Any] | None) -> None:
        item, used = f"item_{next(self._numbers)}", used or self._fake.transcription_usage
        await self.tell("input_audio_buffer.committed", item_id=item, previous_item_id=None)
        if used is not None:
            kind = "conversation.item.input_audio_transcription.completed"
            await self.tell(kind, item_id=item, content_index=0, transcript=self._fake.transcript, usage=used)

    def _begin(self, turn: Turn) -> None:
        response_id = f"resp_{next(self._numbers)}"
        self._speaking[response_id] = asyncio.create_task(self._speak_up(response_id, turn))

    async def _speak_up(self, response_id: str, turn: Turn) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self._speak(response_id, turn)

    async def _speak(self, response_id: str, turn: Turn) -> None:
        await self.tell("response.created", response=_response(response_id, "in_progress"))
        place = {"response_id": response_id, "item_id": "item_x", "output_index": 0, "content_index": 0}
        sound = base64.b64encode(b"\0" * turn.delta_bytes).decode()
        status, used = turn.status, turn.usage
        try:
            for number in range(turn.deltas):
                if number < len(turn.pieces):
                    piece = turn.pieces[number]
                    await self.tell("response.output_audio_transcript.delta", delta=piece, **place)
                await self.tell("response.output_audio.delta", delta=sound, **place)
                if turn.drop is not None and number == turn.deltas // 2:
                    await self._drop(turn.drop)
                await asyncio.sleep(turn.pace_seconds)
            if not turn.pieces:
                await self.tell("response.output_audio_transcript.delta", delta=turn.text, **place)
        except asyncio.CancelledError as cancelled:
            if not cancelled.args or not turn.done:
                return
            status, used = "cancelled", turn.cancelled_usage or turn.usage
        finally:
            self._speaking.pop(response_id, None)
        output = [_message("".join(turn.pieces))] if turn.pieces else []
        if turn.pieces and turn.done:
            await self.tell("response.output_audio_transcript.done", transcript="".join(turn.pieces), **place)
            await self.tell("response.output_item.done", response_id=response_id, output_index=0, item=output[0])
        if turn.done:
            await self.tell("response.done", response=_response(response_id, status, used) | {"output": output})

    async def _drop(self, code: int) -> None:
        if code:
            await self._socket.close(code, "secret reason sk-fake-realtime")
        else:
            self._socket.transport.abort()


def _response(response_id: str, status: str, used: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "id": response_id, "object": "realtime.response", "status": status, "status_details": None, "output": [],
        "usage": used,
    }  # fmt: skip


def _message(transcript: str) -> dict[str, Any]:
    content = [{"type": "output_audio", "transcript": transcript}]
    return {"id": "item_x", "type": "message", "role": "assistant", "status": "completed", "content": content}


TOKENS = {"text_in": 10, "audio_in": 20, "image_in": 0, "text_out": 5, "audio_out": 40}


def usage(
    *,
    cached: tuple[int, ...] = (0, 0, 0),
    unattributed: tuple[int, int] = (0, 0),
    reasoning: int = 0,
    **tokens: int,
) -> dict[str, Any]:
    """Usage as OpenAI reports it: `TOKENS`, but for those given; cached by text, audio and image."""
    said = {**TOKENS, **tokens}
    total_in = said["text_in"] + said["audio_in"] + said["image_in"] + unattributed[0]
    total_out = said["text_out"] + said["audio_out"] + unattributed[1]
    cached_details = dict(zip(("text_tokens", "audio_tokens", "image_tokens"), cached, strict=True))
    outputs = {"text_tokens": said["text_out"], "audio_tokens": said["audio_out"]}
    if reasoning:
        outputs["reasoning_tokens"] = reasoning
    return {
        "total_tokens": total_in + total_out,
        "input_tokens": total_in,
        "output_tokens": total_out,
        "input_token_details": {
            "text_tokens": said["text_in"], "audio_tokens": said["audio_in"], "image_tokens": said["image_in"],
            "cached_tokens": sum(cached), "cached_tokens_details": cached_details,
        },
        "output_token_details": outputs,
    }  # fmt: skip
