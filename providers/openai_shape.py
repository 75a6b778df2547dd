"""Answers in OpenAI's shape, for adapters whose provider says them differently. No Django.

A stream's chunks are written as bytes around text that is JSON already: re-encoding each would cost more than all the
rest of the translation.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from providers.types import Chunk, Usage

_encode = msgspec.json.encode
ROLE = b'{"role":"assistant","content":""}'
GOES_ON = b',"logprobs":null,"finish_reason":null}]}'


class Shown(msgspec.Struct):
    """A picture or a sound of the model's, its `data` in base64."""

    media_type: str
    data: str

    def member(self, index: int, *, answer_id: str) -> dict[str, Any]:
        """The member of a message or delta that carries it. OpenAI's own has sound as `audio`; pictures are `images`,
        which several other vendors of its protocol added."""
        if self.media_type.startswith("audio/"):
            audio = {"id": f"audio_{answer_id}", "data": self.data, "transcript": "", "media_type": self.media_type}
            return {"audio": audio | {"expires_at": int(time.time())}}
        url = f"data:{self.media_type};base64,{self.data}"
        return {"images": [{"type": "image_url", "index": index, "image_url": {"url": url}}]}


class ChunkWriter:
    """Writes the chunks of one stream. `said` arguments are JSON strings as bytes, quotes included."""

    __slots__ = ("_answer_id", "_head")

    def __init__(self, answer_id: str, model: str) -> None:
        self._answer_id = answer_id
        head = {"id": answer_id, "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
        self._head = _encode(head)[:-1] + b',"choices":['

    def role(self) -> Chunk:
        """The first chunk: who speaks."""
        return Chunk(self._choice(ROLE))

    def content(self, said: bytes) -> Chunk:
        return Chunk(b'%b{"index":0,"delta":{"content":%b}%b' % (self._head, said, GOES_ON), len(said) - 2, True)

    def reasoning(self, said: bytes) -> Chunk:
        data = b'%b{"index":0,"delta":{"reasoning_content":%b}%b' % (self._head, said, GOES_ON)
        return Chunk(data, len(said) - 2, True)

    def call(self, index: int, call_id: str, *, name: str, arguments: str = "") -> Chunk:
        """A tool call begins, or is there whole."""
        function = {"name": name, "arguments": arguments}
        delta = {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]}
        return Chunk(self._choice(_encode(delta)), len(name) + len(arguments.encode()), True)

    def arguments(self, index: int, said: bytes) -> Chunk:
        """A piece of a tool call's arguments."""
        delta = b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' % (index, said)
        return Chunk(self._choice(delta), len(said) - 2, True)

    def media(self, index: int, shown: Shown) -> Chunk:
        """A picture or sound, the `index`-th of the answer. It is no text: what it costs only the provider can say."""
        return Chunk(self._choice(_encode(shown.member(index, answer_id=self._answer_id))), has_content=True)

    def finish(self, reason: str) -> Chunk:
        data = b'%b{"index":0,"delta":{},"logprobs":null,"finish_reason":"%b"}]}' % (self._head, reason.encode())
        return Chunk(data)

    def usage(self, usage: Usage) -> Chunk:
        """The closing chunk: no choices, and usage."""
        return Chunk(b'%b],"usage":%b}' % (self._head, _encode(usage_object(usage))), usage=usage, usage_only=True)

    def _choice(self, delta: bytes) -> bytes:
        return b'%b{"index":0,"delta":%b%b' % (self._head, delta, GOES_ON)


class Said(msgspec.Struct):
    """What a model said in a whole answer."""

    content: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str, str]] = []
    """Id, name and arguments (JSON) of each tool call."""
    media: list[Shown] = []

    @property
    def text_bytes(self) -> int:
        """How much it is, for counting what a provider does not report."""
        texts = [self.content, self.reasoning]
        for _, name, arguments in self.calls:
            texts += [name, arguments]
        return sum(len(text.encode()) for text in texts)


def completion(answer_id: str, model: str, *, said: Said, finish_reason: str, usage: Usage | None) -> bytes:
    """A whole `chat.completion`. Content is null beside tool calls only."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": said.content or (None if said.calls else ""),
        "refusal": None,
    }
    if said.reasoning:
        message["reasoning_content"] = said.reasoning
    if said.calls:
        message["tool_calls"] = [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for call_id, name, arguments in said.calls
        ]
    for index, shown in enumerate(said.media):
        for name, value in shown.member(index, answer_id=answer_id).items():
            message[name] = [*message.get(name, ()), *value] if isinstance(value, list) else value
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
    body: dict[str, Any] = {
        "id": answer_id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [choice],
    }
    if usage is not None:
        body["usage"] = usage_object(usage)
    return _encode(body)


def usage_object(usage: Usage) -> dict[str, Any]:
    """OpenAI's usage: what was cached and what was thought are parts of the totals."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
