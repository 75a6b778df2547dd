"""Google's Gemini Developer API: generateContent, streamGenerateContent and batchEmbedContents.

Source: the type definitions of the `google-genai` SDK 3.4.0 and requests of it recorded on the wire.
"""

from __future__ import annotations

import mimetypes
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any

import msgspec

from providers.adapters import google_media
from providers.adapters.google_answers import GoogleStreamDecoder, read_answer, read_embeddings_answer, read_error
from providers.chat_requests import functions_of, read_chat, tool_choice_of
from providers.conversation import Call, Item, Media, Result, Text, Turn, read_conversation
from providers.embeddings import dropped_from_embeddings, read_embeddings
from providers.errors import Failure, ProviderError
from providers.failures import MALFORMED
from providers.json_schemas import refuse_recursion
from providers.parameters import FOR_THE_GATEWAY, Handling, dropped_parameters
from providers.types import (
    Answer,
    EmbeddingLimits,
    ListedModel,
    ModelPage,
    OnDisconnect,
    StreamDecoder,
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
    "response_format": Handling.TRANSLATED,
    "reasoning_effort": Handling.TRANSLATED,
    "n": Handling.REFUSED,
    "logprobs": Handling.REFUSED,
    "top_logprobs": Handling.REFUSED,
    "audio": Handling.TRANSLATED,
    "modalities": Handling.TRANSLATED,
    "image_config": Handling.TRANSLATED,
    "functions": Handling.REFUSED,
    "function_call": Handling.REFUSED,
    "web_search_options": Handling.REFUSED,
    "parallel_tool_calls": Handling.TRANSLATED,
    "logit_bias": Handling.DROPPED,
    "prediction": Handling.DROPPED,
    "prompt_cache_key": Handling.DROPPED,
    "prompt_cache_options": Handling.DROPPED,
    "prompt_cache_retention": Handling.DROPPED,
    "service_tier": Handling.DROPPED,
    "verbosity": Handling.DROPPED,
    "moderation": Handling.DROPPED,
}

GENERATION = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
}

MODEL_VERSION = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
FIRST_WITH_LEVELS, FIRST_THINKING = (3, 0), (2, 5)
"""From Gemini 3 on a model is told how hard to think, before that how many tokens it may think."""

LEVELS = {"none": "MINIMAL", "minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "XHIGH",
          "max": "XHIGH"}  # fmt: skip
BUDGETS = {"none": 0, "minimal": 512, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 24_576, "max": 24_576}

PREVIEW = re.compile(r"-latest$|preview|-exp|tts")
"""Models of these names are offered under v1beta only."""

NO_SIGNATURE = "skip_thought_signature_validator"
"""What Google tells clients to send for calls that another model made, or whose signature is lost: from Gemini 3 on a
call without one is refused. Source: its documentation of thought signatures."""

NO_TEXT = "(no text)"
"""Stands where OpenAI's protocol lets a message be empty and this one does not."""

Json = dict[str, Any]

_decode = msgspec.json.decode
_decode_signatures = msgspec.json.Decoder(dict[str, str]).decode
_encode = msgspec.json.encode


class _Model(msgspec.Struct, rename="camel"):
    name: str
    display_name: str = ""
    input_token_limit: int | None = None
    output_token_limit: int | None = None


class _Models(msgspec.Struct, rename="camel"):
    models: list[_Model] = []
    next_page_token: str | None = None


_decode_models = msgspec.json.Decoder(_Models).decode


