"""DeepSeek: OpenAI's chat completions with thoughts that have to be sent back, and without schemas.

Thinking is on unless it is switched off. Source: api-docs.deepseek.com, November 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from providers.adapters.openai_compatible import (
    SILENT,
    Body,
    Choice,
    Delta,
    OpenAICompatibleAdapter,
    OpenAIStreamDecoder,
    request_headers,
    with_usage,
)
from providers.chat_requests import Message, Part, functions_of, read_chat, tool_choice_of
from providers.conversation import MEDIA_OF_PART
from providers.errors import Failure, ProviderError, UnsupportedError
from providers.failures import MALFORMED
from providers.parameters import FOR_THE_GATEWAY, Handling, dropped_parameters
from providers.types import Answer, Chunk, Continuation, OnDisconnect, Target, UpstreamRequest, WireRequest

PARAMETERS: Mapping[str, Handling] = {
    **FOR_THE_GATEWAY,
    "messages": Handling.TRANSLATED,
    "max_tokens": Handling.TRANSLATED,
    "max_completion_tokens": Handling.TRANSLATED,
    "temperature": Handling.TRANSLATED,
    "top_p": Handling.TRANSLATED,
    "frequency_penalty": Handling.TRANSLATED,
    "presence_penalty": Handling.TRANSLATED,
    "stop": Handling.TRANSLATED,
    "tools": Handling.TRANSLATED,
    "tool_choice": Handling.TRANSLATED,
    "parallel_tool_calls": Handling.TRANSLATED,
    "response_format": Handling.TRANSLATED,
    "reasoning_effort": Handling.TRANSLATED,
    "thinking": Handling.TRANSLATED,
    "logprobs": Handling.TRANSLATED,
    "top_logprobs": Handling.TRANSLATED,
    "n": Handling.REFUSED,
    "audio": Handling.REFUSED,
    "modalities": Handling.REFUSED,
    "functions": Handling.REFUSED,
    "function_call": Handling.REFUSED,
    "web_search_options": Handling.REFUSED,
    "seed": Handling.DROPPED,
    "logit_bias": Handling.DROPPED,
    "prediction": Handling.DROPPED,
    "prompt_cache_key": Handling.DROPPED,
    "prompt_cache_options": Handling.DROPPED,
    "prompt_cache_retention": Handling.DROPPED,
    "service_tier": Handling.DROPPED,
    "verbosity": Handling.DROPPED,
    "moderation": Handling.DROPPED,
}

AS_THEY_ARE = ("stop", "logprobs", "top_logprobs", "thinking")
SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
"""A model that thinks takes them and does as it likes; a client is rather told that they have no effect."""

EFFORTS = {"minimal": "low", "low": "low", "medium": "high", "high": "high", "xhigh": "high", "max": "max"}

STARVED = "insufficient_system_resource"
"""The finish reason of an answer that was cut off because the vendor had no room for it."""

NULL = b"null"
ANSWER_IN_JSON = "Answer with one JSON object and nothing else: no other words, no Markdown."
BY_THIS_SCHEMA = f"{ANSWER_IN_JSON} It fits this JSON schema: "
"""The API knows JSON but no schemas, and wants the word JSON in the prompt."""

Json = dict[str, Any]


class _Call(msgspec.Struct):
    id: str = ""


class _CacheHits(msgspec.Struct):
    prompt_cache_hit_tokens: int


class _Thinking(msgspec.Struct):
    type: str = ""


_decode_calls = msgspec.json.Decoder(list[_Call]).decode
_decode_cache_hits = msgspec.json.Decoder(_CacheHits).decode
_decode_messages = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_decode_thinking = msgspec.json.Decoder(_Thinking).decode
_encode = msgspec.json.encode


class DeepSeekStreamDecoder(OpenAIStreamDecoder):
    """See `providers.types.StreamDecoder`. Collects the thoughts of a turn that calls tools."""

    __slots__ = ("_call_id", "_thoughts")

    def __init__(self) -> None:
        super().__init__()
        self._thoughts: list[bytes] = []
        self._call_id = ""

    def chunk(self, payload: bytes, body: Body) -> Chunk:
        is_last = False
        for choice in body.choices or ():
            if choice.finish_reason is not None:
                _check_room(choice)
                is_last = True
            if choice.delta is not None:
                self._hear(choice.delta)
        told = bytes(body.usage)
        if told != NULL:
            told_as_openai = _with_cache_details(told)
            payload = payload.replace(told, told_as_openai, 1)
            body.usage = msgspec.Raw(told_as_openai)
        chunk = super().chunk(payload, body)
        if is_last:
            chunk.continuation = _continuation(self._call_id, self._thoughts)
        return chunk

    def _hear(self, delta: Delta) -> None:
        thought = bytes(delta.reasoning_content)
        if len(thought) > 2 and thought.startswith(b'"'):
            self._thoughts.append(thought)
        if not self._call_id:
            self._call_id = _first_call(delta)


class DeepSeekAdapter(OpenAICompatibleAdapter):
    """See `providers.types.Adapter`."""

    kind = "deepseek"
    operations = frozenset({"chat"})
    capabilities = frozenset({"chat", "stream", "tools", "json_schema", "vision", "reasoning"})
    """A schema is told to the model and not enforced, as there is nothing that would."""
    links = frozenset({"vision"})
    keeps_continuations = True
    on_disconnect = OnDisconnect.ABORT
    """DeepSeek stops and bills no further when a stream is cut; for the source see the parent."""

    def build_request(self, request: WireRequest, target: Target) -> UpstreamRequest:
        dropped = dropped_parameters(request.members, PARAMETERS, provider="DeepSeek")
        body = _Writer(request, dropped=dropped).body()
        body["model"] = target.upstream_model
        if request.stream:
            body["stream"] = True
            body["stream_options"] = with_usage(None)
        return UpstreamRequest(
            url=f"{target.base_url}/chat/completions",
            headers=request_headers(request, target),
            body=_encode(body),
            dropped_parameters=tuple(dropped),
        )

    def decoder(self, request: WireRequest | None = None) -> DeepSeekStreamDecoder:
        return DeepSeekStreamDecoder()

    def parse_response(self, request: WireRequest, body: bytes) -> Answer:
        """The parent's; under load the vendor keeps the connection open with blank lines before the body."""
        return super().parse_response(request, body.lstrip())

    def answer(self, body: bytes, parsed: Body) -> Answer:
        told = bytes(parsed.usage)
        if told != NULL:
            told_as_openai = _with_cache_details(told)
            body = body.replace(told, told_as_openai, 1)
            parsed.usage = msgspec.Raw(told_as_openai)
        for choice in parsed.choices or ():
            _check_room(choice)
        answer = super().answer(body, parsed)
        message = parsed.choices[0].message if parsed.choices else None
        if message is None or bytes(message.reasoning_content) in SILENT:
            return answer
        continuation = _continuation(_first_call(message), [bytes(message.reasoning_content)])
        return msgspec.structs.replace(answer, continuation=continuation)


