"""Anthropic's Messages API.

Source: the type definitions of the `anthropic` SDK 2.12.0 and requests of it recorded on the wire.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from providers.adapters.anthropic_answers import AnthropicStreamDecoder, read_answer
from providers.chat_requests import (
    functions_of,
    parameters_schema,
    read_chat,
    tool_choice_of,
)
from providers.conversation import PDF, Call, Item, Media, Result, Text, Turn, read_conversation
from providers.errors import Failure, ProviderError, UnsupportedError
from providers.failures import MALFORMED, failure_of_status, retry_after_seconds
from providers.json_schemas import closed_schema, refuse_recursion
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
    "stop": Handling.TRANSLATED,
    "tools": Handling.TRANSLATED,
    "tool_choice": Handling.TRANSLATED,
    "parallel_tool_calls": Handling.TRANSLATED,
    "response_format": Handling.TRANSLATED,
    "reasoning_effort": Handling.TRANSLATED,
    "thinking": Handling.TRANSLATED,
    "cache_control": Handling.TRANSLATED,
    "n": Handling.REFUSED,
    "logprobs": Handling.REFUSED,
    "top_logprobs": Handling.REFUSED,
    "audio": Handling.REFUSED,
    "modalities": Handling.REFUSED,
    "functions": Handling.REFUSED,
    "function_call": Handling.REFUSED,
    "web_search_options": Handling.REFUSED,
    "seed": Handling.DROPPED,
    "frequency_penalty": Handling.DROPPED,
    "presence_penalty": Handling.DROPPED,
    "logit_bias": Handling.DROPPED,
    "prediction": Handling.DROPPED,
    "prompt_cache_key": Handling.DROPPED,
    "prompt_cache_options": Handling.DROPPED,
    "prompt_cache_retention": Handling.DROPPED,
    "service_tier": Handling.DROPPED,
    "verbosity": Handling.DROPPED,
    "moderation": Handling.DROPPED,
}

SAMPLING = ("temperature", "top_p", "top_k")
VERSION_WITH_SAMPLING, VERSION = "2023-06-01", "2026-10-21"
"""From 2026-10-21 on the API refuses sampling parameters whatever the model; models from 4.7 on refuse them anyway."""

FIRST_WITHOUT_SAMPLING = (4, 7)
FIRST_ADAPTIVE = (4, 6)
FIRST_THINKING = (3, 7)
"""The model versions that think as much as they see fit, and those that think within a budget."""

MODEL_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d)(?:[-.](\d{1,2}))?(?![\d.])")
EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_768, "max": 32_768}
SMALLEST_BUDGET = 1024

OUTPUT_TOKENS_WHEN_UNKNOWN = 4096
"""The API wants a limit; where neither the client nor the model's row has one, the ledger holds as much as this."""

NO_TEXT = "(no text)"
"""Stands where OpenAI's protocol lets a message be empty and this one does not."""

JSON_OBJECT = "Answer with one JSON object and nothing else: no other words, no Markdown."
IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_-]")
SPEND_LIMIT = "enforced_spend_limit_reached"
EMPTY_ACCOUNT = "credit balance is too low"

Block = dict[str, Any]


class _ErrorDetails(msgspec.Struct):
    error_code: str | None = None


class _ErrorBody(msgspec.Struct):
    type: str = ""
    message: str = ""
    details: _ErrorDetails | None = None


class _ErrorEnvelope(msgspec.Struct):
    error: _ErrorBody


class _Model(msgspec.Struct):
    id: str
    display_name: str = ""
    lifecycle: str = ""
    max_input_tokens: int | None = None
    max_tokens: int | None = None


class _Models(msgspec.Struct):
    data: list[_Model]
    has_more: bool = False
    last_id: str | None = None


_decode_error = msgspec.json.Decoder(_ErrorEnvelope).decode
_decode_models = msgspec.json.Decoder(_Models).decode
_decode_blocks = msgspec.json.Decoder(list[dict[str, Any]]).decode
_decode = msgspec.json.decode
_encode = msgspec.json.encode


