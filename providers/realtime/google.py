"""Gemini Live behind OpenAI's realtime protocol.

The vendor is told everything about a session in its first frame, where OpenAI's clients send `session.update` whenever
they like. So a session that has not said anything yet is opened anew with what the update says, and one that has is
refused it. A connection lasts ten minutes: when the vendor announces its end, another one takes the session up, by the
handle that the vendor gave for that, and the client notices nothing.
Source: google-genai 3.4.0 (`live.py`, `types.py`); input of any rate is resampled by the vendor.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from providers.errors import Failure, ProviderError
from providers.realtime.google_setup import INPUT_RATE, is_manual, merged, setup_of
from providers.realtime.google_turn import Turns
from providers.realtime.openai import OpenAIConversation
from providers.realtime.types import Dial, SocketClosed, SocketClosedError, SocketRequest, UpstreamSocket
from providers.types import Target

METHOD = "google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
SCHEMES = {"https": "wss", "http": "ws"}
QUEUED_EVENTS = 64


class GoogleRealtimeAdapter:
    """See `providers.realtime.types.RealtimeAdapter`."""

    def connect(self, target: Target) -> SocketRequest:
        """The host of the base URL, whose path belongs to another protocol."""
        scheme, _, rest = target.base_url.partition("://")
        host = rest.partition("/")[0]
        headers = {"x-goog-api-key": target.secret} if target.secret else {}
        return SocketRequest(url=f"{SCHEMES.get(scheme, scheme)}://{host}/ws/{METHOD}", headers=headers)

    def conversation(self, target: Target) -> OpenAIConversation:
        """What its socket gives and takes is OpenAI's already."""
        return OpenAIConversation()

    def over(self, socket: UpstreamSocket, target: Target, *, dial: Dial) -> UpstreamSocket:
        """The translation over a connection; `dial` opens the next."""
        return GoogleSocket(socket, target, dial=dial)


