"""Ollama's own protocol: /api/chat and /api/embed.

Source: the type definitions of the `ollama` SDK 0.6.3, requests of it recorded on the wire, docs.ollama.com.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from providers.adapters.ollama_answers import OllamaStreamDecoder, read_chat_answer, read_embeddings_answer
from providers.chat_requests import Function, functions_of, parameters_schema, read_chat, tool_choice_of
from providers.conversation import Call, Item, Media, Result, Text, Turn, read_conversation
from providers.embeddings import dropped_from_embeddings, read_embeddings
from providers.errors import Failure, ProviderError, UnsupportedError
from providers.failures import MALFORMED, failure_of_status, retry_after_seconds
from providers.parameters import FOR_THE_GATEWAY, Handling, dropped_parameters
from providers.types import (
    Answer,
    EmbeddingLimits,
    ListedModel,
    ModelPage,
    OnDisconnect,
    Target,
    UpstreamRequest,
    WireRequest,
)

PARAMETERS: Mapping[str, Handling] = {
    **FOR_THE_GATEWAY,
    "messages": Handling.TRANSLATED,
    "max_tokens": Handling.TRANSLATED,
    "max_completion_tokens": Handling.TRANSLATED,
    "temperature": Handling.TRANSLATED,
    "top_p": Handling.TRANSLATED,
    "top_k": Handling.TRANSLATED,
    "seed": Handling.TRANSLATED,
    "frequency_penalty": Handling.TRANSLATED,
    "presence_penalty": Handling.TRANSLATED,
    "stop": Handling.TRANSLATED,
    "tools": Handling.TRANSLATED,
    "tool_choice": Handling.TRANSLATED,
    "parallel_tool_calls": Handling.TRANSLATED,
    "response_format": Handling.TRANSLATED,
    "reasoning_effort": Handling.TRANSLATED,
    "n": Handling.REFUSED,
    "logprobs": Handling.REFUSED,
    "top_logprobs": Handling.REFUSED,
    "audio": Handling.REFUSED,
    "modalities": Handling.REFUSED,
    "functions": Handling.REFUSED,
    "function_call": Handling.REFUSED,
    "web_search_options": Handling.REFUSED,
    "logit_bias": Handling.DROPPED,
    "prediction": Handling.DROPPED,
    "prompt_cache_key": Handling.DROPPED,
    "prompt_cache_options": Handling.DROPPED,
    "prompt_cache_retention": Handling.DROPPED,
    "service_tier": Handling.DROPPED,
    "verbosity": Handling.DROPPED,
    "moderation": Handling.DROPPED,
    "keep_alive": Handling.DROPPED,
}
"""`keep_alive` is not a client's to set: it holds the server's memory for as long as it says."""

OPTIONS = ("temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty")
"""Members that are options of the same name there."""

LEVELS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
CANNOT = re.compile(r"does not support (tools|thinking|images|vision|embeddings)\b")
MISSING = {"thinking": "reasoning", "images": "vision"}
"""Our words for what the server says a model cannot do."""

Json = dict[str, Any]

_encode = msgspec.json.encode


class _Model(msgspec.Struct):
    name: str = ""
    model: str = ""


class _Models(msgspec.Struct):
    models: list[_Model]


class _ErrorBody(msgspec.Struct):
    message: str = ""


class _Error(msgspec.Struct):
    error: str | _ErrorBody


_decode_models = msgspec.json.Decoder(_Models).decode
_decode_error = msgspec.json.Decoder(_Error).decode


class OllamaAdapter:
    """See `providers.types.Adapter`."""

    kind = "ollama"
    operations = frozenset({"chat", "embeddings"})
    capabilities = frozenset({"chat", "stream", "tools", "json_schema", "vision", "reasoning", "embeddings"})
    links: frozenset[str] = frozenset()
    fixed_base_url: str | None = None
    keeps_continuations = False
    embeddings_at_once: EmbeddingLimits | None = EmbeddingLimits(items=32, tokens=16_384)
    """The server names no limit; it works through its inputs on one machine."""
    on_disconnect = OnDisconnect.ABORT
    """The server stops when its client goes, and its time is better used. Source: server/routes.go of ollama/ollama,
    which runs the model in the context of the request."""

    def build_request(self, request: WireRequest, target: Target) -> UpstreamRequest:
        if request.operation == "embeddings":
            return _embed(request, target)
        dropped = dropped_parameters(request.members, PARAMETERS, provider="Ollama")
        body = _Writer(request, target, dropped=dropped).body()
        return _post(target, "/api/chat", body=body, dropped=tuple(dropped))

    def decoder(self, request: WireRequest | None = None) -> OllamaStreamDecoder:
        return OllamaStreamDecoder()

    def parse_response(self, request: WireRequest, body: bytes) -> Answer:
        if request.operation == "embeddings":
            return read_embeddings_answer(request, body)
        return read_chat_answer(body)

    def parse_error(self, status: int, *, headers: Mapping[str, str], body: bytes) -> ProviderError:
        try:
            error = _decode_error(body).error
            message = (error if isinstance(error, str) else error.message) or f"HTTP {status}"
        except MALFORMED:
            message = body[:2000].decode("utf-8", "replace") or f"HTTP {status} without a body"
        cannot = CANNOT.search(message) if status == 400 else None
        if cannot is not None:
            return UnsupportedError(MISSING.get(cannot[1], cannot[1]), message)
        failure = failure_of_status(status)
        return ProviderError(failure, message, status=status, retry_after_seconds=retry_after_seconds(headers))

    def list_models(self, target: Target, *, page: str | None = None) -> UpstreamRequest:
        return UpstreamRequest(url=_url(target, "/api/tags"), headers=_headers(target), body=b"", method="GET")

    def parse_models(self, body: bytes) -> ModelPage:
        try:
            listed = _decode_models(body).models
        except MALFORMED as error:
            raise ProviderError(Failure.BROKEN, f"The provider's list of models is none: {error}") from error
        return ModelPage(models=[ListedModel(id=model.model or model.name) for model in listed])

    def check_health(self, target: Target) -> UpstreamRequest:
        return self.list_models(target)


def _url(target: Target, path: str) -> str:
    """The base URL may end as the compatible protocols want it."""
    return target.base_url.removesuffix("/v1").removesuffix("/api") + path


def _headers(target: Target) -> dict[str, str]:
    return {"authorization": f"Bearer {target.secret}"} if target.secret is not None else {}


def _post(target: Target, path: str, *, body: Json, dropped: tuple[str, ...]) -> UpstreamRequest:
    return UpstreamRequest(
        url=_url(target, path),
        headers={"content-type": "application/json", **_headers(target)},
        body=_encode(body),
        dropped_parameters=dropped,
    )


def _embed(request: WireRequest, target: Target) -> UpstreamRequest:
    asked = read_embeddings(request)
    # Else the server cuts a text that is too long and says nothing about it.
    body: Json = {"model": target.upstream_model, "input": asked.texts, "truncate": False}
    if asked.dimensions is not None:
        body["dimensions"] = asked.dimensions
    return _post(target, "/api/embed", body=body, dropped=dropped_from_embeddings(request, provider="Ollama"))


class _Writer:
    """Writes one request. `dropped` grows by what turns out not to be possible."""

    def __init__(self, request: WireRequest, target: Target, *, dropped: list[str]) -> None:
        self._chat = read_chat(request.members)
        self._conversation = read_conversation(self._chat.messages, request.continuations)
        self._limit = request.max_output_tokens or self._chat.output_limit
        self._stream = request.stream
        self._target = target
        self._dropped = dropped

    def body(self) -> Json:
        body: Json = {"model": self._target.upstream_model, "messages": self._messages(), "stream": self._stream}
        tools = self._tools()
        if tools:
            body["tools"] = tools
        options = self._options()
        if options:
            body["options"] = options
        self._format(body)
        self._think(body)
        return body

    def _options(self) -> Json:
        options: Json = {name: value for name in OPTIONS if (value := getattr(self._chat, name)) is not None}
        if self._limit is not None:
            options["num_predict"] = self._limit
        if self._chat.stops:
            options["stop"] = self._chat.stops
        if self._target.context_window is not None:
            # The server's own default is a few thousand tokens, and it cuts a longer prompt without a word.
            options["num_ctx"] = self._target.context_window
        return options

    def _tools(self) -> list[Json]:
        """The tools on offer. Whether to call one is the model's choice here, but for none: then there are none."""
        offered = functions_of(self._chat)
        choice = tool_choice_of(self._chat)
        if choice is not None and choice.mode in ("required", "named"):
            raise UnsupportedError("tool_choice", "Ollama cannot make a model call a tool.", param="tool_choice")
        if self._chat.parallel_tool_calls is False:
            self._dropped.append("parallel_tool_calls")
        if choice is not None and choice.mode == "none":
            return []
        return [_tool(function) for function, _ in offered]

    def _format(self, body: Json) -> None:
        wanted = self._chat.response_format
        if wanted is None or wanted.type not in ("json_object", "json_schema"):
            return
        schema = wanted.json_schema.schema if wanted.json_schema is not None else msgspec.Raw(b"null")
        body["format"] = schema if bytes(schema) != b"null" else "json"

    def _think(self, body: Json) -> None:
        effort = self._chat.reasoning_effort
        if effort == "none":
            body["think"] = False
        elif effort in LEVELS:
            body["think"] = LEVELS[effort]
        elif effort is not None:
            self._dropped.append("reasoning_effort")

    def _messages(self) -> list[Json]:
        messages: list[Json] = []
        order: list[str] = []
        if self._conversation.instructions:
            text = "\n\n".join(item.text for item in self._conversation.instructions)
            messages.append({"role": "system", "content": text})
        for turn in self._conversation.turns:
            if turn.role == "assistant":
                messages.append(_said(turn))
                order = [item.id for item in turn.items if isinstance(item, Call)]
            else:
                messages += _answered(turn, order)
        return messages