def _check_room(choice: Choice) -> None:
    if choice.finish_reason == STARVED:
        raise ProviderError(Failure.BROKEN, f"The provider ended the answer with {STARVED}.")


def _first_call(said: Delta) -> str:
    """The id of the first tool call in a delta or message; empty where there is none."""
    calls = bytes(said.tool_calls)
    if calls in SILENT:
        return ""
    try:
        return next((call.id for call in _decode_calls(calls)), "")
    except MALFORMED as error:
        raise ProviderError(Failure.BROKEN, f"The provider sent tool calls that are none: {error}") from error


def _continuation(call_id: str, thoughts: list[bytes]) -> Continuation | None:
    """A turn's thoughts, given as pieces of JSON text; None for a turn that calls nothing or had none."""
    if not call_id or not thoughts:
        return None
    return Continuation(call_id=call_id, kind="deepseek", data=b'"%b"' % b"".join(piece[1:-1] for piece in thoughts))


def _with_cache_details(usage: bytes) -> bytes:
    """The usage object with what was read from the cache where OpenAI's clients look for it."""
    if b'"prompt_tokens_details"' in usage:
        return usage
    try:
        hits = _decode_cache_hits(usage).prompt_cache_hit_tokens
    except MALFORMED:
        return usage
    return b'%b,"prompt_tokens_details":{"cached_tokens":%d}}' % (usage.rstrip()[:-1], hits)


