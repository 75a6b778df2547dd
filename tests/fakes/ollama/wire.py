"""What the fake says, in the server's JSON. Unscripted it says what the fake OpenAI says to the same request.

A token is a word, as in `tests/fakes/openai/usage.py`; thoughts are counted with the rest.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import orjson

from tests.fakes.openai.answers import MAX_REPEATED_WORDS, split_words
from tests.fakes.openai.embeddings import vector
from tests.fakes.openai.samples import sample
from tests.fakes.openai.scripts import Script, ToolCall
from tests.fakes.openai.usage import Produced, Said, words
from tests.fakes.openai.wire import Event

DIMENSIONS = 768
CREATED_AT = "2026-11-21T12:00:00.123456789Z"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer."""

    script: Script
    model: str
    prompt_tokens: int
    pieces: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    done_reason: str = "stop"


def answer_to(body: dict[str, Any], script: Script) -> Reply:
    """The answer to a valid request under `script`; its `finish_reason` is the server's."""
    prompt = sum(words(message.get("content", "")) + len(message.get("images", ())) for message in body["messages"])
    reply = Reply(script=script, model=body["model"], prompt_tokens=prompt)
    if script.tool_calls or script.pieces or script.text is not None:
        pieces = script.pieces or split_words(script.text or "")
        reply = replace(reply, pieces=pieces, tool_calls=script.tool_calls)
    else:
        pieces, limit = split_words(_ordinary_text(body)), (body.get("options") or {}).get("num_predict")
        cut = bool(limit) and len(pieces) > limit
        reply = replace(reply, pieces=pieces[:limit] if cut else pieces, done_reason="length" if cut else "stop")
    return replace(reply, done_reason=script.finish_reason) if script.finish_reason else reply


def _ordinary_text(body: dict[str, Any]) -> str:
    wanted = body.get("format")
    if wanted:
        return '{"answer": "text"}' if wanted == "json" else orjson.dumps(sample(wanted)).decode()
    said = [message for message in body["messages"] if message["role"] == "user"]
    if not said:
        return "You said: "
    shown = [*said[-1].get("content", "").split(), *("[image_url]" for _ in said[-1].get("images", ()))]
    return "You said: " + " ".join(shown[:MAX_REPEATED_WORDS])


def _messages(reply: Reply) -> Iterator[tuple[dict[str, Any], Said]]:
    for piece in split_words(reply.script.reasoning):
        yield {"content": "", "thinking": piece}, ((0, "reasoning"), piece)
    for piece in reply.pieces:
        yield {"content": piece}, ((0, "text"), piece)
    for position, call in enumerate(reply.tool_calls):
        made = {"function": {"name": call.name, "arguments": orjson.loads(call.arguments or "{}")}}
        yield {"content": "", "tool_calls": [made]}, ((0, "tool", position, "name"), f"{call.name} {call.arguments}")


def _counts(reply: Reply, produced: Produced) -> dict[str, Any]:
    if reply.script.omit_usage:
        return {}
    counted = {
        "prompt_eval_count": reply.prompt_tokens,
        "prompt_eval_duration": 26_000_000,
        "eval_count": produced.tokens(),
        "eval_duration": 400_000_000,
    }
    return reply.script.usage or counted


def _object(reply: Reply, message: dict[str, Any], **more: Any) -> dict[str, Any]:
    spoken = {"role": "assistant", **message}
    return {"model": reply.model, "created_at": CREATED_AT, "message": spoken, **more, **reply.script.extra}


def _last(reply: Reply, produced: Produced, message: dict[str, Any]) -> dict[str, Any]:
    durations = {"total_duration": 500_000_000, "load_duration": 70_000_000}
    counts = _counts(reply, produced)
    return _object(reply, message, done=True, done_reason=reply.done_reason, **durations, **counts)


def whole_body(reply: Reply, produced: Produced) -> dict[str, Any]:
    """The non-stream body. Fills `produced`, which the counts inside it are made from."""
    message: dict[str, Any] = {"content": ""}
    for part, said in _messages(reply):
        produced.add(said)
        for name, value in part.items():
            message[name] = message[name] + value if name in message else value
    return _last(reply, produced, message)


def stream_events(reply: Reply, produced: Produced) -> Iterator[Event]:
    """The lines of a stream, one for each piece, then the counts."""
    for part, said in _messages(reply):
        yield Event(line(_object(reply, part, done=False)), said)
    body = _last(reply, produced, {"content": ""})
    yield Event(line(body), usage={name: body[name] for name in body if name.endswith("_count")})


def embed_body(body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a valid embeddings request."""
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    vectors = [vector(text, body.get("dimensions") or DIMENSIONS).tolist() for text in texts]
    counted = {"total_duration": 14_143_917, "load_duration": 1_019_500, "prompt_eval_count": sum(map(words, texts))}
    return {"model": body["model"], "embeddings": vectors, **counted}


def line(payload: Any) -> bytes:
    return orjson.dumps(payload) + b"\n"
