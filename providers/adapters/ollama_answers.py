"""Ollama's answers, whole and streamed, into OpenAI's shape. Both have the same form there."""

from __future__ import annotations

import uuid

import msgspec

from providers.embeddings import embeddings_answer
from providers.errors import Failure, ProviderError
from providers.failures import MALFORMED
from providers.json_lines import JsonLineDecoder
from providers.openai_shape import ChunkWriter, Said, completion
from providers.types import Answer, Chunk, Usage, WireRequest
from providers.usage import impossible, unbelievable

NULL = msgspec.Raw(b"null")
COUNTS = (
    "prompt_eval_count", "eval_count", "total_duration", "load_duration", "prompt_eval_duration", "eval_duration",
)  # fmt: skip
"""What is kept of an answer as its usage; durations are in nanoseconds."""

NOT_ANSWERED = frozenset({"load", "unload"})
"""The server only loaded the model into memory, or took it out, and ran nothing."""


class _Function(msgspec.Struct):
    name: str = ""
    arguments: msgspec.Raw = NULL


class _Call(msgspec.Struct):
    function: _Function
    id: str = ""


class _Message(msgspec.Struct):
    content: msgspec.Raw = NULL
    thinking: msgspec.Raw = NULL
    tool_calls: list[_Call] | None = None


class _Answer(msgspec.Struct):
    model: str = ""
    message: _Message | None = None
    done: bool = False
    done_reason: str = ""
    error: msgspec.Raw = NULL


class _Counts(msgspec.Struct):
    prompt_eval_count: int | None = None
    eval_count: int | None = None


class _Embeddings(msgspec.Struct):
    embeddings: list[list[float]]


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_counts = msgspec.json.Decoder(_Counts).decode
_decode_embeddings = msgspec.json.Decoder(_Embeddings).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.encode


def read_usage(answer: bytes) -> Usage | None:
    """The counts in a whole answer or in a stream's last line; None where the prompt's is missing, which it is when the
    prompt was still in memory: not known is not none. What was thought is a part of the output and not told apart."""
    raw = b"{}"
    try:
        members = _decode_members(answer)
        raw = _encode({name: members[name] for name in COUNTS if name in members})
        counts = _decode_counts(raw)
    except MALFORMED as error:
        return unbelievable(raw, str(error))
    if counts.prompt_eval_count is None:
        return None
    units = {"input": counts.prompt_eval_count, "output": counts.eval_count or 0}
    if problem := impossible(units):
        return unbelievable(raw, problem)
    return Usage(
        units={unit: count for unit, count in units.items() if count},
        input_tokens=units["input"],
        output_tokens=units["output"],
        raw=raw,
    )


def _finish_reason(reason: str, *, calls: bool, said: bool) -> str:
    """OpenAI's word. Raises `ProviderError` where the model was not run."""
    if reason in NOT_ANSWERED and not said:
        raise ProviderError(Failure.BROKEN, f"The provider ended with {reason!r} and without an answer.")
    if calls:
        return "tool_calls"
    return "length" if reason == "length" else "stop"


def _check(answer: _Answer) -> None:
    if bytes(answer.error) != b"null":
        text = bytes(answer.error)
        raise ProviderError(Failure.BROKEN, text.decode("utf-8", "replace").strip('"') or "The provider failed.")


def _arguments(call: _Call) -> str:
    """A call's arguments as JSON."""
    given = bytes(call.function.arguments)
    return "{}" if given == b"null" else given.decode("utf-8", "replace")


def read_chat_answer(body: bytes) -> Answer:
    """A whole answer. Raises `ProviderError` for garbage and for a model that was not run."""
    try:
        answer = _decode_answer(body)
        _check(answer)
        message = answer.message
        if message is None:
            raise ProviderError(Failure.BROKEN, "The provider answered without a message.")
        content, thinking = (
            _decode_text(text) if bytes(text) != b"null" else "" for text in (message.content, message.thinking)
        )
        usage = read_usage(body)
    except MALFORMED as error:
        raise ProviderError(Failure.BROKEN, f"The provider's answer is not what it should be: {error}") from error
    answer_id = uuid.uuid4().hex
    calls = [
        (_call_id(call, answer_id, number=number), call.function.name, _arguments(call))
        for number, call in enumerate(message.tool_calls or ())
    ]
    said = Said(content, thinking, calls)
    reason = _finish_reason(answer.done_reason, calls=bool(calls), said=bool(said.text_bytes))
    whole = completion(f"chatcmpl-{answer_id}", answer.model, said=said, finish_reason=reason, usage=usage)
    return Answer(body=whole, usage=usage, text_bytes=said.text_bytes)


def _call_id(call: _Call, answer_id: str, *, number: int) -> str:
    """The provider's id for a call, or one made where it gives none."""
    return call.id or f"call_{answer_id}_{number}"


def read_embeddings_answer(request: WireRequest, body: bytes) -> Answer:
    """A whole answer of /api/embed. Raises `ProviderError` for garbage."""
    try:
        vectors, usage = _decode_embeddings(body).embeddings, read_usage(body)
    except MALFORMED as error:
        raise ProviderError(Failure.BROKEN, f"The provider's answer is not what it should be: {error}") from error
    return embeddings_answer(request, vectors, usage=usage)


class OllamaStreamDecoder:
    """Chunks of a streamed /api/chat answer. See `providers.types.StreamDecoder`."""

    __slots__ = ("_answer_id", "_begun", "_calls", "_lines", "_said", "_writer", "failure", "finished")

    def __init__(self) -> None:
        self._lines = JsonLineDecoder()
        self._answer_id = uuid.uuid4().hex
        self._writer = ChunkWriter("", "")
        self._begun = False
        self._said = False
        self._calls = 0
        self.finished = False
        self.failure: ProviderError | None = None

    def feed(self, data: bytes) -> list[Chunk]:
        chunks: list[Chunk] = []
        if self.failure is not None:
            return chunks
        try:
            for line in self._lines.feed(data):
                self._read(line, chunks)
        except ProviderError as error:
            self.failure = error
        return chunks

    def _read(self, line: bytes, chunks: list[Chunk]) -> None:
        try:
            answer = _decode_answer(line)
        except MALFORMED as error:
            raise ProviderError(Failure.BROKEN, f"The provider sent a line that is no answer: {error}") from error
        _check(answer)
        if not self._begun:
            self._begun = True
            self._writer = ChunkWriter(f"chatcmpl-{self._answer_id}", answer.model)
            chunks.append(self._writer.role())
        message = answer.message
        if message is not None:
            self._hear(message, chunks)
        if answer.done:
            self._finish(answer.done_reason, line, chunks=chunks)

    def _hear(self, message: _Message, chunks: list[Chunk]) -> None:
        thought, text = bytes(message.thinking), bytes(message.content)
        if len(thought) > 2 and thought.startswith(b'"'):
            chunks.append(self._writer.reasoning(thought))
            self._said = True
        if len(text) > 2 and text.startswith(b'"'):
            chunks.append(self._writer.content(text))
            self._said = True
        for call in message.tool_calls or ():
            call_id = _call_id(call, self._answer_id, number=self._calls)
            chunks.append(self._writer.call(self._calls, call_id, name=call.function.name, arguments=_arguments(call)))
            self._calls += 1

    def _finish(self, reason: str, line: bytes, *, chunks: list[Chunk]) -> None:
        chunks.append(self._writer.finish(_finish_reason(reason, calls=self._calls > 0, said=self._said)))
        self.finished = True
        usage = read_usage(line)
        if usage is not None:
            chunks.append(self._writer.usage(usage))
