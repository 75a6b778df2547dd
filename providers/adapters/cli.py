"""A command line program in a session of the pool: a line of JSON to it, lines of JSON back.

docs/reference/cli-backend.md has the protocol. What is run is a setting; a provider's row only says that it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from providers.chat_requests import Message, Part, read_chat
from providers.cli import CHAT_URL, HEALTH_URL
from providers.errors import Failure, ProviderError, UnsupportedError
from providers.failures import MALFORMED, failure_of_status
from providers.openai_shape import ChunkWriter, Said, completion
from providers.parameters import FOR_THE_GATEWAY, Handling, dropped_parameters
from providers.types import (
    Answer,
    Chunk,
    EmbeddingLimits,
    ModelPage,
    OnDisconnect,
    Target,
    UpstreamRequest,
    Usage,
    WireRequest,
)
from providers.usage import impossible, unbelievable

BASE_URL = "cli://pool"

SENT_AS_THEY_ARE = ("temperature", "top_p", "seed")
PARAMETERS: dict[str, Handling] = {
    **FOR_THE_GATEWAY,
    "messages": Handling.TRANSLATED,
    "max_tokens": Handling.TRANSLATED,
    "max_completion_tokens": Handling.TRANSLATED,
    "stop": Handling.TRANSLATED,
    **dict.fromkeys(SENT_AS_THEY_ARE, Handling.TRANSLATED),
    "response_format": Handling.TRANSLATED,
    "tools": Handling.REFUSED,
    "functions": Handling.REFUSED,
    "function_call": Handling.REFUSED,
    "n": Handling.REFUSED,
    "logprobs": Handling.REFUSED,
    "top_logprobs": Handling.REFUSED,
    "audio": Handling.REFUSED,
    "modalities": Handling.REFUSED,
    "web_search_options": Handling.REFUSED,
}

ROLES = {"developer": "system"}
MEDIA = {"image_url": "vision", "input_audio": "audio", "video_url": "video", "file": "documents"}

FINISH_REASONS = frozenset({"stop", "length", "content_filter"})
"""A reason that is not here is one that the protocol does not know: `stop`."""

FAILURES = {
    "invalid_request": Failure.REFUSED_INPUT,
    "overloaded": Failure.THROTTLED,
    "unauthorized": Failure.REFUSED_CREDENTIAL,
}
"""What a program's error codes mean; every other is its own trouble."""

UNNAMED_MODEL = "cli"
"""What answers are said to come from where the program does not name a model."""

NULL = msgspec.Raw(b"null")


class _Usage(msgspec.Struct):
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0


class _Event(msgspec.Struct):
    type: str = ""
    id: str = ""
    model: str = ""
    text: str = ""
    finish_reason: str | None = None
    usage: msgspec.Raw = NULL
    code: str = ""
    message: str = ""


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_usage = msgspec.json.Decoder(_Usage).decode
_encode = msgspec.json.encode


def read_usage(raw: bytes) -> Usage | None:
    """What a result says was used; None where it does not say. Cached tokens are not in `input_tokens` again."""
    if raw in (b"null", b"{}"):
        return None
    try:
        said = _decode_usage(raw)
    except MALFORMED as error:
        return unbelievable(raw, str(error))
    read, written = said.cache_read_input_tokens, said.cache_creation_input_tokens
    units = {"input": said.input_tokens, "cache_read": read, "cache_write_5m": written, "output": said.output_tokens}
    if problem := impossible(units):
        return unbelievable(raw, problem)
    return Usage(
        units={unit: count for unit, count in units.items() if count},
        input_tokens=said.input_tokens + read + written,
        output_tokens=said.output_tokens,
        cache_read_tokens=read,
        cache_write_tokens=written,
        raw=raw,
    )


class CliStreamDecoder:
    """Chunks of an answer's lines. A result may have the whole text where no delta came before it."""

    __slots__ = ("_tail", "_writer", "answer_id", "failure", "finish_reason", "finished", "model", "said", "usage")

    def __init__(self) -> None:
        self._writer: ChunkWriter | None = None
        self._tail = b""
        self.answer_id = self.model = ""
        self.said: list[str] = []
        self.usage: Usage | None = None
        self.finish_reason = ""
        self.finished = False
        self.failure: ProviderError | None = None

    def feed(self, data: bytes) -> list[Chunk]:
        """See `providers.types.StreamDecoder`."""
        chunks: list[Chunk] = []
        *lines, self._tail = (self._tail + data).split(b"\n")
        for line in lines:
            if self.failure is not None or self.finished:
                break
            if line.strip():
                self._read(line, chunks)
        return chunks

    def _read(self, line: bytes, chunks: list[Chunk]) -> None:
        try:
            event = _decode_event(line)
        except MALFORMED as error:
            self.failure = ProviderError(Failure.BROKEN, f"The CLI session wrote a line that is no event: {error}")
            return
        if event.type == "delta":
            self._say(event, event.text, chunks=chunks)
        elif event.type == "result":
            self._finish(event, chunks)
        elif event.type == "error":
            message = event.message or "The CLI session answered with an error."
            self.failure = ProviderError(FAILURES.get(event.code, Failure.BROKEN), message)

    def _say(self, event: _Event, text: str, *, chunks: list[Chunk]) -> ChunkWriter:
        writer = self._writer
        if writer is None:
            self.answer_id, self.model = f"chatcmpl-{event.id}", event.model or UNNAMED_MODEL
            writer = self._writer = ChunkWriter(self.answer_id, self.model)
            chunks.append(writer.role())
        if text:
            self.said.append(text)
            chunks.append(writer.content(_encode(text)))
        return writer

    def _finish(self, event: _Event, chunks: list[Chunk]) -> None:
        writer = self._say(event, "" if self.said else event.text, chunks=chunks)
        self.finish_reason = event.finish_reason if event.finish_reason in FINISH_REASONS else "stop"
        self.usage = read_usage(bytes(event.usage))
        self.finished = True
        chunks.append(writer.finish(self.finish_reason))
        if self.usage is not None:
            chunks.append(writer.usage(self.usage))


