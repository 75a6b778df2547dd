"""A completion as OpenAI writes it: as one body, and as server-sent events.

Source: the type definitions of the `openai` SDK 3.52.0; the order of a stream's events as the vendor's API reference
gives it (role, content, finish_reason, usage, [DONE]).
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from providers.mock.chat import Choice, Completion
from providers.mock.tool_calls import Call

PACE_SECONDS = 0.025
"""Between the pieces of a stream: 40 words a second, quick and still visibly a stream."""

FRAGMENT_LENGTH = 12
FRAGMENTS_LIMIT = 200
"""Arguments of any length are streamed in no more pieces than this, 5 s at the pace above."""

Delta = dict[str, Any]


def body(completion: Completion) -> dict[str, Any]:
    """The whole answer as a `chat.completion`."""
    choices = [
        {
            "index": index,
            "message": _message(choice, is_legacy=completion.is_legacy) | _pictures(completion),
            "logprobs": None,
            "finish_reason": choice.finish_reason,
        }
        for index, choice in enumerate(completion.choices)
    ]
    return {**_frame(completion, "chat.completion"), "choices": choices, "usage": _usage(completion)}


def events(completion: Completion, *, with_usage: bool) -> Iterator[tuple[float, bytes]]:
    """The answer as server-sent events, each with the seconds to wait before it."""
    frame = _frame(completion, "chat.completion.chunk")
    silent = {"usage": None} if with_usage else {}

    def chunk(index: int, delta: Delta, *, finish_reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _event({**frame, "choices": [choice], **silent})

    for index, choice in enumerate(completion.choices):
        content = None if choice.text is None else ""
        yield 0.0, chunk(index, {"role": "assistant", "content": content, "refusal": None})
    deltas = [_deltas(choice, is_legacy=completion.is_legacy) for choice in completion.choices]
    for of_all_choices in itertools.zip_longest(*deltas):
        wait = PACE_SECONDS
        for index, delta in enumerate(of_all_choices):
            if delta is not None:
                yield wait, chunk(index, delta)
                wait = 0.0
    for index, choice in enumerate(completion.choices):
        if completion.picture:
            yield 0.0, chunk(index, _pictures(completion))
        yield 0.0, chunk(index, {}, finish_reason=choice.finish_reason)
    if with_usage:
        yield 0.0, _event({**frame, "choices": [], "usage": _usage(completion)})
    yield 0.0, b"data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def _frame(completion: Completion, kind: str) -> dict[str, Any]:
    return {
        "id": completion.id,
        "object": kind,
        "created": int(time.time()),
        "model": completion.model,
        "service_tier": "default",
        "system_fingerprint": "fp_bursar_mock",
    }


def _usage(completion: Completion) -> dict[str, Any]:
    return {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "total_tokens": completion.prompt_tokens + completion.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": completion.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _message(choice: Choice, *, is_legacy: bool) -> dict[str, Any]:
    message: Delta = {"role": "assistant", "content": choice.text, "refusal": None, "annotations": []}
    if choice.calls and is_legacy:
        message["function_call"] = {"name": choice.calls[0].name, "arguments": choice.calls[0].payload}
    elif choice.calls:
        message["tool_calls"] = [_tool_call(call, call.payload) for call in choice.calls]
    return message


def _pictures(completion: Completion) -> Delta:
    if not completion.picture:
        return {}
    url = f"data:image/png;base64,{completion.picture}"
    return {"images": [{"type": "image_url", "index": 0, "image_url": {"url": url}}]}


def _tool_call(call: Call, payload: str) -> dict[str, Any]:
    if call.is_custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": payload}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": payload}}


def _deltas(choice: Choice, *, is_legacy: bool) -> list[Delta]:
    """What one choice says, in pieces; without its role and its finish reason."""
    if choice.text is not None:
        return [{"content": word} for word in _words(choice.text)]
    if is_legacy:
        call = choice.calls[0]
        named = {"function_call": {"name": call.name, "arguments": ""}}
        return [named, *({"function_call": {"arguments": piece}} for piece in _fragments(call.payload))]
    deltas: list[Delta] = []
    for index, call in enumerate(choice.calls):
        kind, payload_name = ("custom", "input") if call.is_custom else ("function", "arguments")
        deltas.append({"tool_calls": [{"index": index, **_tool_call(call, "")}]})
        for piece in _fragments(call.payload):
            deltas.append({"tool_calls": [{"index": index, kind: {payload_name: piece}}]})
    return deltas


def _words(text: str) -> list[str]:
    """The words of a text, each with the white space after it; long JSON without words as its fragments."""
    words = re.split(r"(?<=\s)(?=\S)", text) if text else []
    return words if len(words) <= FRAGMENTS_LIMIT else _fragments(text)


def _fragments(text: str) -> list[str]:
    length = max(FRAGMENT_LENGTH, -(-len(text) // FRAGMENTS_LIMIT))
    return [text[start : start + length] for start in range(0, len(text), length)]
