"""Pictures and sound between OpenAI's words and the vendors' bytes, without a network."""

from __future__ import annotations

import base64
import io
from typing import Any

import msgspec
import mutagen
import pytest
from PIL import Image

from providers.adapters import google, openai, openai_compatible
from providers.errors import Failure, UnsupportedError
from providers.mock.documents import pdf_text, sample_pdf
from providers.mock.films import sample_mp4
from providers.mock.pictures import sample_png
from providers.mock.sounds import sample_wav
from providers.types import Chunk, StreamDecoder, Target, WireFile, WireRequest
from tests.fakes.openai.media import parse_form

TARGET = Target(
    deployment_id=1, model_id=1, model_name="m", provider_name="p", kind="openai", base_url="https://x.test/v1",
    allow_private_network=False, secret="sk-1", upstream_model="gemini-3-pro-image",
)  # fmt: skip
PICTURE = WireFile(field="image", name="image.png", media_type="image/png", data=b"\x89PNG\r\n--x\r\n")


def wire(operation: str, *files: WireFile, tokens: bool = False, **members: Any) -> WireRequest:
    raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in members.items()}
    stream = operation == "speech" or members.get("stream") is True
    return WireRequest(operation=operation, members=raw, files=files, stream=stream, priced_by_tokens=tokens)


def fed(decoder: StreamDecoder, data: bytes, size: int) -> list[Chunk]:
    return [chunk for at in range(0, len(data), size) for chunk in decoder.feed(data[at : at + size])]


def test_a_form_carries_everything_as_it_is() -> None:
    request = wire("image_edits", PICTURE, PICTURE, prompt='a "quoted" é', n=2, include=["a", "b"], stream=False)
    sent = openai.ADAPTER.build_request(request, TARGET)
    assert sent.url == "https://x.test/v1/images/edits" and sent.headers["authorization"] == "Bearer sk-1"
    body = parse_form(sent.headers["content-type"], sent.body)
    assert (body["prompt"], body["n"], body["include"], body["stream"]) == ('a "quoted" é', "2", ["a", "b"], "false")
    assert body["model"] == "gemini-3-pro-image" and [content for _, _, content in body["image"]] == [PICTURE.data] * 2


def test_names_cannot_leave_their_quotes() -> None:
    request = wire("transcription", PICTURE, **{'a"\r\nx-evil: 1': "v"})
    assert b"\nx-evil" not in openai.ADAPTER.build_request(request, TARGET).body


@pytest.mark.parametrize(("adapter", "asked"), [(openai.ADAPTER, None), (openai_compatible.ADAPTER, "b64_json")])
def test_who_is_asked_for_base64(adapter: Any, asked: str | None) -> None:
    sent = adapter.build_request(wire("images", prompt="x", response_format="url"), TARGET)
    assert msgspec.json.decode(sent.body).get("response_format") == asked


def events(*payloads: dict[str, Any]) -> bytes:
    return b"".join(b"event: x\ndata: %b\n\n" % msgspec.json.encode(payload) for payload in payloads)


SPOKEN = events(
    {"type": "speech.audio.delta", "audio": base64.b64encode(b"abc").decode()},
    {"type": "speech.audio.delta", "audio": base64.b64encode(b"defg").decode()},
    {"type": "speech.audio.done", "usage": {"input_tokens": 3, "output_tokens": 7}},
)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_speech_in_any_split(size: int) -> None:
    decoder = openai.ADAPTER.decoder(wire("speech", tokens=True, response_format="wav"))
    chunks = fed(decoder, SPOKEN, size)
    assert b"".join(chunk.data for chunk in chunks) == b"abcdefg" and decoder.finished
    assert {chunk.media_type for chunk in chunks} == {"audio/wav"}
    usage = chunks[-1].usage
    assert usage is not None and usage.units == {"input": 3, "audio_output": 7}


