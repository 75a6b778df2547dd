"""Transcripts as clients ask for them. Upstream they are asked for in a form that carries usage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from gateway.context import Trace
from gateway.errors import GatewayError, UpstreamError
from providers.types import Chunk

ASKED_AS = {
    "json": "json", "text": "json", "srt": "verbose_json", "vtt": "verbose_json", "verbose_json": "verbose_json",
    "diarized_json": "diarized_json",
}  # fmt: skip
"""What a provider is asked for, by what the client wants: plain text and subtitles say nothing of what they cost."""


class _Segment(msgspec.Struct):
    start: float
    end: float
    text: str


class _Transcript(msgspec.Struct):
    text: str
    segments: list[_Segment] | None = None
    duration: float | str | None = None


_decode = msgspec.json.Decoder(_Transcript).decode


def rendered(body: bytes, form: str) -> tuple[bytes, str]:
    """A provider's answer in the client's form, and its content type. Raises `UpstreamError` without segments."""
    if form not in ("text", "srt", "vtt"):
        return body, "application/json"
    transcript = _decode(body)
    text = f"{transcript.text}\n" if form == "text" else _subtitles(_segments(transcript), form)
    return text.encode(), "text/plain; charset=utf-8"


def _segments(transcript: _Transcript) -> list[_Segment]:
    if transcript.segments is not None:
        return transcript.segments
    if not transcript.text.strip():
        return []
    if transcript.duration is None:
        raise UpstreamError("The provider's transcript has no time stamps, so that there are no subtitles.")
    return [_Segment(0.0, float(transcript.duration), transcript.text)]


def _subtitles(segments: list[_Segment], form: str) -> str:
    point = "," if form == "srt" else "."
    blocks = []
    for number, segment in enumerate(segments, start=1):
        times = f"{_time(segment.start, point)} --> {_time(segment.end, point)}"
        text = segment.text.strip().replace("-->", "->")
        blocks.append(f"{number}\n{times}\n{text}\n" if form == "srt" else f"{times}\n{text}\n")
    return "\n".join(blocks if form == "srt" else ["WEBVTT\n", *blocks])


def _time(seconds: float, point: str) -> str:
    milliseconds = max(0, round(seconds * 1000))
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"


class TranscriptEvents:
    """A transcript piece by piece. See `gateway.streaming.Framing`."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    async def frame(self, chunks: Iterable[Chunk]) -> bytes:
        return b"".join([b"data: %b\n\n" % chunk.data for chunk in chunks])

    async def closing(self) -> bytes:
        return b""

    def units(self) -> Mapping[str, int]:
        return {}

    def broken(self, error: GatewayError) -> bytes | None:
        return b"data: %b\n\n" % error.envelope(self._trace.request_id)
