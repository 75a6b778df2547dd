"""OpenAI's pictures and sound: /images, /audio/speech, /audio/transcriptions and /audio/translations.

Source: the type definitions of the `openai` SDK 3.52.0. The streams are in `openai_media_streams`.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from providers.adapters.openai_media_streams import EventDecoder, SpeechDecoder
from providers.adapters.openai_media_usage import picture_usage, transcript_usage
from providers.adapters.openai_wire import GATEWAY_MEMBERS, authorization, stream_error
from providers.errors import Failure, ProviderError
from providers.failures import MALFORMED
from providers.types import Answer, StreamDecoder, Target, UpstreamRequest, Usage, WireFile, WireRequest

PATHS = {
    "images": "/images/generations",
    "image_edits": "/images/edits",
    "transcription": "/audio/transcriptions",
    "translation": "/audio/translations",
    "speech": "/audio/speech",
}

PICTURES = frozenset({"images", "image_edits"})

NULL = msgspec.Raw(b"null")
_encode = msgspec.json.encode
_decode = msgspec.json.decode


class _Pictures(msgspec.Struct):
    data: list[dict[str, Any]]
    usage: msgspec.Raw = NULL
    error: msgspec.Raw = NULL


class _Transcript(msgspec.Struct):
    text: str
    usage: msgspec.Raw = NULL
    duration: float | str | None = None


_decode_pictures = msgspec.json.Decoder(_Pictures).decode
_decode_transcript = msgspec.json.Decoder(_Transcript).decode


def build_request(request: WireRequest, target: Target, *, pictures_as: str | None) -> UpstreamRequest:
    """Write the request: as JSON, or as a form where it has files."""
    members: dict[str, Any] = {name: value for name, value in request.members.items() if name not in GATEWAY_MEMBERS}
    members["model"] = target.upstream_model
    if request.operation in PICTURES:
        members.pop("response_format", None)
        if pictures_as is not None and not request.stream:
            members["response_format"] = pictures_as
    elif request.operation == "speech":
        members.pop("stream_format", None)
        if request.priced_by_tokens:
            members["stream_format"] = "sse"  # sound alone comes without usage
    url = target.base_url + PATHS[request.operation]
    headers = {"accept": "text/event-stream" if request.stream else "*/*", **authorization(target)}
    if request.operation in ("images", "speech"):
        return UpstreamRequest(url=url, headers={"content-type": "application/json", **headers}, body=_encode(members))
    boundary = uuid.uuid4().hex
    return UpstreamRequest(
        url=url,
        headers={"content-type": f"multipart/form-data; boundary={boundary}", **headers},
        body=b"".join(_form(members, request.files, boundary=boundary)),
    )


def decoder(request: WireRequest) -> StreamDecoder:
    """What reads the stream that answers this request."""
    return SpeechDecoder(request) if request.operation == "speech" else EventDecoder(request.operation)


def read_answer(request: WireRequest, body: bytes) -> Answer:
    """Read a whole answer. Raises `ProviderError` for garbage."""
    try:
        return _pictures(body) if request.operation in PICTURES else _transcript(body)
    except MALFORMED as error:
        raise ProviderError(Failure.BROKEN, f"The provider's answer is not what it should be: {error}") from error


def _pictures(body: bytes) -> Answer:
    answer = _decode_pictures(body)
    if bytes(answer.error) != b"null":
        raise stream_error(body)
    if not answer.data:
        raise ProviderError(Failure.BROKEN, "The provider answered without any picture.")
    return Answer(
        body=body, usage=picture_usage(bytes(answer.usage)), text_bytes=0, counted={"images": len(answer.data)}
    )


def _transcript(body: bytes) -> Answer:
    answer = _decode_transcript(body)
    usage = transcript_usage(bytes(answer.usage))
    if usage is None and answer.duration is not None:  # as older servers say how long it was
        usage = _of_length(float(answer.duration))
    return Answer(body=body, usage=usage, text_bytes=len(answer.text.encode()))


def _of_length(seconds: float) -> Usage | None:
    if not 0 < seconds < 1_000_000:
        return None
    raw = _encode({"duration": seconds})
    return Usage(units={"seconds": math.ceil(seconds)}, input_tokens=0, output_tokens=0, raw=raw)


def _form(members: Mapping[str, Any], files: tuple[WireFile, ...], *, boundary: str) -> Iterator[bytes]:
    """The parts of a form: a list is a member that comes several times, its name in brackets."""
    for name, value in members.items():
        plain = _decode(value) if isinstance(value, msgspec.Raw) else value
        if plain is None:
            continue
        several = isinstance(plain, list)
        for item in plain if several else [plain]:
            text = item if isinstance(item, str) else _encode(item).decode()
            yield _head(boundary, f"{name}[]" if several else name)
            yield b"\r\n%b\r\n" % text.encode()
    fields = [file.field for file in files]
    for file in files:
        field = f"{file.field}[]" if fields.count(file.field) > 1 else file.field
        yield _head(boundary, field, filename=file.name)
        yield b"content-type: %b\r\n\r\n" % file.media_type.encode("latin-1", "replace")
        yield file.data
        yield b"\r\n"
    yield b"--%b--\r\n" % boundary.encode()


def _head(boundary: str, name: str, *, filename: str = "") -> bytes:
    """The head of one part, up to the line after its disposition."""
    disposition = f'--{boundary}\r\ncontent-disposition: form-data; name="{_quoted(name)}"'
    if filename:
        disposition += f'; filename="{_quoted(filename)}"'
    return f"{disposition}\r\n".encode()


def _quoted(text: str) -> str:
    """A name that cannot end its own quotes or its line."""
    return text.replace("\\", "_").replace('"', "_").replace("\r", " ").replace("\n", " ")