class GoogleSocket:
    """See `providers.realtime.types.UpstreamSocket`: takes and gives OpenAI's events."""

    def __init__(self, socket: UpstreamSocket, target: Target, *, dial: Dial) -> None:
        self._socket = socket
        self._target = target
        self._dial = dial
        self._session: dict[str, Any] = {"type": "realtime", "output_modalities": ["audio"], "audio": {}}
        self._turns = Turns()
        self._events: asyncio.Queue[dict[str, Any] | Exception] = asyncio.Queue()
        self._taken = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._handle: str | None = None
        self._has_begun = False
        """Whether anything was said: from then on the setup stands."""
        self._has_text = False
        self._is_speaking = False
        """Of a client that says itself when it speaks."""
        self._changing = asyncio.Lock()

    async def receive(self) -> str:
        """The next event. Raises `SocketClosedError` or `ProviderError`."""
        if self._reader is None:
            await self._set_up()
            self._tell({"type": "session.created", "session": self._described()})
            self._reader = asyncio.get_running_loop().create_task(self._read_on())
        event = await self._events.get()
        self._taken.set()
        if isinstance(event, Exception):
            raise event
        return orjson.dumps(event).decode()

    async def send(self, text: str) -> None:
        """Take a client's event. Raises `SocketClosedError`."""
        event = orjson.loads(text)
        kind = event["type"]
        try:
            if kind == "session.update":
                await self._update(event)
                return
            async with self._changing:
                for frame in self._frames(kind, event):
                    self._has_begun = True
                    await self._socket.send(orjson.dumps(frame).decode())
        except ProviderError as error:
            self._events.put_nowait(error)
            raise SocketClosedError(SocketClosed(1006, "")) from error

    async def close(self) -> None:
        """Close the connection there is."""
        if self._reader is not None:
            self._reader.cancel()
        await self._socket.close()

    async def _read_on(self) -> None:
        """Read whatever connection there is, as fast as events are taken."""
        while True:
            socket = self._socket
            try:
                await self._hear(_read(await socket.receive()))
            except SocketClosedError as closed:
                async with self._changing:
                    if socket is self._socket:
                        self._events.put_nowait(closed)
                        return
            except ProviderError as error:
                self._events.put_nowait(error)
                return
            while self._events.qsize() >= QUEUED_EVENTS:
                self._taken.clear()
                await self._taken.wait()

    async def _set_up(self) -> None:
        setup = setup_of(self._session, model=self._target.upstream_model, handle=self._handle)
        await self._socket.send(orjson.dumps(setup).decode())
        while "setupComplete" not in _read(await self._socket.receive()):
            pass

    async def _change(self) -> None:
        """Go on over another connection."""
        old = self._socket
        self._socket = await self._dial()
        await self._set_up()
        await old.close()

    async def _update(self, event: dict[str, Any]) -> None:
        asked = merged(self._session, event.get("session") or {})
        if self._has_begun and asked != self._session:
            message = "This provider takes no other configuration once a conversation has begun."
            error = {"type": "invalid_request_error", "code": "session_has_begun", "message": message}
            self._tell({"type": "error", "error": {**error, "event_id": event.get("event_id")}})
            return
        if asked != self._session:
            async with self._changing:
                self._session, self._handle = asked, None
                await self._change()
        self._tell({"type": "session.updated", "session": self._described()})

    async def _hear(self, message: dict[str, Any]) -> None:
        resumption = message.get("sessionResumptionUpdate") or {}
        if resumption.get("resumable") and resumption.get("newHandle"):
            self._handle = resumption["newHandle"]
        for event in self._turns.hear(message):
            self._tell(event)
        if "goAway" in message and self._handle is not None:
            async with self._changing:
                await self._change()

    def _frames(self, kind: str, event: dict[str, Any]) -> list[dict[str, Any]]:
        """A client's event as the vendor's."""
        if kind == "input_audio_buffer.append":
            said: list[dict[str, Any]] = []
            if is_manual(self._session) and not self._is_speaking:
                self._is_speaking = True
                said.append({"realtimeInput": {"activityStart": {}}})
            return [*said, {"realtimeInput": {"audio": {"data": event.get("audio"), "mimeType": INPUT_RATE}}}]
        if kind == "input_audio_buffer.commit":
            self._tell({"type": "input_audio_buffer.committed", "item_id": "item_heard", "previous_item_id": None})
            ends: dict[str, Any] = {"activityEnd": {}} if self._is_speaking else {"audioStreamEnd": True}
            self._is_speaking = False
            return [{"realtimeInput": ends}]
        if kind == "conversation.item.create":
            return self._item(event.get("item") or {})
        if kind == "response.create":
            return [] if is_manual(self._session) and not self._has_text else [_turn_complete()]
        if kind == "response.cancel":
            self._turns.cancel()
        elif kind == "conversation.item.truncate":
            self._tell({"type": "conversation.item.truncated", "item_id": event.get("item_id")})
        return []

    def _item(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        item = {"id": self._turns.number("item"), **item}
        self._tell({"type": "conversation.item.added", "item": item, "previous_item_id": None})
        if item.get("type") == "function_call_output":
            call_id = str(item.get("call_id"))
            name = self._turns.called.get(call_id, "")
            answer = {"id": call_id, "name": name, "response": {"output": item.get("output")}}
            return [{"toolResponse": {"functionResponses": [answer]}}]
        texts = [str(part.get("text") or "") for part in item.get("content") or [] if isinstance(part, dict)]
        role = "model" if item.get("role") == "assistant" else "user"
        self._has_text = True
        return [{"clientContent": {"turns": [{"role": role, "parts": [{"text": text} for text in texts if text]}]}}]

    def _tell(self, event: dict[str, Any]) -> None:
        self._events.put_nowait({"event_id": self._turns.number("event"), **event})

    def _described(self) -> dict[str, Any]:
        return {**self._session, "object": "realtime.session", "model": self._target.upstream_model}


def _turn_complete() -> dict[str, Any]:
    return {"clientContent": {"turnComplete": True}}


def _read(frame: str) -> dict[str, Any]:
    try:
        message = orjson.loads(frame)
    except orjson.JSONDecodeError as error:
        raise ProviderError(Failure.BROKEN, "The provider sent what is no JSON.") from error
    if not isinstance(message, dict):
        raise ProviderError(Failure.BROKEN, "The provider sent what is no message.")
    return message
