"""The offline mock's voice: OpenAI's realtime protocol, answered in this process without a network.

It answers what is typed by repeating it and what is spoken by saying how long it was, as text with a tone for a voice.
Turns are detected by loudness, a tool is called when its name is typed, and usage is counted as vendors do: 10 tokens
for a second heard, 20 for a second spoken, a token for four bytes of text, and all that was read before is cached.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
from typing import Any

import orjson

from providers.realtime.mock_voice import BYTES_PER_SECOND, is_loud, tone
from providers.realtime.types import Event, SocketClosed, SocketClosedError

HEARD_PER_SECOND, SPOKEN_PER_SECOND = 10, 20
DELTA_MS = 100
PACE_SECONDS = 0.02
"""Between two deltas: faster than the voice is heard, as vendors' models are."""

WORD_MS = 200
LONGEST_ANSWER_MS = 60_000
SILENCE_BYTES = BYTES_PER_SECOND // 2
"""Half a second without a voice ends a turn."""

QUEUED_EVENTS = 64


class MockSocket:
    """See `providers.realtime.types.UpstreamSocket`."""

    def __init__(self, url: str) -> None:
        self._numbers = itertools.count(1)
        self._events: asyncio.Queue[Event | None] = asyncio.Queue(QUEUED_EVENTS)
        self._session: dict[str, Any] = {
            "type": "realtime",
            "id": "sess_mock",
            "object": "realtime.session",
            "model": url.partition("model=")[2],
            "output_modalities": ["audio"],
            "audio": {"input": {"turn_detection": {"type": "server_vad"}}, "output": {"voice": "tone"}},
        }
        self._heard = b""
        self._quiet_bytes = 0
        self._speaking = False
        self._said = ""
        """The last thing that was typed, or how long was spoken."""
        self._context = {"text": 0, "audio": 0}
        self._cached = {"text": 0, "audio": 0}
        self._answering: asyncio.Task[None] | None = None
        self._tell({"type": "session.created", "session": self._session})

    async def send(self, text: str) -> None:
        """Take a client's event. Raises `SocketClosedError` once closed."""
        event = orjson.loads(text)
        match event.get("type"):
            case "session.update":
                self._update(event.get("session") or {})
            case "input_audio_buffer.append":
                await self._hear(base64.b64decode(event.get("audio", "")))
            case "input_audio_buffer.commit":
                await self._commit()
            case "input_audio_buffer.clear":
                self._heard = b""
                self._tell({"type": "input_audio_buffer.cleared"})
            case "conversation.item.create":
                self._take(event.get("item") or {})
            case "response.create":
                await self._answer(event.get("response") or {})
            case "response.cancel":
                self._cancel()
            case "conversation.item.truncate":
                self._tell({"type": "conversation.item.truncated", "item_id": event.get("item_id")})
            case other:
                error = {"type": "invalid_request_error", "code": "unknown_event", "message": f"Unknown event {other}."}
                self._tell({"type": "error", "error": {**error, "event_id": event.get("event_id")}})

    async def receive(self) -> str:
        """The next event as JSON. Raises `SocketClosedError`."""
        event = await self._events.get()
        if event is None:
            raise SocketClosedError(SocketClosed(1000, ""))
        return orjson.dumps({"event_id": f"event_{next(self._numbers)}", **event}).decode()

    async def close(self) -> None:
        """Stop talking."""
        if self._answering is not None:
            self._answering.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._answering
        while not self._events.empty():
            self._events.get_nowait()
        self._events.put_nowait(None)

    def _tell(self, event: Event) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self._events.put_nowait(event)

    def _update(self, session: dict[str, Any]) -> None:
        audio = self._session["audio"]
        for side, given in (session.get("audio") or {}).items():
            audio[side] = {**audio.get(side, {}), **given}
        self._session |= {name: value for name, value in session.items() if name != "audio"}
        self._tell({"type": "session.updated", "session": self._session})

    async def _hear(self, audio: bytes) -> None:
        self._heard += audio
        if not self._session["audio"]["input"].get("turn_detection"):
            return
        if is_loud(audio):
            self._quiet_bytes = 0
            if not self._speaking:
                self._speaking = True
                self._tell({"type": "input_audio_buffer.speech_started", "audio_start_ms": 0, "item_id": "item_heard"})
                self._cancel("turn_detected")
            return
        self._quiet_bytes += len(audio)
        if self._speaking and self._quiet_bytes >= SILENCE_BYTES:
            self._speaking = False
            self._tell({"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 0, "item_id": "item_heard"})
            await self._commit()
            await self._answer({})

    async def _commit(self) -> None:
        seconds = len(self._heard) / BYTES_PER_SECOND
        self._context["audio"] += int(seconds * HEARD_PER_SECOND)
        self._said = f"{seconds:.1f} seconds of sound"
        self._heard = b""
        item_id = f"item_{next(self._numbers)}"
        self._tell({"type": "input_audio_buffer.committed", "item_id": item_id, "previous_item_id": None})
        if self._session["audio"]["input"].get("transcription"):
            kind = "conversation.item.input_audio_transcription.completed"
            usage = {"type": "duration", "seconds": seconds}
            self._tell({"type": kind, "item_id": item_id, "content_index": 0, "transcript": self._said, "usage": usage})

    def _take(self, item: dict[str, Any]) -> None:
        item = {"id": f"item_{next(self._numbers)}", **item}
        texts = [part.get("text") or "" for part in item.get("content") or [] if isinstance(part, dict)]
        self._said = " ".join(filter(None, texts)) or str(item.get("output") or self._said)
        self._context["text"] += -(-len(self._said.encode()) // 4)
        self._tell({"type": "conversation.item.added", "item": item, "previous_item_id": None})
        self._tell({"type": "conversation.item.done", "item": item, "previous_item_id": None})

    async def _answer(self, asked: dict[str, Any]) -> None:
        if self._answering is not None and not self._answering.done():
            error = {"type": "invalid_request_error", "code": "conversation_already_has_active_response"}
            self._tell({"type": "error", "error": {**error, "message": "A response is under way."}})
            return
        self._answering = asyncio.get_running_loop().create_task(_Answer(self._events, self._numbers).give(self, asked))

    def _cancel(self, reason: str = "client_cancelled") -> None:
        if self._answering is not None and not self._answering.done():
            self._answering.cancel(reason)

    def plan(self, asked: dict[str, Any]) -> tuple[str, dict[str, Any] | None, bool]:
        """What is to be said, the tool to be called if any, and whether it is spoken."""
        tools = asked.get("tools") or self._session.get("tools") or []
        named = [tool for tool in tools if isinstance(tool, dict) and str(tool.get("name")) in self._said]
        spoken = "audio" in (asked.get("output_modalities") or self._session.get("output_modalities") or ["audio"])
        return f"You said: {self._said or 'nothing'}.", named[0] if named else None, spoken

    def usage(self, *, spoken_ms: int, text: str) -> dict[str, Any]:
        """What an answer used; from now on all of it is context, and cached."""
        read, cached = dict(self._context), dict(self._cached)
        said = {"text_tokens": -(-len(text.encode()) // 4), "audio_tokens": spoken_ms * SPOKEN_PER_SECOND // 1000}
        self._cached = read
        self._context = {
            "text": read["text"] + said["text_tokens"], "audio": read["audio"] + said["audio_tokens"]
        }  # fmt: skip
        details = {"text_tokens": cached["text"], "audio_tokens": cached["audio"], "image_tokens": 0}
        inputs = {"text_tokens": read["text"], "audio_tokens": read["audio"], "image_tokens": 0}
        total_in, total_out = sum(read.values()), sum(said.values())
        return {
            "total_tokens": total_in + total_out,
            "input_tokens": total_in,
            "output_tokens": total_out,
            "input_token_details": {
                **inputs, "cached_tokens": sum(cached.values()), "cached_tokens_details": details
            },
            "output_token_details": said,
        }  # fmt: skip


class _Answer:
    """One response, told event by event."""

    def __init__(self, events: asyncio.Queue[Event | None], numbers: itertools.count[int]) -> None:
        self._events = events
        self.id = f"resp_{next(numbers)}"
        self._item = f"item_{next(numbers)}"
        self._spoken_ms = 0
        self._text = ""

    async def give(self, mock: MockSocket, asked: dict[str, Any]) -> None:
        """Say all of it, unless it is cancelled."""
        text, tool, spoken = mock.plan(asked)
        await self._tell("response.created", response=self._response("in_progress"))
        status, details = "completed", None
        try:
            if tool is not None:
                await self._call(tool)
            else:
                await self._say(text, spoken=spoken)
        except asyncio.CancelledError as cancelled:
            reason = cancelled.args[0] if cancelled.args else ""
            if not reason:
                raise  # the socket is closed
            status, details = "cancelled", {"type": "cancelled", "reason": reason}
        usage = mock.usage(spoken_ms=self._spoken_ms, text=self._text)
        await self._tell("response.done", response=self._response(status, details, usage=usage))

    async def _say(self, text: str, *, spoken: bool) -> None:
        item = {"id": self._item, "type": "message", "role": "assistant", "content": []}
        await self._tell("response.output_item.added", output_index=0, item=item)
        kind = "response.output_audio_transcript" if spoken else "response.output_text"
        delta = base64.b64encode(tone(DELTA_MS)).decode()
        for word in text.split(" "):
            said = f"{word} "
            self._text += said
            await self._tell(f"{kind}.delta", content_index=0, delta=said)
            for _ in range(WORD_MS // DELTA_MS if spoken else 0):
                if self._spoken_ms < LONGEST_ANSWER_MS:
                    self._spoken_ms += DELTA_MS
                    await self._tell("response.output_audio.delta", content_index=0, delta=delta)
                    await asyncio.sleep(PACE_SECONDS)
        if spoken:
            await self._tell("response.output_audio.done", content_index=0)
        await self._tell(f"{kind}.done", content_index=0, **{"transcript" if spoken else "text": self._text.rstrip()})
        await self._tell("response.output_item.done", output_index=0, item=item)

    async def _call(self, tool: dict[str, Any]) -> None:
        call = {"id": self._item, "type": "function_call", "call_id": f"call_{self.id}", "name": tool["name"]}
        self._text = "{}"
        await self._tell("response.output_item.added", output_index=0, item={**call, "arguments": ""})
        await self._tell("response.function_call_arguments.done", call_id=call["call_id"], arguments="{}")
        await self._tell("response.output_item.done", output_index=0, item={**call, "arguments": "{}"})

    def _response(
        self, status: str, details: dict[str, Any] | None = None, *, usage: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        return {
            "id": self.id, "object": "realtime.response", "status": status, "status_details": details,
            "output": [], "usage": usage,
        }  # fmt: skip

    async def _tell(self, kind: str, **members: Any) -> None:
        place = {} if "response" in members else {"response_id": self.id, "item_id": self._item}
        await self._events.put({"type": kind, **place, **members})
