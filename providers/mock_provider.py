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

from providers.mock import chat, chat_wire
from providers.mock.embeddings import embeddings_body
from providers.mock.requests import ChatRequest, EmbeddingsRequest, RequestRefusedError, read
from providers.types import UpstreamRequest


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
    if request.method != "POST" or path not in ("/chat/completions", "/embeddings"):
        raise RequestRefusedError(f"Unknown request URL: {request.method} {path}.", code="unknown_url", status=404)
    if path == "/embeddings":
        return _json_reply(embeddings_body(read(request.body, EmbeddingsRequest)), digest)
    asked = read(request.body, ChatRequest)
    completion = chat.complete(asked, digest)
    if not asked.stream:
        return _json_reply(chat_wire.body(completion), digest)
    with_usage = asked.stream_options is not None and asked.stream_options.include_usage is True
    return MockReply(
        status=200,
        headers=_headers("text/event-stream; charset=utf-8", digest),
        parts=chat_wire.events(completion, with_usage=with_usage),
    )


def _json_reply(body: dict[str, Any], digest: str, *, status: int = 200) -> MockReply:
    encoded = msgspec.json.encode(body)
    return MockReply(status=status, headers=_headers("application/json", digest), parts=[(0.0, encoded)])


def _headers(content_type: str, digest: str) -> dict[str, str]:
    return {"content-type": content_type, "x-request-id": f"req_{digest[:32]}", "openai-processing-ms": "1"}