class GoogleAdapter:
    """See `providers.types.Adapter`."""

    kind = "google"
    operations = frozenset({"chat", "embeddings", "realtime"}) | google_media.OPERATIONS
    capabilities = frozenset(
        {
            "chat", "stream", "tools", "json_schema", "vision", "audio", "video", "documents", "reasoning",
            "embeddings", "image_generation", "image_edit", "speech", "transcription", "realtime",
        }
    )  # fmt: skip
    links = frozenset({"vision", "audio", "video", "documents"})
    fixed_base_url: str | None = None
    keeps_continuations = True
    embeddings_at_once: EmbeddingLimits | None = EmbeddingLimits(items=100, tokens=20_000)
    """`batchEmbedContents` takes 100 requests; the tokens are Vertex AI's limit, as the Gemini API names none."""
    on_disconnect = OnDisconnect.DRAIN
    """Gemini works on and bills all of it. Source: openrouter.ai/docs/api-reference/streaming, \"Stream cancellation\",
    November 2026."""

    def build_request(self, request: WireRequest, target: Target) -> UpstreamRequest:
        if request.operation == "embeddings":
            return _embed(request, target)
        if request.operation in google_media.OPERATIONS:
            body, dropped = google_media.write(request, target)
            return _post(target, _method(request), body=body, dropped=dropped)
        left_out = dropped_parameters(request.members, PARAMETERS, provider="Gemini")
        written = _Writer(request, target, dropped=left_out).body()
        return _post(target, _method(request), body=written, dropped=tuple(left_out))

    def decoder(self, request: WireRequest | None = None) -> StreamDecoder:
        if request is not None and request.operation in google_media.OPERATIONS:
            return google_media.decoder(request)
        return GoogleStreamDecoder()

    def parse_response(self, request: WireRequest, body: bytes) -> Answer:
        if request.operation in google_media.OPERATIONS:
            return google_media.read_answer(request, body)
        return read_embeddings_answer(request, body) if request.operation == "embeddings" else read_answer(body)

    def parse_error(self, status: int, *, headers: Mapping[str, str], body: bytes) -> ProviderError:
        return read_error(status, body)

    def list_models(self, target: Target, *, page: str | None = None) -> UpstreamRequest:
        token = f"&pageToken={urllib.parse.quote(page)}" if page else ""
        return _get(target, f"/models?pageSize=1000{token}")

    def parse_models(self, body: bytes) -> ModelPage:
        try:
            listed = _decode_models(body)
        except MALFORMED as error:
            raise ProviderError(Failure.BROKEN, f"The provider's list of models is none: {error}") from error
        models = [
            ListedModel(
                id=model.name.removeprefix("models/"),
                display_name=model.display_name,
                context_window=model.input_token_limit,
                max_output_tokens=model.output_token_limit,
            )
            for model in listed.models
        ]
        return ModelPage(models=models, next_page=listed.next_page_token or None)

    def check_health(self, target: Target) -> UpstreamRequest:
        return _get(target, "/models?pageSize=1")


def _root(target: Target) -> str:
    """The base URL with the API's version: the row's own where it names one, else the one that has the model."""
    if target.base_url.endswith(("/v1", "/v1beta")):
        return target.base_url
    return f"{target.base_url}/{'v1beta' if PREVIEW.search(target.upstream_model) else 'v1'}"


def _path(target: Target) -> str:
    name = target.upstream_model
    return name if "/" in name else f"models/{name}"


def _post(target: Target, method: str, *, body: Json, dropped: tuple[str, ...]) -> UpstreamRequest:
    return UpstreamRequest(
        url=f"{_root(target)}/{urllib.parse.quote(_path(target), safe='/')}:{method}",
        headers={"content-type": "application/json", **_headers(target)},
        body=_encode(body),
        dropped_parameters=dropped,
    )


def _method(request: WireRequest) -> str:
    return "streamGenerateContent?alt=sse" if request.stream else "generateContent"


def _embed(request: WireRequest, target: Target) -> UpstreamRequest:
    """One entry for each text: several parts in one entry would become one vector."""
    asked = read_embeddings(request)
    size: Json = {"outputDimensionality": asked.dimensions} if asked.dimensions is not None else {}
    entries = [{"model": _path(target), "content": {"parts": [{"text": text}]}, **size} for text in asked.texts]
    dropped = dropped_from_embeddings(request, provider="Gemini")
    return _post(target, "batchEmbedContents", body={"requests": entries}, dropped=dropped)


def _headers(target: Target) -> dict[str, str]:
    return {"x-goog-api-key": target.secret} if target.secret is not None else {}


def _get(target: Target, path: str) -> UpstreamRequest:
    return UpstreamRequest(url=_root(target) + path, headers=_headers(target), body=b"", method="GET")