class _Writer:
    """Writes one request. `dropped` grows by what turns out to have no effect beside the rest."""

    def __init__(self, request: WireRequest, *, dropped: list[str]) -> None:
        self._members = request.members
        self._chat = read_chat(request.members)
        self._continuations = request.continuations
        self._limit = request.max_output_tokens or self._chat.output_limit
        self._dropped = dropped

    def body(self) -> Json:
        body: Json = {"messages": self._messages()}
        if self._limit is not None:
            body["max_tokens"] = self._limit
        for name in AS_THEY_ARE:
            if self._is_given(name):
                body[name] = self._members[name]
        self._thinking(body)
        self._tools(body)
        self._format(body)
        return body

    def _is_given(self, name: str) -> bool:
        return name in self._members and bytes(self._members[name]) != NULL

    def _thinking(self, body: Json) -> None:
        effort = self._chat.reasoning_effort
        if effort == "none" and "thinking" not in body:
            body["thinking"] = {"type": "disabled"}
        elif effort in EFFORTS:
            body["reasoning_effort"] = EFFORTS[effort]
        elif effort not in (None, "none"):
            self._dropped.append("reasoning_effort")
        given = [name for name in SAMPLING if self._is_given(name)]
        if self._thinks(body):
            self._dropped.extend(given)
        else:
            body.update({name: self._members[name] for name in given})

    def _thinks(self, body: Json) -> bool:
        thinking = body.get("thinking")
        if isinstance(thinking, msgspec.Raw):
            try:
                return _decode_thinking(thinking).type != "disabled"
            except MALFORMED as error:
                message = "thinking must be an object with a type."
                raise ProviderError(Failure.REFUSED_INPUT, message, status=400, param="thinking") from error
        return thinking is None

    def _tools(self, body: Json) -> None:
        if self._chat.parallel_tool_calls is False:
            self._dropped.append("parallel_tool_calls")
        if not self._chat.tools:
            return
        body["tools"] = [_tool(function) for function, _ in functions_of(self._chat)]
        choice = tool_choice_of(self._chat)
        if choice is not None:
            named = {"type": "function", "function": {"name": choice.name}}
            body["tool_choice"] = named if choice.mode == "named" else choice.mode

    def _format(self, body: Json) -> None:
        """Ask for JSON. A schema is told in the instructions, before all others."""
        wanted = self._chat.response_format
        if wanted is None or wanted.type not in ("json_object", "json_schema"):
            return
        body["response_format"] = {"type": "json_object"}
        schema = b"" if wanted.json_schema is None else bytes(wanted.json_schema.schema)
        if wanted.type == "json_schema" and schema not in (b"", NULL):
            body["messages"].insert(0, {"role": "system", "content": BY_THIS_SCHEMA + schema.decode()})
        elif b"json" not in bytes(self._members["messages"]).lower():
            body["messages"].insert(0, {"role": "system", "content": ANSWER_IN_JSON})

    def _messages(self) -> list[Json]:
        given = _decode_messages(self._members["messages"])
        return [
            self._message(message, raw, place=f"messages[{index}]")
            for index, (message, raw) in enumerate(zip(self._chat.messages, given, strict=True))
        ]

    def _message(self, message: Message, raw: Mapping[str, msgspec.Raw], *, place: str) -> Json:
        if message.role == "function" or message.function_call is not None:
            raise UnsupportedError("functions", "DeepSeek does not know OpenAI's older functions.", param=place)
        written: Json = {
            "role": "system" if message.role == "developer" else message.role,
            "content": _content(message, place),
        }
        written.update({name: raw[name] for name in ("name", "tool_call_id") if bytes(raw.get(name, NULL)) != NULL})
        if not message.tool_calls:
            return written
        if any(call.function is None for call in message.tool_calls):
            param = f"{place}.tool_calls"
            raise UnsupportedError("custom_tools", "Only calls of functions are possible here.", param=param)
        written["tool_calls"] = raw["tool_calls"]
        # Without the member the API refuses the whole conversation; an empty one stands for thoughts that are lost.
        kept = self._continuations.get(message.tool_calls[0].id, b'""')
        own = raw.get("reasoning_content", msgspec.Raw(NULL))
        written["reasoning_content"] = own if bytes(own) != NULL else msgspec.Raw(kept)
        return written


def _tool(function: Any) -> Json:
    written: Json = {"name": function.name}
    if function.description:
        written["description"] = function.description
    if bytes(function.parameters) != NULL:
        written["parameters"] = function.parameters
    return {"type": "function", "function": written}


def _content(message: Message, place: str) -> str | list[Json] | None:
    """A message's content: a list of parts only where there is a picture in it."""
    if not isinstance(message.content, list):
        spoken_otherwise = message.refusal or ("" if not message.tool_calls else None)
        return message.content if message.content is not None else spoken_otherwise
    parts = [_part(part, f"{place}.content[{index}]") for index, part in enumerate(message.content)]
    if any(part["type"] != "text" for part in parts):
        return parts
    return "\n".join(part["text"] for part in parts)


def _part(part: Part, place: str) -> Json:
    if part.type in ("text", "refusal"):
        return {"type": "text", "text": part.text or part.refusal or ""}
    if part.type != "image_url" or part.image_url is None:
        missing = MEDIA_OF_PART.get(part.type, part.type)
        raise UnsupportedError(missing, f"DeepSeek takes no content part of type {part.type!r}.", param=place)
    url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
    return {"type": "image_url", "image_url": {"url": url}}


ADAPTER = DeepSeekAdapter()
