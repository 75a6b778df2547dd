"""Puts an `Answer` into the vendor's JSON: one body, or the events of a stream in the vendor's order."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from tests.fakes.openai.answers import Answer, split_words
from tests.fakes.openai.scripts import ToolCall
from tests.fakes.openai.usage import Produced, Said

FINGERPRINT = "fp_44709d6fcb"
_ARGUMENT_PIECE = 7
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Event:
    """One server-sent event; the words in it, to be counted when it is written; the usage object in it, if any."""

    data: bytes
    said: Said = None
    usage: dict[str, Any] | None = None


def sse(payload: Any) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def completion_body(answer: Answer, produced: Produced) -> dict[str, Any]:
    """The non-stream body. Fills `produced`, which the usage inside it is counted from."""
    choices = []
    for index in range(answer.choices):
        for _, said in _deltas(answer, index):
            produced.add(said)
        choices.append(
            {
                "index": index,
                "message": _message(answer, index),
                "logprobs": _logprobs(answer.pieces) if answer.logprobs else None,
                "finish_reason": answer.finish_reason,
            }
        )
    usage = answer.usage(produced)
    return {
        "id": answer.id,
        "object": "chat.completion",
        "created": answer.created,
        "model": answer.model,
        "choices": choices,
        **({} if usage is None else {"usage": usage}),
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
        **answer.script.extra,
    }


def stream_events(answer: Answer, options: dict[str, Any], produced: Produced) -> Iterator[Event]:
    """The events of a stream, [DONE] last. Usage is counted from `produced`, to which the caller adds what it wrote.

    With `include_usage` every chunk carries `usage: null` and one more, with empty choices, the numbers; without it no
    chunk has the key. Chunks are padded with `obfuscation` unless `include_obfuscation` is false.
    """
    include_usage = options.get("include_usage") is True
    padded = options.get("include_obfuscation") is not False
    frame = {
        "id": answer.id,
        "object": "chat.completion.chunk",
        "created": answer.created,
        "model": answer.model,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }
    tail = ({"usage": None} if include_usage else {}) | answer.script.extra
    choices = [_stream_choice(answer, index) for index in range(answer.choices)]
    for number, (choice, said) in enumerate(_in_turns(choices)):
        padding = {"obfuscation": "Zk3vQ8xR1"[: 1 + number % 9]} if padded else {}
        yield Event(sse({**frame, "choices": [choice], **tail, **padding}), said)
    usage = answer.usage(produced)
    if include_usage and usage is not None:
        yield Event(sse({**frame, "choices": [], **tail, "usage": usage}), usage=usage)
    if answer.script.send_done:
        yield Event(DONE)


def _in_turns(choices: list[Iterator[tuple[dict[str, Any], Said]]]) -> Iterator[tuple[dict[str, Any], Said]]:
    for row in itertools.zip_longest(*choices):
        yield from (choice for choice in row if choice is not None)


def _stream_choice(answer: Answer, index: int) -> Iterator[tuple[dict[str, Any], Said]]:
    for delta, said in _deltas(answer, index):
        spoken = answer.logprobs and delta.get("content")
        logprobs = _logprobs((delta["content"],)) if spoken else None
        yield {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}, said
    yield {"index": index, "delta": {}, "logprobs": None, "finish_reason": answer.finish_reason}, None


def _deltas(answer: Answer, choice: int) -> Iterator[tuple[dict[str, Any], Said]]:
    script = answer.script
    content = None if answer.tool_calls else ""
    yield {"role": "assistant", "content": content, "refusal": None, **script.message_extra}, None
    for piece in split_words(script.reasoning):
        yield {script.reasoning_field: piece}, ((choice, "reasoning"), piece)
    for piece in split_words(script.refusal or ""):
        yield {"refusal": piece}, ((choice, "refusal"), piece)
    for piece in answer.pieces:
        yield {"content": piece}, ((choice, "text"), piece)
    for position, call in enumerate(answer.tool_calls):
        yield from _call_deltas(call, choice, position)


def _call_deltas(call: ToolCall, choice: int, position: int) -> Iterator[tuple[dict[str, Any], Said]]:
    opening = {"index": position, "id": _unique(call.id, choice), "type": "function"}
    function = {"name": call.name, "arguments": ""}
    yield {"tool_calls": [{**opening, "function": function}]}, ((choice, "tool", position, "name"), call.name)
    for start in range(0, len(call.arguments), _ARGUMENT_PIECE):
        piece = call.arguments[start : start + _ARGUMENT_PIECE]
        fragment = {"index": position, "function": {"arguments": piece}}
        yield {"tool_calls": [fragment]}, ((choice, "tool", position, "arguments"), piece)


def _unique(call_id: str, choice: int) -> str:
    return f"{call_id}_{choice}" if choice else call_id


def _message(answer: Answer, choice: int) -> dict[str, Any]:
    script = answer.script
    refused = script.refusal is not None
    content = "".join(answer.pieces) if answer.pieces or not (answer.tool_calls or refused) else None
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": script.refusal, "annotations": []}
    if script.reasoning:
        message[script.reasoning_field] = script.reasoning
    if answer.tool_calls:
        message["tool_calls"] = [
            {
                "id": _unique(call.id, choice),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in answer.tool_calls
        ]
    return message | script.message_extra


def _logprobs(tokens: tuple[str, ...]) -> dict[str, Any]:
    rows = [{"token": t, "logprob": -0.25, "bytes": list(t.encode()), "top_logprobs": []} for t in tokens]
    return {"content": rows, "refusal": None}
