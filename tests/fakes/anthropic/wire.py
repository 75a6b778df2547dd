"""What the fake says, in the vendor's JSON: one message, or the events of a stream in the vendor's order.

Unscripted it says what the fake OpenAI says to the same request: it repeats the last user message, fits the schema that
is asked for, calls a tool when it is told to. `max_tokens` cuts this ordinary answer.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from tests.fakes.anthropic.usage import input_usage, output_usage, prompt_tokens
from tests.fakes.anthropic.validation import signature
from tests.fakes.openai.answers import MAX_REPEATED_WORDS, split_words
from tests.fakes.openai.samples import sample
from tests.fakes.openai.scripts import Script, ToolCall
from tests.fakes.openai.usage import Produced, Said
from tests.fakes.openai.wire import Event

_ARGUMENT_PIECE = 7


@dataclass(frozen=True, kw_only=True)
class Message:
    """One answer."""

    script: Script
    model: str
    prompt_tokens: int
    pieces: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    stop_reason: str = "end_turn"
    id: str = field(default_factory=lambda: f"msg_{uuid.uuid4().hex[:24]}")


def answer_to(body: dict[str, Any], script: Script) -> Message:
    """The answer to a valid request under `script`; its `finish_reason` is the vendor's `stop_reason`."""
    message = Message(script=script, model=body["model"], prompt_tokens=prompt_tokens(body))
    if script.tool_calls or script.pieces or script.text is not None:
        calls = tuple(call if call.id else replace(call, id=_call_id()) for call in script.tool_calls)
        pieces = script.pieces or split_words(script.text or "")
        stop_reason = "tool_use" if calls else "end_turn"
        message = replace(message, pieces=pieces, tool_calls=calls, stop_reason=stop_reason)
    else:
        message = _ordinary(message, body)
    return replace(message, stop_reason=script.finish_reason) if script.finish_reason else message


def _ordinary(message: Message, body: dict[str, Any]) -> Message:
    choice = body.get("tool_choice") or {}
    if choice.get("type") in ("any", "tool"):
        tool = next(tool for tool in body["tools"] if choice.get("name") in (None, tool["name"]))
        arguments = orjson.dumps(sample(tool["input_schema"])).decode()
        call = ToolCall(name=tool["name"], arguments=arguments, id=_call_id())
        return replace(message, tool_calls=(call,), stop_reason="tool_use")
    pieces = split_words(_ordinary_text(body))
    if len(pieces) > body["max_tokens"]:
        return replace(message, pieces=pieces[: body["max_tokens"]], stop_reason="max_tokens")
    return replace(message, pieces=pieces)


def _ordinary_text(body: dict[str, Any]) -> str:
    wanted = (body.get("output_config") or {}).get("format")
    if wanted:
        return orjson.dumps(sample(wanted["schema"])).decode()
    said = [text for message in body["messages"] if message["role"] == "user" and (text := _plain(message["content"]))]
    return "You said: " + " ".join((said[-1] if said else "").split()[:MAX_REPEATED_WORDS])


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    names = {"image": "[image_url]", "document": "[file]", "tool_result": ""}
    return " ".join(filter(None, (names.get(block["type"], block.get("text", "")) for block in content)))


def _call_id() -> str:
    return f"toolu_{uuid.uuid4().hex[:24]}"


def message_body(message: Message, produced: Produced) -> dict[str, Any]:
    """The non-stream body. Fills `produced`, which the usage inside it is counted from."""
    for _, said in _block_events(message):
        produced.add(said)
    content: list[dict[str, Any]] = []
    script = message.script
    if script.reasoning:
        content.append({"type": "thinking", "thinking": script.reasoning, "signature": signature(script.reasoning)})
    if message.pieces:
        content.append({"type": "text", "text": "".join(message.pieces), "citations": None})
    content += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": orjson.loads(call.arguments or "{}")}
        for call in message.tool_calls
    ]
    usage = _usage(message, produced)
    return {
        "id": message.id,
        "type": "message",
        "role": "assistant",
        "model": message.model,
        "content": content,
        "stop_reason": message.stop_reason,
        "stop_sequence": None,
        **({} if usage is None else {"usage": usage}),
        **script.extra,
    }


def _usage(message: Message, produced: Produced) -> dict[str, Any] | None:
    if message.script.omit_usage:
        return None
    return message.script.usage or {
        **input_usage(message.prompt_tokens, message.script.cached_tokens),
        **output_usage(produced.tokens(), produced.tokens(only="reasoning")),
    }


def stream_events(message: Message, produced: Produced) -> Iterator[Event]:
    """The events of a stream. Usage is counted from `produced`, to which the caller adds what it wrote."""
    head = {
        "id": message.id,
        "type": "message",
        "role": "assistant",
        "model": message.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }
    script = message.script
    if not script.omit_usage:
        started = script.usage or input_usage(message.prompt_tokens, script.cached_tokens)
        head["usage"] = {**started, "output_tokens": 1}
    yield Event(sse("message_start", message=head))
    for number, (event, said) in enumerate(_block_events(message)):
        yield Event(event, said)
        if number == 0:
            yield Event(sse("ping"))
    usage = _usage(message, produced)
    ended = {} if usage is None else {"usage": {k: v for k, v in usage.items() if k != "service_tier"}}
    yield Event(sse("message_delta", delta={"stop_reason": message.stop_reason, "stop_sequence": None}, **ended))
    if script.send_done:
        yield Event(sse("message_stop"), usage=usage)


def sse(kind: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **members}))


def _block_events(message: Message) -> Iterator[tuple[bytes, Said]]:
    index = 0
    reasoning = message.script.reasoning
    if reasoning:
        deltas = [
            ({"type": "thinking_delta", "thinking": piece}, "reasoning", piece) for piece in split_words(reasoning)
        ]
        signed = ({"type": "signature_delta", "signature": signature(reasoning)}, "", "")
        yield from _block(index, {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signed])
        index += 1
    if message.pieces:
        deltas = [({"type": "text_delta", "text": piece}, "text", piece) for piece in message.pieces]
        yield from _block(index, {"type": "text", "text": ""}, deltas)
        index += 1
    for position, call in enumerate(message.tool_calls):
        yield from _call(index + position, call, position)


def _block(
    index: int, block: dict[str, Any], deltas: list[tuple[dict[str, Any], str, str]]
) -> Iterator[tuple[bytes, Said]]:
    yield sse("content_block_start", index=index, content_block=block), None
    for delta, place, piece in deltas:
        yield sse("content_block_delta", index=index, delta=delta), ((0, place), piece) if place else None
    yield sse("content_block_stop", index=index), None


def _call(index: int, call: ToolCall, position: int) -> Iterator[tuple[bytes, Said]]:
    """The vendor sends an empty piece first, and nothing more for a call without arguments."""
    block = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
    yield sse("content_block_start", index=index, content_block=block), ((0, "tool", position, "name"), call.name)
    arguments = "" if call.arguments == "{}" else call.arguments
    pieces = [arguments[start : start + _ARGUMENT_PIECE] for start in range(0, len(arguments), _ARGUMENT_PIECE)]
    for piece in ["", *pieces]:
        delta = {"type": "input_json_delta", "partial_json": piece}
        yield sse("content_block_delta", index=index, delta=delta), ((0, "tool", position, "arguments"), piece)
    yield sse("content_block_stop", index=index), None