@pytest.mark.parametrize("size", [1, 1000])
def test_a_server_that_speaks_without_events_is_heard_all_the_same(size: int) -> None:
    decoder = openai_compatible.ADAPTER.decoder(wire("speech", tokens=True))
    chunks = fed(decoder, b"RIFFxxxxWAVE", size)
    assert b"".join(chunk.data for chunk in chunks) == b"RIFFxxxxWAVE" and decoder.finished


def test_sound_that_stops_before_its_end_is_not_finished() -> None:
    decoder = openai.ADAPTER.decoder(wire("speech", tokens=True))
    decoder.feed(SPOKEN[:60])
    assert not decoder.finished
    decoder.feed(b'\n\ndata: {"error": {"message": "no more"}}\n\n')
    assert decoder.failure is not None and decoder.failure.failure is Failure.BROKEN


@pytest.mark.parametrize(
    ("usage", "units"),
    [
        ({"type": "duration", "seconds": 1.2}, {"seconds": 2}),
        ({"type": "tokens", "input_tokens": 5, "output_tokens": 2}, {"audio_input": 5, "output": 2}),
        ({"input_tokens": 5, "output_tokens": 2, "input_token_details": {"audio_tokens": 4, "text_tokens": 1}},
         {"input": 1, "audio_input": 4, "output": 2}),
    ],
)  # fmt: skip
def test_what_a_transcript_used(usage: dict[str, Any], units: dict[str, int]) -> None:
    body = msgspec.json.encode({"text": "hi", "usage": usage})
    answer = openai.ADAPTER.parse_response(wire("transcription"), body)
    assert answer.usage is not None and answer.usage.units == units


@pytest.mark.parametrize("usage", [{"seconds": -1}, {"input_tokens": "x"}, {"input_tokens": -4}, {"seconds": 1e300}])
def test_nonsense_is_not_believed(usage: dict[str, Any]) -> None:
    body = msgspec.json.encode({"text": "hi", "usage": usage})
    answer = openai.ADAPTER.parse_response(wire("transcription"), body)
    assert answer.usage is not None and answer.usage.problem and not answer.usage.units


@pytest.mark.parametrize(
    ("operation", "members", "named"),
    [
        ("images", {"prompt": "x", "n": 2}, "n"),
        ("speech", {"input": "x", "response_format": "mp3"}, "response_format"),
        ("transcription", {"response_format": "verbose_json"}, "response_format"),
    ],
)
def test_what_gemini_does_not_do(operation: str, members: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedError) as refused:
        google.ADAPTER.build_request(wire(operation, **members), TARGET)
    assert refused.value.param == named


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ("1024x1024", {"aspectRatio": "1:1"}),
        ("1920x1080", {"aspectRatio": "16:9", "imageSize": "2K"}),
        ("2160x3840", {"aspectRatio": "9:16", "imageSize": "4K"}),
        ("auto", None),
    ],
)
def test_pixels_as_shapes(size: str, shape: dict[str, str] | None) -> None:
    body = msgspec.json.decode(google.ADAPTER.build_request(wire("images", prompt="x", size=size), TARGET).body)
    assert body["generationConfig"].get("imageConfig") == shape


def test_a_picture_that_was_not_made_is_the_prompts_fault() -> None:
    body = msgspec.json.encode({"candidates": [{"finishReason": "NO_IMAGE"}], "usageMetadata": {}})
    with pytest.raises(Exception, match="made no picture") as refused:
        google.ADAPTER.parse_response(wire("images", prompt="x"), body)
    assert refused.value.failure is Failure.REFUSED_INPUT  # type: ignore[attr-defined]


def test_the_mocks_files_are_what_they_say() -> None:
    with Image.open(io.BytesIO(sample_png(64, 48, source="x"))) as picture:
        picture.load()
        assert picture.size == (64, 48)
    film, sound = sample_mp4(64, 48, seconds=3, source="x"), sample_wav("one two three")
    assert mutagen.File(io.BytesIO(film)).info.length == 3.0
    assert mutagen.File(io.BytesIO(sound)).info.length == pytest.approx(0.6)
    assert pdf_text(sample_pdf("What (it) says")) == "What (it) says" and pdf_text(b"nothing") == ""
