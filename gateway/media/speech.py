"""Speech on its way to the client: bytes or events, at once, and kept when all of it is there."""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import mutagen

from billing.estimates import speech_second_bound, speech_token_bound
from gateway.context import MediaFacts, Trace
from gateway.errors import GatewayError
from gateway.media.generated import kept, told
from gateway.media.storage import StoredFile
from providers.types import Chunk

if TYPE_CHECKING:
    from gateway.runtime import Gateway

PCM_BYTES_PER_SECOND = 48_000
"""OpenAI's and Gemini's: 24 kHz, 16 bits, one channel, no head."""

RIFF_HEAD_BYTES = 44

_encode = msgspec.json.encode


def speech_facts(text: str) -> MediaFacts:
    """What it may cost to have a text spoken."""
    length = len(text)
    return MediaFacts(
        output_tokens=speech_token_bound(length),
        known={"characters": length},
        held={"seconds": speech_second_bound(length)},
    )


class SpeechBytes:
    """Sound as it is. See `gateway.streaming.Framing`."""

    def __init__(self, gateway: Gateway, trace: Trace, *, media_type: str, file_id: str = "") -> None:
        self._gateway = gateway
        self._trace = trace
        self.file_id = file_id
        self.stored: StoredFile | None = None
        """Where it is kept, once all of it is there."""
        self.media_type = media_type
        self.sound = bytearray()
        self.failure: GatewayError | None = None

    async def frame(self, chunks: Iterable[Chunk]) -> bytes:
        piece = b"".join([chunk.data for chunk in chunks])
        self.sound += piece
        return piece

    async def closing(self) -> bytes:
        whole = with_lengths(bytes(self.sound))
        self.stored = await kept(self._gateway, whole, trace=self._trace, mime=self.media_type, file_id=self.file_id)
        return b""

    def inline(self) -> dict[str, Any]:
        """The sound itself, for a client that would have had a URL."""
        return {"audio": base64.b64encode(with_lengths(bytes(self.sound))).decode()}

    def units(self) -> Mapping[str, int]:
        """How long it lasts, where the model's price asks for that."""
        target = self._trace.target
        price = self._gateway.directory.prices.at(target.model_id, self._trace.started_at) if target else None
        if price is None or not price.most_pico_usd({"seconds": 1}):
            return {}
        return {"seconds": seconds_of_sound(bytes(self.sound), self.media_type)}

    def broken(self, error: GatewayError) -> bytes | None:
        self.failure = error
        return None


class SpeechEvents(SpeechBytes):
    """Sound in OpenAI's events, the last of which says where it is kept."""

    async def frame(self, chunks: Iterable[Chunk]) -> bytes:
        piece = await super().frame(chunks)
        if not piece:
            return b""
        return _event({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()})

    async def closing(self) -> bytes:
        await super().closing()
        done: dict[str, Any] = {"type": "speech.audio.done", **usage_of(self._trace)}
        return _event(done | (told(self._gateway, self.stored) if self.stored is not None else {}))

    def broken(self, error: GatewayError) -> bytes | None:
        return b"data: %b\n\n" % error.envelope(self._trace.request_id)


def usage_of(trace: Trace) -> dict[str, Any]:
    """OpenAI's usage of speech, where tokens are what was counted."""
    usage = trace.usage
    if usage is None or not (usage.input_tokens or usage.output_tokens):
        return {}
    counts = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    return {"usage": {**counts, "total_tokens": sum(counts.values())}}


def seconds_of_sound(sound: bytes, media_type: str) -> int:
    """How long it lasts; a second that was begun counts, and sound that cannot be read counts as none."""
    if media_type == "audio/pcm":
        return -(-len(sound) // PCM_BYTES_PER_SECOND)
    try:
        found = mutagen.File(io.BytesIO(with_lengths(sound)))
    except (mutagen.MutagenError, OSError, ValueError, struct.error, IndexError):
        return 0
    length = getattr(getattr(found, "info", None), "length", None) or 0
    return -int(-length // 1)


def with_lengths(sound: bytes) -> bytes:
    """A WAV that was written while its length was not known, with what its head has to say."""
    if len(sound) < RIFF_HEAD_BYTES:
        return sound
    riff, data = struct.pack("<I", len(sound) - 8), struct.pack("<I", len(sound) - RIFF_HEAD_BYTES)
    is_wav = sound[:4] == b"RIFF" and sound[36:40] == b"data"
    if not is_wav or sound[4:8] == riff:
        return sound
    return b"RIFF" + riff + sound[8:40] + data + sound[RIFF_HEAD_BYTES:]


def _event(event: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % _encode(event)
