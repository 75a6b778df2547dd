"""What the mock answers to /images and /audio: valid files, made of the request, in OpenAI's shapes.

A token is four bytes, a picture is `PICTURE_TOKENS`, a second of sound `SECOND_TOKENS`. Source of the shapes: the type
definitions of the `openai` SDK 3.52.0.
"""

from __future__ import annotations

import base64
import email.parser
import email.policy
import time
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec

from providers.mock.pictures import sample_png
from providers.mock.requests import RequestRefusedError, read, token_count
from providers.mock.sounds import RATE, sample_pcm, sample_wav, wav_seconds
from providers.types import UpstreamRequest

PICTURE_TOKENS = 272
SECOND_TOKENS = 20
PACE_SECONDS = 0.025
PIECE_BYTES = RATE // 5
USUAL_SIZE = (1024, 1024)
LARGEST_SIDE = 3840


class ImageRequest(msgspec.Struct):
    model: str
    prompt: Annotated[str, msgspec.Meta(min_length=1)]
    n: Annotated[int, msgspec.Meta(ge=1, le=10)] | None = None
    size: str | None = None
    stream: bool | None = None
    partial_images: Annotated[int, msgspec.Meta(ge=0, le=3)] | None = None


class SpeechRequest(msgspec.Struct):
    model: str
    input: Annotated[str, msgspec.Meta(min_length=1)]
    response_format: Literal["wav", "pcm"] | None = None
    stream_format: Literal["audio", "sse"] | None = None


class Form(msgspec.Struct):
    """A multipart body: its texts, and its files in order."""

    fields: dict[str, str]
    files: list[bytes]


def images_body(asked: ImageRequest) -> dict[str, Any]:
    """A whole answer of /images."""
    count = asked.n or 1
    data = [{"b64_json": _picture(asked, f"{asked.prompt} {number}")} for number in range(count)]
    return {"created": int(time.time()), "data": data, "output_format": "png", "usage": _picture_usage(asked, count)}


def image_events(asked: ImageRequest, *, kind: str) -> Iterator[tuple[float, bytes]]:
    """The same as a stream: previews, then the picture. `kind` is image_generation or image_edit."""
    for number in range(asked.partial_images or 0):
        picture = _picture(asked, f"{asked.prompt} preview {number}")
        event = {"type": f"{kind}.partial_image", "b64_json": picture, "partial_image_index": number}
        yield PACE_SECONDS, _event(event)
    done = {"type": f"{kind}.completed", "b64_json": _picture(asked, f"{asked.prompt} 0"), "output_format": "png"}
    yield PACE_SECONDS, _event({**done, "created_at": int(time.time()), "usage": _picture_usage(asked, 1)})


def edit_request(form: Form) -> ImageRequest:
    """A form of /images/edits as a request of pictures. Raises `RequestRefusedError`."""
    if not form.files:
        raise RequestRefusedError("Missing required parameter: 'image'.", param="image")
    members = {name: value for name, value in form.fields.items() if name in ImageRequest.__struct_fields__}
    try:
        return msgspec.convert(members, ImageRequest, strict=False)
    except msgspec.ValidationError as error:
        raise RequestRefusedError(f"{error}.") from error


def speech_parts(asked: SpeechRequest) -> tuple[str, Iterator[tuple[float, bytes]]]:
    """The content type and the pieces of an answer of /audio/speech; mp3 is beyond the mock, so WAV is usual."""
    sound = sample_pcm(asked.input) if asked.response_format == "pcm" else sample_wav(asked.input)
    pieces = [sound[at : at + PIECE_BYTES] for at in range(0, len(sound), PIECE_BYTES)]
    if asked.stream_format != "sse":
        media_type = "audio/pcm" if asked.response_format == "pcm" else "audio/wav"
        return media_type, ((PACE_SECONDS, piece) for piece in pieces)
    return "text/event-stream; charset=utf-8", _speech_events(asked, pieces)


def transcript_reply(form: Form, *, verb: str) -> dict[str, Any] | Iterator[tuple[float, bytes]]:
    """An answer of /audio/transcriptions or translations; `verb` says which. Raises `RequestRefusedError`."""
    if not form.files:
        raise RequestRefusedError("Missing required parameter: 'file'.", param="file")
    size = len(form.files[0])
    seconds = wav_seconds(form.files[0]) or 1.0
    text = f"This is Bursar's offline mock. It {verb} a recording of {size} bytes."
    usage = {"type": "duration", "seconds": -int(-seconds // 1)}
    if form.fields.get("stream") == "true":
        return _transcript_events(text, usage)
    if form.fields.get("response_format") != "verbose_json":
        return {"text": text, "usage": usage}
    segment = {"id": 0, "start": 0.0, "end": seconds, "text": text}
    return {"task": "transcribe", "language": "english", "duration": seconds, "text": text, "segments": [segment],
            "usage": usage}  # fmt: skip


def read_form(request: UpstreamRequest) -> Form:
    """A multipart body as its parts. Raises `RequestRefusedError`."""
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + request.body)
    if not message.is_multipart():
        raise RequestRefusedError("We could not parse the form of your request.")
    form = Form({}, [])
    for part in message.iter_parts():
        content = part.get_payload(decode=True)
        name = part.get_param("name", header="content-disposition")
        if part.get_filename() is not None:
            form.files.append(bytes(content))
        else:
            form.fields[str(name)] = bytes(content).decode()
    return form


def read_images(body: bytes) -> ImageRequest:
    """Raises `RequestRefusedError`."""
    return read(body, ImageRequest)


def read_speech(body: bytes) -> SpeechRequest:
    """Raises `RequestRefusedError`."""
    return read(body, SpeechRequest)


def _picture(asked: ImageRequest, source: str) -> str:
    width, _, height = (asked.size or "").partition("x")
    is_size = (
        width.isdigit() and height.isdigit() and 0 < int(width) <= LARGEST_SIDE and 0 < int(height) <= LARGEST_SIDE
    )
    size = (int(width), int(height)) if is_size else USUAL_SIZE
    return base64.b64encode(sample_png(*size, source=source)).decode()


def _picture_usage(asked: ImageRequest, count: int) -> dict[str, Any]:
    text, made = token_count(asked.prompt), PICTURE_TOKENS * count
    return {
        "input_tokens": text,
        "output_tokens": made,
        "total_tokens": text + made,
        "input_tokens_details": {"text_tokens": text, "image_tokens": 0},
    }


def _speech_events(asked: SpeechRequest, pieces: list[bytes]) -> Iterator[tuple[float, bytes]]:
    for piece in pieces:
        yield PACE_SECONDS, _event({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()})
    counts = {
        "input_tokens": token_count(asked.input),
        "output_tokens": -(-sum(map(len, pieces)) * SECOND_TOKENS // (2 * RATE)),
    }
    usage = {**counts, "total_tokens": sum(counts.values())}
    yield 0.0, _event({"type": "speech.audio.done", "usage": usage})


def _transcript_events(text: str, usage: dict[str, Any]) -> Iterator[tuple[float, bytes]]:
    for word in text.split(" "):
        yield PACE_SECONDS, _event({"type": "transcript.text.delta", "delta": f"{word} "})
    yield 0.0, _event({"type": "transcript.text.done", "text": text, "usage": usage})


def _event(event: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(event))