class CliAdapter:
    """See `providers.types.Adapter`. The transport gives `cli:` to `providers.cli.pool.SessionPool`."""

    kind = "cli"
    operations = frozenset({"chat"})
    capabilities = frozenset({"chat", "stream"})
    links: frozenset[str] = frozenset()
    fixed_base_url: str | None = BASE_URL
    keeps_continuations = False
    embeddings_at_once: EmbeddingLimits | None = None
    on_disconnect = OnDisconnect.ABORT
    """The session is killed with its program, which asks nobody any further."""

    def build_request(self, request: WireRequest, target: Target) -> UpstreamRequest:
        dropped = dropped_parameters(request.members, PARAMETERS, provider="A CLI session")
        chat = read_chat(request.members)
        if chat.response_format is not None and chat.response_format.type != "text":
            raise UnsupportedError("json_schema", "A CLI session answers in text.", param="response_format")
        body: dict[str, Any] = {
            "type": "request",
            "model": target.upstream_model,
            "stream": request.stream,
            "messages": [_message(message, f"messages[{n}]") for n, message in enumerate(chat.messages)],
        }
        limit = request.max_output_tokens or chat.output_limit
        if limit is not None:
            body["max_tokens"] = limit
        if chat.stops:
            body["stop"] = chat.stops
        body |= {name: value for name in SENT_AS_THEY_ARE if (value := getattr(chat, name)) is not None}
        return UpstreamRequest(url=CHAT_URL, headers={}, body=_encode(body), dropped_parameters=tuple(dropped))

    def decoder(self, request: WireRequest | None = None) -> CliStreamDecoder:
        return CliStreamDecoder()

    def parse_response(self, request: WireRequest, body: bytes) -> Answer:
        decoder = CliStreamDecoder()
        decoder.feed(body)
        if decoder.failure is not None:
            raise decoder.failure
        if not decoder.finished:
            raise ProviderError(Failure.BROKEN, "The CLI session's answer has no result.")
        said = Said(content="".join(decoder.said))
        written = completion(
            decoder.answer_id, decoder.model, said=said, finish_reason=decoder.finish_reason, usage=decoder.usage
        )
        return Answer(body=written, usage=decoder.usage, text_bytes=said.text_bytes)

    def parse_error(self, status: int, *, headers: Mapping[str, str], body: bytes) -> ProviderError:
        message = "No CLI session is ready." if status == 503 else "Only web processes know of their CLI sessions."
        return ProviderError(failure_of_status(status), message, status=status)

    def list_models(self, target: Target, *, page: str | None = None) -> UpstreamRequest:
        return self.check_health(target)

    def parse_models(self, body: bytes) -> ModelPage:
        """A program does not say which models it has."""
        return ModelPage(models=[])

    def check_health(self, target: Target) -> UpstreamRequest:
        return UpstreamRequest(url=HEALTH_URL, headers={}, body=b"", method="GET")


def _message(message: Message, place: str) -> dict[str, str]:
    """A message as a role and a text. Raises `UnsupportedError` for what is neither."""
    if message.role in ("tool", "function") or message.tool_calls or message.function_call:
        raise UnsupportedError("tools", "A CLI session knows no tools.", param=place)
    content = message.content
    if isinstance(content, list):
        text = "\n".join(_text(part, f"{place}.content[{n}]") for n, part in enumerate(content))
    else:
        text = content or message.refusal or ""
    said = {"role": ROLES.get(message.role, message.role), "content": text}
    return said | ({"name": message.name} if message.name else {})


def _text(part: Part, place: str) -> str:
    if part.type in MEDIA:
        raise UnsupportedError(MEDIA[part.type], "A CLI session takes text only.", param=place)
    return part.text or part.refusal or ""


ADAPTER = CliAdapter()
