"""What is kept of an answer: compressed, encrypted, and bound to its key, so that what is not whole is not found."""

from __future__ import annotations

import zlib
from enum import StrEnum
from typing import Any

import msgspec
import orjson

from gateway.streaming import DONE
from tenants.sealing import SealError, seal, unseal

SIZE_LIMIT_BYTES = 1024 * 1024
"""A longer answer is not kept: few are, and Redis holds everybody's."""

PLAIN_MESSAGE = frozenset({"role", "content", "refusal", "reasoning_content", "annotations", "tool_calls", "audio"})
"""What a message may have to be told as a stream; of these, what is empty is left out."""
TOLD = ("role", "content", "refusal", "reasoning_content")
PLAIN_CHOICE = frozenset({"index", "message", "finish_reason", "logprobs"})


class Shape(StrEnum):
    """How an answer goes to its client."""

    WHOLE = "w"
    STREAM = "s"
    STREAM_WITH_USAGE = "u"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One kept answer: its bytes as the client got them, and whose they are."""

    stored_at: float
    """Unix seconds, by the clock of the process that kept it."""
    request_id: str
    """The request that paid for it."""
    deployment_id: int
    model_name: str
    cost_nano_usd: int | None
    shape: Shape
    body: bytes

    def age_seconds(self, now: float) -> int:
        """Whole seconds; a clock that is behind the keeper's makes it no younger than new."""
        return max(0, int(now - self.stored_at))

    def serves(self, shape: Shape) -> bool:
        """Whether it can be given in this shape without making anything up."""
        return self.shape is shape or (shape is not Shape.WHOLE and as_stream(self.body, shape) is not None)

    def told_as(self, shape: Shape) -> bytes:
        """Its bytes in a shape that it serves."""
        if self.shape is shape:
            return self.body
        events = as_stream(self.body, shape)
        assert events is not None
        return events


def pack(entry: Entry, *, key: str) -> str:
    """An entry as Redis keeps it."""
    return seal(zlib.compress(msgspec.msgpack.encode(entry), 1), bound_to=_bound_to(key))


def unpack(packed: bytes, *, key: str) -> Entry | None:
    """The entry; None for one that is damaged, was kept under another key, or that our keys no longer open."""
    try:
        text = packed.decode("ascii")
        return _decode_entry(zlib.decompress(unseal(text, bound_to=_bound_to(key))))
    except (SealError, zlib.error, msgspec.DecodeError, ValueError):  # base64 and UTF-8 errors are ValueErrors
        return None


def as_stream(body: bytes, shape: Shape) -> bytes | None:
    """A whole chat answer as the events of a stream; None where a stream would tell less than it does."""
    try:
        answer = orjson.loads(body)
        choices = answer["choices"]
        if not all(_is_plain(choice) for choice in choices):
            return None
        head = {name: answer[name] for name in ("id", "created", "model", "system_fingerprint") if name in answer}
    except (ValueError, KeyError, TypeError):
        return None
    head["object"] = "chat.completion.chunk"
    events = [{**head, "choices": [_delta(choice)]} for choice in choices]
    events += [
        {**head, "choices": [{"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}]}
        for choice in choices
    ]
    if shape is Shape.STREAM_WITH_USAGE:
        if not isinstance(answer.get("usage"), dict):
            return None
        events.append({**head, "choices": [], "usage": answer["usage"]})
    return b"".join(b"data: %b\n\n" % orjson.dumps(event) for event in events) + DONE


def _is_plain(choice: dict[str, Any]) -> bool:
    message = choice["message"]
    beyond = [name for name, value in message.items() if name not in TOLD and value not in (None, [], "")]
    return (
        choice.keys() <= PLAIN_CHOICE
        and choice.get("logprobs") is None
        and message.keys() <= PLAIN_MESSAGE
        and not beyond
        and isinstance(choice["finish_reason"], str)
    )


def _delta(choice: dict[str, Any]) -> dict[str, Any]:
    said = {name: choice["message"][name] for name in TOLD if choice["message"].get(name) is not None}
    return {"index": choice["index"], "delta": said, "finish_reason": None}


def _bound_to(key: str) -> bytes:
    return b"cached answer:" + key.encode()


_decode_entry = msgspec.msgpack.Decoder(Entry).decode
