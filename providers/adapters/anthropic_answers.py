"""Anthropic's answers, whole and streamed, into OpenAI's shape. Text is never decoded: JSON goes from JSON to JSON."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec

from providers.errors import Failure, ProviderError
from providers.failures import MALFORMED
from providers.openai_shape import ChunkWriter, Said, completion
from providers.sse import SseDecoder
from providers.types import Answer, Chunk, Continuation, Usage
from providers.usage import impossible, unbelievable

KIND = "anthropic"

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""A reason that is not here is one that did not exist yet: `stop`."""

FAILURES = {
    "invalid_request_error": Failure.REFUSED_INPUT,
    "request_too_large": Failure.REFUSED_INPUT,
    "authentication_error": Failure.REFUSED_CREDENTIAL,
    "billing_error": Failure.REFUSED_CREDENTIAL,
    "permission_error": Failure.REFUSED_CREDENTIAL,
    "rate_limit_error": Failure.THROTTLED,
}
"""What an error event means; everything else is the provider's own trouble."""

NULL = msgspec.Raw(b"null")
THOUGHTS = frozenset({"thinking", "redacted_thinking"})


class _Delta(msgspec.Struct, gc=False):
    type: str = ""
    text: msgspec.Raw = NULL
    thinking: msgspec.Raw = NULL
    partial_json: msgspec.Raw = NULL
    signature: msgspec.Raw = NULL
    stop_reason: str | None = None


class _Block(msgspec.Struct):
    type: str = ""
    id: str = ""
    name: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    data: str = ""
    input: msgspec.Raw = NULL


class _Head(msgspec.Struct):
    id: str = ""
    model: str = ""
    usage: msgspec.Raw = NULL


class _Error(msgspec.Struct):
    type: str = ""
    message: str = ""


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: _Block | None = None
    message: _Head | None = None
    usage: msgspec.Raw = NULL
    error: _Error | None = None


class _Message(msgspec.Struct):
    content: list[_Block]
    id: str = ""
    model: str = ""
    stop_reason: str | None = None
    usage: msgspec.Raw = NULL


class _CacheCreation(msgspec.Struct):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class _ServerTools(msgspec.Struct):
    web_search_requests: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens_details: _OutputDetails | None = None
    server_tool_use: _ServerTools | None = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_message = msgspec.json.Decoder(_Message).decode
_decode_usage = msgspec.json.Decoder(_Usage).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.encode


def read_usage(raw: bytes) -> Usage | None:
    """Normalise a usage object; None where there is none.

    `input_tokens` are the uncached ones there; thinking is a part of `output_tokens`.
    """
    if raw == b"null":
        return None
    try:
        usage = _decode_usage(raw)
    except MALFORMED as error:
        return unbelievable(raw, str(error))
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    cache_read, cache_write = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    by_lifetime = usage.cache_creation or _CacheCreation()
    an_hour = by_lifetime.ephemeral_1h_input_tokens or 0
    cache_write = max(cache_write, an_hour + (by_lifetime.ephemeral_5m_input_tokens or 0))
    reasoning = usage.output_tokens_details.thinking_tokens or 0 if usage.output_tokens_details else 0
    units = {
        "input": usage.input_tokens,
        "cache_read": cache_read,
        "cache_write_5m": cache_write - an_hour,
        "cache_write_1h": an_hour,
        "output": usage.output_tokens - reasoning,
        "reasoning": reasoning,
        "searches": usage.server_tool_use.web_search_requests or 0 if usage.server_tool_use else 0,
    }
    if problem := impossible(units):
        return unbelievable(raw, problem)
    return Usage(
        units={unit: count for unit, count in units.items() if count},
        input_tokens=usage.input_tokens + cache_read + cache_write,
        output_tokens=usage.output_tokens,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        reasoning_tokens=reasoning,
        raw=raw,
    )


def read_answer(body: bytes) -> Answer:
    """A whole answer. Raises `ProviderError` for garbage."""
    try:
        message = _decode_message(body)
    except MALFORMED as error:
        raise ProviderError(Failure.BROKEN, f"The provider's answer is not what it should be: {error}") from error
    blocks = message.content
    calls = [(block.id, block.name, _arguments(block.input)) for block in blocks if block.type == "tool_use"]
    said = Said(
        content="".join(block.text for block in blocks if block.type == "text"),
        reasoning="".join(block.thinking for block in blocks if block.type == "thinking"),
        calls=calls,
    )
    usage = read_usage(bytes(message.usage))
    finish_reason = FINISH_REASONS.get(message.stop_reason or "", "stop")
    return Answer(
        body=completion(message.id, message.model, said=said, finish_reason=finish_reason, usage=usage),
        usage=usage,
        text_bytes=said.text_bytes,
        continuation=_continuation([_kept(block) for block in blocks]),
    )


def _arguments(raw: msgspec.Raw) -> str:
    return "{}" if bytes(raw) == b"null" else bytes(raw).decode()


def _kept(block: _Block) -> dict[str, Any]:
    """What of a block must be known to send the turn back: thoughts whole, of the rest only which it was."""
    if block.type == "thinking":
        return {"type": "thinking", "thinking": block.thinking, "signature": block.signature}
    if block.type == "redacted_thinking":
        return {"type": "redacted_thinking", "data": block.data}
    return {"type": block.type, "id": block.id} if block.type == "tool_use" else {"type": block.type}