class AnthropicAdapter:
    """See `providers.types.Adapter`."""

    kind = "anthropic"
    operations = frozenset({"chat"})
    capabilities = frozenset({"chat", "stream", "tools", "json_schema", "vision", "documents", "reasoning"})
    links = frozenset({"vision", "documents"})
    fixed_base_url: str | None = None
    keeps_continuations = True
    embeddings_at_once: EmbeddingLimits | None = None
    on_disconnect = OnDisconnect.ABORT
    """Anthropic stops and bills no further when a stream is cut. Source: openrouter.ai/docs/api-reference/streaming,
    \"Stream cancellation\", November 2026."""

    def build_request(self, request: WireRequest, target: Target) -> UpstreamRequest:
        dropped = dropped_parameters(request.members, PARAMETERS, provider="Anthropic")
        body = _Writer(request, target, dropped=dropped).body()
        if request.stream:
            body["stream"] = True
        version = VERSION_WITH_SAMPLING if any(name in body for name in SAMPLING) else VERSION
        return UpstreamRequest(
            url=_url(target, "/v1/messages"),
            headers={"content-type": "application/json", **_headers(target, version)},
            body=_encode(body),
            dropped_parameters=tuple(dropped),
        )

    def decoder(self, request: WireRequest | None = None) -> AnthropicStreamDecoder:
        return AnthropicStreamDecoder()

    def parse_response(self, request: WireRequest, body: bytes) -> Answer:
        return read_answer(body)

    def parse_error(self, status: int, *, headers: Mapping[str, str], body: bytes) -> ProviderError:
        failure = failure_of_status(status)
        try:
            error = _decode_error(body).error
            message = error.message or error.type or f"HTTP {status}"
            spent = error.details is not None and error.details.error_code == SPEND_LIMIT
            if spent or (status == 400 and EMPTY_ACCOUNT in message):
                failure = Failure.REFUSED_CREDENTIAL  # the account behind it may not spend more; waiting does not help
        except MALFORMED:
            message = body[:2000].decode("utf-8", "replace") or f"HTTP {status} without a body"
        return ProviderError(failure, message, status=status, retry_after_seconds=retry_after_seconds(headers))

    def list_models(self, target: Target, *, page: str | None = None) -> UpstreamRequest:
        query = f"?limit=1000&after_id={page}" if page else "?limit=1000"
        return _get(target, f"/v1/models{query}")

    def parse_models(self, body: bytes) -> ModelPage:
        try:
            listed = _decode_models(body)
        except MALFORMED as error:
            raise ProviderError(Failure.BROKEN, f"The provider's list of models is none: {error}") from error
        models = [
            ListedModel(
                id=model.id,
                display_name=model.display_name,
                context_window=model.max_input_tokens,
                max_output_tokens=model.max_tokens,
                retired=model.lifecycle == "retired",
            )
            for model in listed.data
        ]
        return ModelPage(models=models, next_page=listed.last_id if listed.has_more else None)

    def check_health(self, target: Target) -> UpstreamRequest:
        return _get(target, "/v1/models?limit=1")


def _url(target: Target, path: str) -> str:
    return target.base_url.removesuffix("/v1") + path


def _headers(target: Target, version: str) -> dict[str, str]:
    return {"anthropic-version": version, **({"x-api-key": target.secret} if target.secret is not None else {})}


def _get(target: Target, path: str) -> UpstreamRequest:
    return UpstreamRequest(url=_url(target, path), headers=_headers(target, VERSION), body=b"", method="GET")


def model_version(name: str) -> tuple[int, int] | None:
    """Which generation a model is, from its name; None for a name that does not say."""
    found = MODEL_VERSION.search(name)
    return (int(found[1]), int(found[2] or 0)) if found else None


