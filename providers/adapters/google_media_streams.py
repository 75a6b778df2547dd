"""Gemini's streams of sound, pictures and transcripts. See `providers.types.StreamDecoder`."""

from __future__ import annotations

import base64
import binascii
import re
import struct
import time
from typing import Any

import msgspec

from providers.adapters.google_answers import decode_answer, explain, finish_reason_of, read_usage
from providers.adapters.google_media_usage import picture_usage_object, transcript_usage_object
from providers.errors import Failure, ProviderError
from providers.failures import MALFORMED
from providers.sse import SseDecoder
from providers.types import Chunk, Usage

RATE = re.compile(r"rate=(\d{4,6})")
USUAL_RATE = 24_000
BYTES_PER_SAMPLE = 2
LENGTH_UNKNOWN = 0xFFFFFFFF
"""Stands in the head of a WAV that is sent while it is made."""

_encode = msgspec.json.encode


class _Decoder:
    """What the three have in common: events in, parts out. There is no terminator but the finish reason."""

    def __init__(self) -> None:
        self._events = SseDecoder()
        self.finished = False
        self.failure: ProviderError | None = None

    def feed(self, data: bytes) -> list[Chunk]:
        chunks: list[Chunk] = []
        if self.failure is not None:
            return chunks
        try:
            for payload in self._events.feed(data):
                self._read(payload, chunks)
        except ProviderError as error:
            self.failure = error
        return chunks

    def _read(self, payload: bytes, chunks: list[Chunk]) -> None:
        try:
            answer = decode_answer(payload)
            if answer.error is not None:
                raise explain(answer.error, answer.error.code)
            reason = None
            if answer.prompt_feedback is not None and answer.prompt_feedback.block_reason is not None:
                reason = "content_filter"
            for candidate in answer.candidates[:1]:
                for part in candidate.content.parts if candidate.content is not None else ():
                    if part.inline_data is not None:
                        self.media(part.inline_data.mime_type, part.inline_data.data, chunks=chunks)
                    elif bytes(part.text) != b"null" and not part.thought:
                        self.text(msgspec.json.decode(part.text, type=str), chunks)
                if candidate.finish_reason is not None:
                    reason = finish_reason_of(candidate.finish_reason, calls=False, message=candidate.finish_message)
        except (*MALFORMED, binascii.Error) as error:
            raise ProviderError(Failure.BROKEN, f"The provider sent a stream event that is none: {error}") from error
        if reason is not None:
            self.finished = True
            self.end(reason, read_usage(bytes(answer.usage_metadata)), chunks=chunks)

    def media(self, media_type: str, data: str, *, chunks: list[Chunk]) -> None:
        """A picture or sound, in base64."""

    def text(self, said: str, chunks: list[Chunk]) -> None:
        """Words."""

    def end(self, reason: str, usage: Usage | None, *, chunks: list[Chunk]) -> None:
        """The last event."""
        raise NotImplementedError


class SpeechDecoder(_Decoder):
    """Sound as bytes; as WAV it has a head before it."""

    def __init__(self, *, as_wav: bool) -> None:
        super().__init__()
        self._media_type = "audio/wav" if as_wav else "audio/pcm"
        self._has_head = not as_wav
        self._rate = USUAL_RATE
        self._size = 0

    def media(self, media_type: str, data: str, *, chunks: list[Chunk]) -> None:
        found = RATE.search(media_type)
        self._rate = int(found[1]) if found else USUAL_RATE
        sound = base64.b64decode(data)
        self._size += len(sound)
        head = b"" if self._has_head else wav_head(self._rate)
        self._has_head = True
        chunks.append(Chunk(head + sound, has_content=True, media_type=self._media_type))

    def end(self, reason: str, usage: Usage | None, *, chunks: list[Chunk]) -> None:
        if not self._size:
            message = f"The model said nothing; it ended with {reason}."
            raise ProviderError(Failure.REFUSED_INPUT, message, status=400, param="input")
        seconds = -(-self._size // (self._rate * BYTES_PER_SAMPLE))
        chunks.append(Chunk(b"", usage=usage, media_type=self._media_type, counted={"seconds": seconds}))


class TranscriptDecoder(_Decoder):
    """OpenAI's transcript events."""

    def __init__(self) -> None:
        super().__init__()
        self._said: list[str] = []

    def text(self, said: str, chunks: list[Chunk]) -> None:
        if said:
            self._said.append(said)
            event = {"type": "transcript.text.delta", "delta": said}
            chunks.append(Chunk(_encode(event), text_bytes=len(said.encode()), has_content=True))

    def end(self, reason: str, usage: Usage | None, *, chunks: list[Chunk]) -> None:
        event: dict[str, Any] = {"type": "transcript.text.done", "text": "".join(self._said)}
        if usage is not None:
            event["usage"] = transcript_usage_object(usage)
        chunks.append(Chunk(_encode(event), has_content=True, usage=usage))


class PictureDecoder(_Decoder):
    """OpenAI's picture events: one for each picture, at the end, where the usage is."""

    def __init__(self, operation: str) -> None:
        super().__init__()
        self._type = "image_edit.completed" if operation == "image_edits" else "image_generation.completed"
        self._pictures: list[tuple[str, str]] = []

    def media(self, media_type: str, data: str, *, chunks: list[Chunk]) -> None:
        if media_type.startswith("image/"):
            self._pictures.append((media_type, data))

    def end(self, reason: str, usage: Usage | None, *, chunks: list[Chunk]) -> None:
        if not self._pictures:
            message = f"The model made no picture; it ended with {reason}."
            raise ProviderError(Failure.REFUSED_INPUT, message, status=400, param="prompt")
        for media_type, data in self._pictures:
            event: dict[str, Any] = {
                "type": self._type,
                "b64_json": data,
                "created_at": int(time.time()),
                "output_format": media_type.removeprefix("image/"),
            }
            if usage is not None:
                event["usage"] = picture_usage_object(usage)
            chunks.append(Chunk(_encode(event), has_content=True, usage=usage, counted={"images": 1}))


def wav_head(rate: int) -> bytes:
    """The head of a WAV of 16-bit mono whose length is not known yet."""
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF", LENGTH_UNKNOWN, b"WAVE", b"fmt ", 16, 1, 1, rate, rate * BYTES_PER_SAMPLE, BYTES_PER_SAMPLE, 16,
        b"data", LENGTH_UNKNOWN,
    )  # fmt: skip