def _tool(function: Function) -> Json:
    declared: Json = {"name": function.name, "parameters": parameters_schema(function)}
    if function.description:
        declared["description"] = function.description
    return {"type": "function", "function": declared}


def _said(turn: Turn) -> Json:
    message = _spoken("assistant", [item for item in turn.items if not isinstance(item, Call)])
    calls = [item for item in turn.items if isinstance(item, Call)]
    if calls:
        message["tool_calls"] = [{"function": {"name": call.name, "arguments": call.arguments}} for call in calls]
    return message


def _answered(turn: Turn, order: list[str]) -> list[Json]:
    """The user's turn, results in the order of the calls: there are no ids, so order says which is which."""
    places = {call_id: place for place, call_id in enumerate(order)}
    results = [item for item in turn.items if isinstance(item, Result)]
    results.sort(key=lambda result: places.get(result.call_id, len(places)))
    messages = [{**_spoken("tool", result.items), "tool_name": result.name or "function"} for result in results]
    rest = [item for item in turn.items if not isinstance(item, Result)]
    return [*messages, _spoken("user", rest)] if rest else messages


def _spoken(role: str, items: Sequence[Item]) -> Json:
    """Text and pictures as one message."""
    texts: list[str] = []
    images: list[str] = []
    for item in items:
        if isinstance(item, Text):
            texts.append(item.text)
        elif isinstance(item, Media):
            if item.capability == "documents" and item.media_type.startswith("text/"):
                texts.append(item.text)
            else:
                images.append(_image(item))
    return {"role": role, "content": "\n".join(texts), **({"images": images} if images else {})}


def _image(media: Media) -> str:
    if media.capability != "vision":
        message = f"Ollama takes no {media.media_type or media.capability}."
        raise UnsupportedError(media.capability, message, param=media.place)
    if media.url:
        message = "Ollama fetches no pictures: send them as data URLs."
        raise UnsupportedError("image_urls", message, param=media.place)
    return media.data


ADAPTER = OllamaAdapter()