class _Writer:
    """Writes one request. `dropped` grows by what turns out not to be possible with this model or beside the rest."""

    def __init__(self, request: WireRequest, target: Target, *, dropped: list[str]) -> None:
        self._chat = read_chat(request.members)
        self._conversation = read_conversation(self._chat.messages, request.continuations)
        self._target = target
        self._dropped = dropped
        self._version = model_version(target.upstream_model)
        self._limit = (
            request.max_output_tokens
            or self._chat.output_limit
            or target.max_output_tokens
            or OUTPUT_TOKENS_WHEN_UNKNOWN
        )

    def body(self) -> dict[str, Any]:
        chat = self._chat
        body: dict[str, Any] = {"model": self._target.upstream_model, "max_tokens": self._limit}
        system = self._system()
        if system:
            body["system"] = system
        body["messages"] = self._messages()
        if chat.tools:
            body["tools"] = [_tool(function, cache) for function, cache in functions_of(chat)]
            choice = self._tool_choice()
            if choice is not None:
                body["tool_choice"] = choice
        self._stops(body)
        self._output_config(body)
        self._thinking(body)
        self._sampling(body)
        if _given(chat.cache_control):
            body["cache_control"] = chat.cache_control
        user = chat.safety_identifier or chat.user
        if user:
            body["metadata"] = {"user_id": user}
        return body

    def _system(self) -> list[Block]:
        blocks = [_text(item) for item in self._conversation.instructions]
        wanted = self._chat.response_format
        if wanted is not None and wanted.type == "json_object":
            blocks.append({"type": "text", "text": JSON_OBJECT})
        return blocks

    def _messages(self) -> list[Block]:
        messages: list[Block] = [{"role": turn.role, "content": _blocks(turn)} for turn in self._conversation.turns]
        if not messages or messages[0]["role"] == "assistant":
            messages.insert(0, {"role": "user", "content": [{"type": "text", "text": NO_TEXT}]})
        last = messages[-1]
        if last["role"] == "assistant" and last["content"][-1]["type"] == "text":
            last["content"][-1]["text"] = last["content"][-1]["text"].rstrip()  # the API refuses trailing spaces there
        return messages

    def _tool_choice(self) -> Block | None:
        choice = tool_choice_of(self._chat)
        one_at_a_time = self._chat.parallel_tool_calls is False
        if choice is None:
            return {"type": "auto", "disable_parallel_tool_use": True} if one_at_a_time else None
        if choice.mode == "none":
            return {"type": "none"}
        block: Block = {"type": {"auto": "auto", "required": "any", "named": "tool"}[choice.mode]}
        if choice.name:
            block["name"] = choice.name
        if one_at_a_time:
            block["disable_parallel_tool_use"] = True
        return block

    def _stops(self, body: dict[str, Any]) -> None:
        stops = self._chat.stops
        sent = [text for text in stops if text.strip()]  # the API refuses sequences of white space
        if sent:
            body["stop_sequences"] = sent
        if len(sent) < len(stops):
            self._dropped.append("stop")

    def _output_config(self, body: dict[str, Any]) -> None:
        wanted = self._chat.response_format
        if wanted is None or wanted.type != "json_schema" or wanted.json_schema is None:
            return
        raw = wanted.json_schema.schema
        if not _given(raw):
            param = "response_format.json_schema.schema"
            raise ProviderError(Failure.REFUSED_INPUT, f"{param} is required.", status=400, param=param)
        refuse_recursion(raw, provider="Anthropic", param="response_format")
        body["output_config"] = {"format": {"type": "json_schema", "schema": closed_schema(_decode(raw))}}

    def _thinking(self, body: dict[str, Any]) -> None:
        """Say how much to think. The API refuses thinking beside a forced tool, and, for models with a budget, in the
        middle of a tool loop whose earlier thoughts are not there."""
        chat = self._chat
        if _given(chat.thinking):
            body["thinking"] = chat.thinking
            return
        effort = chat.reasoning_effort
        if effort is None:
            return
        forced = body.get("tool_choice", {}).get("type") in ("any", "tool")
        adaptive = self._version is None or self._version >= FIRST_ADAPTIVE
        if effort == "none":
            if adaptive or (self._version is not None and self._version >= FIRST_THINKING):
                body["thinking"] = {"type": "disabled"}
        elif effort not in EFFORTS:
            self._dropped.append("reasoning_effort")
        elif adaptive:
            body.setdefault("output_config", {})["effort"] = EFFORTS[effort]
            if not forced:
                body["thinking"] = {"type": "adaptive", "display": "summarized"}
        else:
            budget = min(BUDGETS[effort], self._limit - 1)
            thinks = self._version is not None and self._version >= FIRST_THINKING
            if thinks and budget >= SMALLEST_BUDGET and not forced and not self._thoughts_are_missing():
                body["thinking"] = {"type": "enabled", "budget_tokens": budget}
            else:
                self._dropped.append("reasoning_effort")

    def _thoughts_are_missing(self) -> bool:
        turns = self._conversation.turns
        in_loop = bool(turns) and any(isinstance(item, Result) for item in turns[-1].items)
        return in_loop and not any(turn.continuation for turn in turns[-2:])

    def _sampling(self, body: dict[str, Any]) -> None:
        chat = self._chat
        wanted: dict[str, Any] = {name: value for name in SAMPLING if (value := getattr(chat, name)) is not None}
        thinking = "thinking" in body and body["thinking"] != {"type": "disabled"}
        refused = self._version is None or self._version >= FIRST_WITHOUT_SAMPLING or thinking
        if "temperature" in wanted:
            wanted["temperature"] = min(wanted["temperature"], 1.0)  # OpenAI's scale goes on to 2
        if refused:
            self._dropped.extend(wanted)
            return
        if "temperature" in wanted and "top_p" in wanted:
            del wanted["top_p"]  # newer models refuse both together
            self._dropped.append("top_p")
        body.update(wanted)


