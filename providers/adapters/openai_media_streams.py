"""OpenAI's streams of pictures, transcripts and speech. See `providers.types.StreamDecoder`."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from providers.adapters.openai_media_usage import picture_usage, speech_usage, transcript_usage
from providers.adapters.openai_wire import stream_error
from providers.errors import Failure, ProviderError
from providers.failures import MALFORMED
from providers.sse import EVENT_LIMIT_BYTES, SseDecoder
from providers.types import Chunk, WireRequest

NULL = msgspec.Raw(b"null")
DEFAULT_FORMAT = "mp3"
MEDIA_TYPES = {
    "mp3": "audio/mpeg", "opus": "audio/ogg", "aac": "audio/aac", "flac": "audio/flac", "wav": "audio/wav",
    "pcm": "audio/pcm",
}  # fmt: skip
SSE_BEGINNINGS = (b"data:", b"event:", b":", b"id:", b"retry:")

_encode = msgspec.json.encode


class _Event(msgspec.Struct):
    type: str = ""
    usage: msgspec.Raw = NULL
    error: msgspec.Raw = NULL
    delta: str | None = None
    audio: str | None = None


class _Transcript(msgspec.Struct):
    text: str
    usage: msgspec.Raw = NULL


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_transcript = msgspec.json.Decoder(_Transcript).decode


class EventDecoder:
    """Events of pictures or of a transcript, each kept as the provider's own bytes.

    A model that cannot stream a transcript answers with a whole one, which then is one delta and the end.
    """

    __slots__ = ("_events", "_read_usage", "_whole", "failure", "finished")

    def __init__(self, operation: str) -> None:
        self._events = SseDecoder()
        self._whole: bytes | None = None
        self._read_usage = picture_usage if operation in ("images", "image_edits") else transcript_usage
        self.finished = False
        self.failure: ProviderError | None = None

    def feed(self, data: bytes) -> list[Chunk]:
        chunks: list[Chunk] = []
        if self.failure is not None:
            return chunks
        if self._whole is None and data.lstrip().startswith(b"{"):
            self._whole = b""
        try:
            if self._whole is not None:
                return self._feed_whole(data)
            for payload in self._events.feed(data):
                if payload != b"[DONE]":
                    chunks.append(self._read(payload))
        except ProviderError as error:
            self.failure = error
        return chunks

    def _feed_whole(self, data: bytes) -> list[Chunk]:
        assert self._whole is not None
        self._whole += data
        if len(self._whole) > EVENT_LIMIT_BYTES:
            raise ProviderError(Failure.BROKEN, f"The provider's answer is over {EVENT_LIMIT_BYTES} bytes.")
        try:
            answer = _decode_transcript(self._whole)
        except MALFORMED:
            return []  # more of it may come
        self.finished = True
        usage = self._read_usage(bytes(answer.usage))
        delta = {"type": "transcript.text.delta", "delta": answer.text}
        done: dict[str, Any] = {"type": "transcript.text.done", "text": answer.text}
        if usage is not None:
            done["usage"] = msgspec.json.decode(answer.usage)  # an indented one would break its event
        return [
            Chunk(_encode(delta), text_bytes=len(answer.text.encode()), has_content=True),
            Chunk(_encode(done), usage=usage),
        ]

    def _read(self, payload: bytes) -> Chunk:
        try:
            event = _decode_event(payload)
        except MALFORMED as error:
            raise ProviderError(Failure.BROKEN, f"The provider sent a stream event that is none: {error}") from error
        if bytes(event.error) != b"null" or event.type == "error":
            raise stream_error(payload)
        said = len(event.delta.encode()) if event.delta is not None else 0
        if not event.type.endswith((".completed", ".done")):
            return Chunk(payload, text_bytes=said, has_content=True)
        self.finished = True
        counted = {"images": 1} if event.type.endswith(".completed") else {}
        usage = self._read_usage(bytes(event.usage))
        return Chunk(payload, text_bytes=said, has_content=True, usage=usage, counted=counted)


class SpeechDecoder:
    """Sound, whether it comes as itself or in events. There its usage comes with it."""

    __slots__ = ("_as_events", "_events", "_media_type", "_start", "failure", "finished")

    def __init__(self, request: WireRequest) -> None:
        raw = request.members.get("response_format")
        asked = msgspec.json.decode(raw) if raw is not None else None
        self._media_type = MEDIA_TYPES.get(asked or DEFAULT_FORMAT, "application/octet-stream")
        self._events = SseDecoder()
        self._as_events: bool | None = None if request.priced_by_tokens else False
        """None: it is not known yet whether the server does what it was asked for."""
        self._start = b""
        self.finished = False
        """Sound alone has no mark at its end: it may be over as soon as it has begun."""
        self.failure: ProviderError | None = None

    def feed(self, data: bytes) -> list[Chunk]:
        if self.failure is not None:
            return []
        if self._as_events is None:
            self._start += data
            if len(self._start) < len("event:"):
                return []
            data, self._start = self._start, b""
            self._as_events = data.startswith(SSE_BEGINNINGS)
        if not self._as_events:
            self.finished = True
            return [self._sound(data)]
        chunks: list[Chunk] = []
        try:
            for payload in self._events.feed(data):
                if payload != b"[DONE]":
                    self._read(payload, chunks)
        except ProviderError as error:
            self.failure = error
        return chunks

    def _sound(self, data: bytes) -> Chunk:
        return Chunk(data, has_content=bool(data), media_type=self._media_type)

    def _read(self, payload: bytes, chunks: list[Chunk]) -> None:
        try:
            event = _decode_event(payload)
            sound = base64.b64decode(event.audio) if event.audio else b""
        except (*MALFORMED, binascii.Error) as error:
            raise ProviderError(Failure.BROKEN, f"The provider sent a stream event that is none: {error}") from error
        if bytes(event.error) != b"null" or event.type == "error":
            raise stream_error(payload)
        if sound:
            chunks.append(self._sound(sound))
        if event.type.endswith(".done"):
            self.finished = True
            chunks.append(Chunk(b"", usage=speech_usage(bytes(event.usage)), media_type=self._media_type))