class _Writer:
    """Writes one request. `dropped` grows by what turns out not to be possible with this model."""

    def __init__(self, request: WireRequest, target: Target, *, dropped: list[str]) -> None:
        self._chat = read_chat(request.members)
        self._conversation = read_conversation(self._chat.messages, request.continuations)
        self._limit = request.max_output_tokens or self._chat.output_limit
        self._dropped = dropped
        found = MODEL_VERSION.search(target.upstream_model)
        self._version = (int(found[1]), int(found[2] or 0)) if found else FIRST_WITH_LEVELS

    def body(self) -> Json:
        body: Json = {"contents": self._contents()}
        if self._conversation.instructions:
            body["systemInstruction"] = {"parts": [{"text": item.text} for item in self._conversation.instructions]}
        if self._chat.tools:
            body["tools"] = [{"functionDeclarations": [_declaration(entry[0]) for entry in functions_of(self._chat)]}]
        choice = tool_choice_of(self._chat)
        if choice is not None:
            mode = {"auto": "AUTO", "required": "ANY", "none": "NONE", "named": "ANY"}[choice.mode]
            names = {"allowedFunctionNames": [choice.name]} if choice.name else {}
            body["toolConfig"] = {"functionCallingConfig": {"mode": mode, **names}}
        if self._chat.parallel_tool_calls is False:
            self._dropped.append("parallel_tool_calls")
        generation = self._generation()
        if generation:
            body["generationConfig"] = generation
        return body

    def _generation(self) -> Json:
        chat = self._chat
        config: Json = {}
        if self._limit is not None:
            config["maxOutputTokens"] = self._limit
        for name, word in GENERATION.items():
            value = getattr(chat, name)
            if value is not None:
                config[word] = value
        if chat.stops:
            config["stopSequences"] = chat.stops
        wanted = chat.response_format
        if wanted is not None and wanted.type in ("json_object", "json_schema"):
            config["responseMimeType"] = "application/json"
            if wanted.json_schema is not None and bytes(wanted.json_schema.schema) != b"null":
                refuse_recursion(
                    wanted.json_schema.schema, provider="Gemini", param="response_format", only_required=True
                )
                config["responseJsonSchema"] = wanted.json_schema.schema
        config |= google_media.asked_for(chat)
        self._thinking(config)
        return config

    def _thinking(self, config: Json) -> None:
        effort = self._chat.reasoning_effort
        if effort is None:
            return
        if effort not in LEVELS or self._version < FIRST_THINKING:
            self._dropped.append("reasoning_effort")
            return
        amount: Json = {"thinkingBudget": BUDGETS[effort]}
        if self._version >= FIRST_WITH_LEVELS:
            amount = {"thinkingLevel": LEVELS[effort]}
        config["thinkingConfig"] = {**amount, "includeThoughts": effort != "none"}

    def _contents(self) -> list[Json]:
        contents: list[Json] = []
        order: list[str] = []
        for turn in self._conversation.turns:
            if turn.role == "assistant":
                contents.append({"role": "model", "parts": self._said(turn)})
                order = [item.id for item in turn.items if isinstance(item, Call)]
            else:
                contents.append({"role": "user", "parts": _answered(turn, order)})
        if not contents or contents[0]["role"] == "model":
            contents.insert(0, {"role": "user", "parts": [{"text": NO_TEXT}]})
        return contents

    def _said(self, turn: Turn) -> list[Json]:
        """The model's turn. The first call of each needs the signature that came with it."""
        signatures = _decode_signatures(turn.continuation) if turn.continuation else {}
        parts: list[Json] = []
        signed = False
        for item in turn.items:
            if not isinstance(item, Call):
                parts += _parts(item)
                continue
            part: Json = {"functionCall": {"id": item.id, "name": item.name, "args": item.arguments}}
            if item.id in signatures:
                part["thoughtSignature"] = signatures[item.id]
            elif not signed and self._version >= FIRST_WITH_LEVELS:
                part["thoughtSignature"] = NO_SIGNATURE
            signed = True
            parts.append(part)
        return parts


def _declaration(function: Any) -> Json:
    declaration: Json = {"name": function.name}
    if function.description:
        declaration["description"] = function.description
    if bytes(function.parameters) != b"null":
        refuse_recursion(function.parameters, provider="Gemini", param="tools", only_required=True)
        declaration["parametersJsonSchema"] = function.parameters
    return declaration


def _answered(turn: Turn, order: list[str]) -> list[Json]:
    """The user's turn, results in the order of the calls: ids are optional here, so order says which is which."""
    places = {call_id: place for place, call_id in enumerate(order)}
    results = [item for item in turn.items if isinstance(item, Result)]
    results.sort(key=lambda result: places.get(result.call_id, len(places)))
    rest = [item for item in turn.items if not isinstance(item, Result)]
    return [part for item in (*results, *rest) for part in _parts(item)]


def _parts(item: Item) -> list[Json]:
    if isinstance(item, Text):
        return [{"text": item.text}]
    if isinstance(item, Media):
        return [_media(item)]
    assert isinstance(item, Result)
    text = "".join(inner.text for inner in item.items if isinstance(inner, Text))
    response = {"id": item.call_id, "name": item.name or "function", "response": _object(text)}
    shown = [_media(inner) for inner in item.items if isinstance(inner, Media)]
    return [{"functionResponse": response}, *shown]


def _object(text: str) -> Any:
    """A tool's answer as an object: as it is where it is one."""
    try:
        value = _decode(text)
    except MALFORMED:
        value = None
    return value if isinstance(value, dict) else {"result": text}


def _media(media: Media) -> Json:
    if media.url:
        media_type = mimetypes.guess_type(urllib.parse.urlsplit(media.url).path)[0]
        return {"fileData": {"fileUri": media.url, **({"mimeType": media_type} if media_type else {})}}
    return {"inlineData": {"mimeType": media.media_type, "data": media.data}}


ADAPTER = GoogleAdapter()