def _given(raw: msgspec.Raw) -> bool:
    return bytes(raw) != b"null"


def _cached(block: Block, cache_control: msgspec.Raw) -> Block:
    if _given(cache_control):
        block["cache_control"] = cache_control
    return block


def _text(item: Text) -> Block:
    return _cached({"type": "text", "text": item.text}, item.cache_control)


def _tool(function: Any, cache_control: msgspec.Raw) -> Block:
    block: Block = {"name": function.name, "input_schema": parameters_schema(function)}
    if function.description:
        block["description"] = function.description
    if function.strict:
        refuse_recursion(function.parameters, provider="Anthropic", param="tools")
        block["strict"] = True
        block["input_schema"] = closed_schema(_decode(_encode(block["input_schema"])))
    return _cached(block, cache_control)


def _blocks(turn: Turn) -> list[Block]:
    """A turn's content; where thoughts were kept, they stand between the blocks that they came with."""
    if turn.continuation is None:
        return [_block(item) for item in turn.items]
    texts = [item for item in turn.items if not isinstance(item, Call)]
    calls = {clean_id(item.id): item for item in turn.items if isinstance(item, Call)}
    blocks: list[Block] = []
    for kept in _decode_blocks(turn.continuation):
        if kept["type"] == "text":
            blocks += [_block(item) for item in texts]
            texts = []
        elif kept["type"] != "tool_use":
            blocks.append(kept)
        elif (call := calls.pop(clean_id(kept["id"]), None)) is not None:
            blocks.append(_block(call))
    return blocks + [_block(item) for item in (*texts, *calls.values())]


def _block(item: Item) -> Block:
    if isinstance(item, Text):
        return _text(item)
    if isinstance(item, Media):
        return _cached(_media(item), item.cache_control)
    if isinstance(item, Call):
        return {"type": "tool_use", "id": clean_id(item.id), "name": item.name, "input": item.arguments}
    block: Block = {"type": "tool_result", "tool_use_id": clean_id(item.call_id)}
    if item.items:
        block["content"] = [_block(inner) for inner in item.items]
    return _cached(block, item.cache_control)


def clean_id(call_id: str) -> str:
    """A tool call's id in the letters that this API allows; another provider may have made it."""
    return NOT_IN_IDS.sub("_", call_id)


def _media(media: Media) -> Block:
    if media.capability == "vision":
        if media.url:
            return {"type": "image", "source": {"type": "url", "url": media.url}}
        if media.media_type not in IMAGES:
            raise UnsupportedError("vision", f"Anthropic reads no {media.media_type}.", param=media.place)
        return {"type": "image", "source": {"type": "base64", "media_type": media.media_type, "data": media.data}}
    if media.capability != "documents":
        raise UnsupportedError(media.capability, f"Anthropic takes no {media.capability}.", param=media.place)
    titled = {"title": media.name} if media.name else {}
    if media.url:
        return {"type": "document", "source": {"type": "url", "url": media.url}, **titled}
    if media.media_type == PDF:
        source = {"type": "base64", "media_type": PDF, "data": media.data}
    elif media.media_type.startswith("text/"):
        source = {"type": "text", "media_type": "text/plain", "data": media.text}
    else:
        raise UnsupportedError("documents", f"Anthropic reads no {media.media_type}.", param=media.place)
    return {"type": "document", "source": source, **titled}


ADAPTER = AnthropicAdapter()