def _continuation(kept: list[dict[str, Any]]) -> Continuation | None:
    """A turn's thoughts, in their places; None for a turn that needs none sent back."""
    calls = [block["id"] for block in kept if block["type"] == "tool_use"]
    if not calls or not any(block["type"] in THOUGHTS for block in kept):
        return None
    kept = [block for block in kept if block["type"] in THOUGHTS or block["type"] in ("text", "tool_use")]
    return Continuation(call_id=calls[0], kind=KIND, data=_encode(kept))


class AnthropicStreamDecoder:
    """Chunks of a Messages stream. See `providers.types.StreamDecoder`."""

    __slots__ = (
        "_arguments_said", "_blocks", "_calls", "_events", "_pieces", "_usage", "_writer", "failure", "finished",
    )  # fmt: skip

    def __init__(self) -> None:
        self._events = SseDecoder()
        self._writer = ChunkWriter("", "")
        self._blocks: dict[int, _Block] = {}
        self._pieces: defaultdict[tuple[int, str], list[bytes]] = defaultdict(list)
        self._calls = 0
        self._arguments_said = False
        self._usage = b"{}"
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
            event = _decode_event(payload)
        except MALFORMED as error:
            raise ProviderError(Failure.BROKEN, f"The provider sent a stream event that is none: {error}") from error
        kind = event.type
        if kind == "content_block_delta":
            if event.delta is not None:
                self._delta(event.delta, event.index, chunks=chunks)
        elif kind == "content_block_start":
            if event.content_block is not None:
                self._start(event.content_block, event.index, chunks=chunks)
        elif kind == "content_block_stop":
            self._stop(event.index, chunks=chunks)
        elif kind == "message_start":
            head = event.message or _Head()
            self._writer = ChunkWriter(head.id, head.model)
            self._usage = bytes(head.usage)
            chunks.append(self._writer.role())
        elif kind == "message_delta":
            self._end(event, chunks)
        elif kind == "message_stop":
            self.finished = True
        elif kind == "error":
            told = event.error or _Error()
            message = told.message or told.type or "The provider ended the stream with an error."
            raise ProviderError(FAILURES.get(told.type, Failure.BROKEN), message)

    def _delta(self, delta: _Delta, index: int, *, chunks: list[Chunk]) -> None:
        kind = delta.type
        if kind == "text_delta":
            text = bytes(delta.text)
            if _speaks(text):
                chunks.append(self._writer.content(text))
        elif kind == "input_json_delta":
            piece = bytes(delta.partial_json)
            if _speaks(piece):
                self._arguments_said = True
                chunks.append(self._writer.arguments(self._calls - 1, piece))
        elif kind == "thinking_delta":
            thought = bytes(delta.thinking)
            if _speaks(thought):
                self._pieces[index, "thinking"].append(thought[1:-1])
                chunks.append(self._writer.reasoning(thought))
        elif kind == "signature_delta":
            signature = bytes(delta.signature)
            if _speaks(signature):
                self._pieces[index, "signature"].append(signature[1:-1])

    def _start(self, block: _Block, index: int, *, chunks: list[Chunk]) -> None:
        self._blocks[index] = block
        if block.type == "tool_use":
            chunks.append(self._writer.call(self._calls, block.id, name=block.name))
            self._calls += 1
            self._arguments_said = False
        elif block.type == "text" and block.text:
            chunks.append(self._writer.content(_encode(block.text)))
        elif block.type == "thinking" and block.thinking:
            chunks.append(self._writer.reasoning(_encode(block.thinking)))

    def _stop(self, index: int, *, chunks: list[Chunk]) -> None:
        """A call that came without pieces of arguments has them in its start, or takes none: `{}`."""
        block = self._blocks.get(index)
        if block is not None and block.type == "tool_use" and not self._arguments_said:
            chunks.append(self._writer.arguments(self._calls - 1, _encode(_arguments(block.input))))

    def _end(self, event: _Event, chunks: list[Chunk]) -> None:
        """The finish reason, and usage: what the end reports goes before what the beginning did."""
        if bytes(event.usage) != b"null":
            try:
                self._usage = _encode({**_decode_object(self._usage), **_decode_object(event.usage)})
            except MALFORMED:
                self._usage = bytes(event.usage)
        reason = event.delta.stop_reason if event.delta is not None else None
        if reason is None:
            return
        self.finished = True
        finish = self._writer.finish(FINISH_REASONS.get(reason, "stop"))
        finish.continuation = self._continuation()
        chunks.append(finish)
        usage = read_usage(self._usage)
        if usage is not None:
            chunks.append(self._writer.usage(usage))

    def _continuation(self) -> Continuation | None:
        """Joined before decoded: a character's two halves may have come in two pieces."""
        try:
            for (index, member), pieces in self._pieces.items():
                if (block := self._blocks.get(index)) is not None:
                    joined = msgspec.json.decode(b'"%b"' % b"".join(pieces), type=str)
                    setattr(block, member, getattr(block, member) + joined)
        except MALFORMED:
            return None  # thoughts that cannot be sent back as they came are worth nothing to the provider
        return _continuation([_kept(block) for _, block in sorted(self._blocks.items())])


def _speaks(said: bytes) -> bool:
    """Whether a member is a JSON string that is not empty."""
    return len(said) > 2 and said.startswith(b'"')
