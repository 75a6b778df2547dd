"""What Gemini Live says, turn by turn, as OpenAI's events."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import orjson

from providers.realtime.google_usage import as_openai_usage

Event = dict[str, Any]


class Turns:
    """Tells one session's turns. A turn is over when the vendor says so and has reported its usage."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._response = ""
        self._item = ""
        self._usage: dict[str, Any] | None = None
        self._status = ""
        """How the turn has ended, while its usage is still to come."""
        self._cancelled = False
        self._heard = ""
        self.called: dict[str, str] = {}
        """The names of the functions called, by call id: answers must name them."""

    @property
    def is_under_way(self) -> bool:
        """Whether a turn is being told."""
        return bool(self._response)

    def cancel(self) -> None:
        """Tell no more of this turn but its end: the vendor has no way to be told to stop."""
        self._cancelled = bool(self._response)

    def number(self, prefix: str) -> str:
        """A new id."""
        return f"{prefix}_{next(self._numbers)}"

    def hear(self, message: dict[str, Any]) -> Iterator[Event]:
        """One message of the vendor's."""
        if "usageMetadata" in message:
            self._usage = as_openai_usage(message["usageMetadata"])
        content = message.get("serverContent") or {}
        if self._status and (content or "toolCall" in message):
            yield from self._end()  # its usage never came
        for part in (content.get("modelTurn") or {}).get("parts") or []:
            yield from self._part(part)
        if text := (content.get("outputTranscription") or {}).get("text"):
            yield from self._said("response.output_audio_transcript.delta", delta=text)
        if text := (content.get("inputTranscription") or {}).get("text"):
            self._heard += text
            yield {"type": "conversation.item.input_audio_transcription.delta", "item_id": "item_heard", "delta": text}
        for call in (message.get("toolCall") or {}).get("functionCalls") or []:
            yield from self._call(call)
        if "toolCall" in message:
            self._status = "completed"
        if content.get("interrupted"):
            yield {"type": "input_audio_buffer.speech_started", "audio_start_ms": 0, "item_id": "item_heard"}
            self._status = "cancelled"
        elif content.get("turnComplete") and self._response:
            self._status = "cancelled" if self._cancelled else "completed"
        if self._status and self._usage is not None:
            yield from self._end()

    def _part(self, part: dict[str, Any]) -> Iterator[Event]:
        if "inlineData" in part:
            yield from self._said("response.output_audio.delta", delta=part["inlineData"].get("data", ""))
        elif part.get("text") and not part.get("thought"):
            yield from self._said("response.output_text.delta", delta=part["text"])

    def _begin(self) -> Iterator[Event]:
        if self._response:
            return
        self._response, self._item = self.number("resp"), self.number("item")
        yield {"type": "response.created", "response": self._described("in_progress")}
        item = {"id": self._item, "type": "message", "role": "assistant", "content": []}
        yield {"type": "response.output_item.added", "response_id": self._response, "output_index": 0, "item": item}

    def _said(self, kind: str, **members: Any) -> Iterator[Event]:
        yield from self._begin()
        if not self._cancelled:
            place = {"response_id": self._response, "item_id": self._item, "output_index": 0, "content_index": 0}
            yield {"type": kind, **place, **members}

    def _call(self, call: dict[str, Any]) -> Iterator[Event]:
        yield from self._begin()
        call_id = call.get("id") or self.number("call")
        self.called[call_id] = call.get("name", "")
        arguments = orjson.dumps(call.get("args") or {}).decode()
        item = {
            "id": self.number("item"), "type": "function_call", "call_id": call_id, "name": call.get("name", ""),
            "arguments": arguments,
        }  # fmt: skip
        place = {"response_id": self._response, "item_id": item["id"], "output_index": 1}
        yield {"type": "response.function_call_arguments.done", **place, "call_id": call_id, "arguments": arguments}
        yield {"type": "response.output_item.done", "response_id": self._response, "output_index": 1, "item": item}

    def _end(self) -> Iterator[Event]:
        if self._heard:
            kind = "conversation.item.input_audio_transcription.completed"
            yield {"type": kind, "item_id": "item_heard", "content_index": 0, "transcript": self._heard}
        yield from self._begin()
        yield {"type": "response.done", "response": {**self._described(self._status), "usage": self._usage}}
        self._response, self._status, self._usage, self._cancelled, self._heard = "", "", None, False, ""

    def _described(self, status: str) -> dict[str, Any]:
        return {"id": self._response, "object": "realtime.response", "status": status, "output": []}
