"""The offline mock provider: OpenAI's wire protocol, answered in this process without a network.

Answers depend on the request's bytes alone (and `created` on the clock), so equal requests get equal texts.
A token is four UTF-8 bytes, rounded up; a picture, a sound or a file is `chat.ATTACHMENT_TOKENS`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from providers.adapters import openai_media
from providers.mock import chat, chat_wire, media, videos
from providers.mock.embeddings import embeddings_body
from providers.mock.requests import ChatRequest, EmbeddingsRequest, RequestRefusedError, read
from providers.types import UpstreamRequest

MODEL = {"id": "mock", "object": "model", "created": 0, "owned_by": "mock"}
"""It answers for every model; this one is listed so that a list is not empty."""


MEDIA_PATHS = frozenset(openai_media.PATHS.values())


class MockReply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as a server would send it."""

    status: int
    headers: dict[str, str]
    parts: Iterable[tuple[float, bytes]]
    """Seconds to wait before, and bytes: one part, or one part per server-sent event."""


def answer(request: UpstreamRequest) -> MockReply:
    """Answer a request to `mock://…`; a request that cannot be answered gets the vendor's error envelope."""
    digest = hashlib.sha256(request.body).hexdigest()
    try:
        return _answer(request, digest)
    except RequestRefusedError as refusal:
        return _json_reply({"error": refusal.error}, digest, status=refusal.status)
    except RecursionError:
        too_deep = RequestRefusedError("The request is nested too deeply for the mock.")
        return _json_reply({"error": too_deep.error}, digest, status=too_deep.status)


def _answer(request: UpstreamRequest, digest: str) -> MockReply:
    path = urlsplit(request.url).path
    if request.method == "GET" and path == "/models":
        return _json_reply({"object": "list", "data": [MODEL]}, digest)
    if (video := videos.look(path, method=request.method)) is not None:
        if isinstance(video, bytes):
            return MockReply(status=200, headers=_headers("video/mp4", digest), parts=[(0.0, video)])
        return _json_reply(video, digest)
    if request.method == "POST" and path == "/videos":
        return _json_reply(videos.begin(read(request.body, videos.VideoRequest), digest), digest)
    if request.method == "POST" and path in MEDIA_PATHS:
        return _media(request, path, digest=digest)
    if request.method != "POST" or path not in ("/chat/completions", "/embeddings"):
        raise RequestRefusedError(f"Unknown request URL: {request.method} {path}.", code="unknown_url", status=404)
    if path == "/embeddings":
        return _json_reply(embeddings_body(read(request.body, EmbeddingsRequest)), digest)
    asked = read(request.body, ChatRequest)
    completion = chat.complete(asked, digest)
    if not asked.stream:
        return _json_reply(chat_wire.body(completion), digest)
    with_usage = asked.stream_options is not None and asked.stream_options.include_usage is True
    return _stream_reply(chat_wire.events(completion, with_usage=with_usage), digest)


def _media(request: UpstreamRequest, path: str, *, digest: str) -> MockReply:
    if path == "/audio/speech":
        content_type, parts = media.speech_parts(media.read_speech(request.body))
        return MockReply(status=200, headers=_headers(content_type, digest), parts=parts)
    if path in ("/audio/transcriptions", "/audio/translations"):
        verb = "heard" if path == "/audio/transcriptions" else "translated"
        said = media.transcript_reply(media.read_form(request), verb=verb)
        return _json_reply(said, digest) if isinstance(said, dict) else _stream_reply(said, digest)
    is_edit = path == "/images/edits"
    asked = media.edit_request(media.read_form(request)) if is_edit else media.read_images(request.body)
    if asked.stream:
        return _stream_reply(media.image_events(asked, kind="image_edit" if is_edit else "image_generation"), digest)
    return _json_reply(media.images_body(asked), digest)


def _stream_reply(parts: Iterable[tuple[float, bytes]], digest: str) -> MockReply:
    return MockReply(status=200, headers=_headers("text/event-stream; charset=utf-8", digest), parts=parts)


def _json_reply(body: dict[str, Any], digest: str, *, status: int = 200) -> MockReply:
    encoded = msgspec.json.encode(body)
    return MockReply(status=status, headers=_headers("application/json", digest), parts=[(0.0, encoded)])


def _headers(content_type: str, digest: str) -> dict[str, str]:
    return {"content-type": content_type, "x-request-id": f"req_{digest[:32]}", "openai-processing-ms": "1"}
