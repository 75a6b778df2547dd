"""Any server that speaks OpenAI's chat completions and embeddings.

The gateway speaks the same protocol to its clients, so bodies and stream events pass as the bytes they came in; what
the gateway decides on is read from a typed decode of the few fields it needs.
Source: the type definitions of the `openai` SDK 3.52.0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from providers.adapters import openai_media
from providers.adapters.openai_wire import GATEWAY_MEMBERS, authorization, decode_error, stream_error
from providers.errors import Failure, ProviderError
from providers.failures import MALFORMED, failure_of_status, retry_after_seconds
from providers.sse import SseDecoder
from providers.types import (
    Answer,
    Chunk,
    EmbeddingLimits,
    ListedModel,
    ModelPage,
    OnDisconnect,
    StreamDecoder,
    Target,
    UpstreamRequest,
    Usage,
    WireRequest,
)
from providers.usage import impossible, unbelievable

PATHS = {"chat": "/chat/completions", "embeddings": "/embeddings"}

CAPABILITIES = frozenset(
    {
        "chat", "stream", "tools", "json_schema", "vision", "audio", "video", "documents", "reasoning", "embeddings",
        "image_generation", "image_edit", "speech", "transcription", "realtime",
    }
)  # fmt: skip
"""Servers of this protocol differ; what one cannot do, its models in the registry do not claim."""

OUTPUT_LIMITS = ("max_tokens", "max_completion_tokens")
"""Every server of this protocol knows the older name; the newer one is used where the client uses it."""

LONGEST_SERVICE_TIER = 64
NOT_A_NUMBER = re.compile(rb"[:\[,]\s*-?(NaN|Infinity)\s*[,\]}]")

SILENT = (b"null", b'""', b"[]", b"{}")
"""Delta members that are present and say nothing."""


class Delta(msgspec.Struct):
    """What is said in a chunk, or in a whole message; each member as the provider's own bytes."""

    content: msgspec.Raw = msgspec.Raw(b"null")
    reasoning_content: msgspec.Raw = msgspec.Raw(b"null")
    refusal: msgspec.Raw = msgspec.Raw(b"null")
    tool_calls: msgspec.Raw = msgspec.Raw(b"null")
    function_call: msgspec.Raw = msgspec.Raw(b"null")
    audio: msgspec.Raw = msgspec.Raw(b"null")
    images: msgspec.Raw = msgspec.Raw(b"null")
    """Pictures, as several servers of this protocol answer them. They are no text."""

    def said(self) -> int:
        """How many bytes of JSON the model said in this delta."""
        total = 0
        for member in (
            self.content, self.reasoning_content, self.refusal, self.tool_calls, self.function_call, self.audio,
        ):  # fmt: skip
            value = bytes(member)
            if value not in SILENT:
                total += len(value) - 2
        return total


class Choice(msgspec.Struct):
    """One answer: its `delta` in a stream, its `message` in a whole body."""

    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None


class Body(msgspec.Struct):
    """What the gateway reads of a chunk or of a whole body."""

    choices: list[Choice] | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")
    service_tier: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")


class _EmbeddingsBody(msgspec.Struct):
    data: msgspec.Raw
    usage: msgspec.Raw = msgspec.Raw(b"null")


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int = 0
    total_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _ListedModel(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[_ListedModel]


_decode_body = msgspec.json.Decoder(Body).decode
_decode_embeddings = msgspec.json.Decoder(_EmbeddingsBody).decode
_decode_usage = msgspec.json.Decoder(_Usage).decode
_decode_models = msgspec.json.Decoder(_ModelList).decode
_encode = msgspec.json.encode


def read_usage(raw: bytes) -> Usage | None:
    """Normalise OpenAI's usage object; None where there is none, `problem` set where its figures cannot be true.

    `cached_tokens` and `reasoning_tokens` are parts of the prompt's and completion's totals there; here they are apart.
    xAI counts reasoning beside the completion, which its total gives away.
    """
    if raw in (b"null", b"{}"):
        return None
    try:
        usage = _decode_usage(raw)
    except MALFORMED as error:
        return unbelievable(raw, str(error))
    prompt = usage.prompt_tokens_details or _PromptDetails()
    completion = usage.completion_tokens_details or _CompletionDetails()
    cache_read, cache_write = prompt.cached_tokens or 0, prompt.cache_write_tokens or 0
    audio_input, image_input = prompt.audio_tokens or 0, prompt.image_tokens or 0
    reasoning, audio_output = completion.reasoning_tokens or 0, completion.audio_tokens or 0
    completed = usage.completion_tokens
    if reasoning and usage.total_tokens == usage.prompt_tokens + completed + reasoning:
        completed += reasoning
    units = {
        "input": usage.prompt_tokens - cache_read - cache_write - audio_input - image_input,
        "cache_read": cache_read,
        "cache_write_5m": cache_write,
        "audio_input": audio_input,
        "image_input": image_input,
        "output": completed - reasoning - audio_output,
        "reasoning": reasoning,
        "audio_output": audio_output,
    }
    if problem := impossible(units):
        return unbelievable(raw, problem)
    return Usage(
        units={unit: count for unit, count in units.items() if count},
        input_tokens=usage.prompt_tokens,
        output_tokens=completed,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        reasoning_tokens=reasoning,
        raw=raw,
    )


def _usage_of(body: Body) -> Usage | None:
    """A body's usage, with the service tier that stands beside it."""
    usage = read_usage(bytes(body.usage))
    tier = bytes(body.service_tier)
    if usage is None or not tier.startswith(b'"'):
        return usage
    return msgspec.structs.replace(usage, service_tier=msgspec.json.decode(tier, type=str)[:LONGEST_SERVICE_TIER])


def without_nan(body: bytes) -> bytes:
    """A body in JSON, with the NaN and Infinity that some servers write in it as strings; no client could read those,
    and a usage figure that is one must not cost the answer it came with. Raises `ProviderError` for other garbage."""
    try:
        return _encode(json.loads(body, parse_constant=str))
    except (ValueError, RecursionError) as error:
        raise ProviderError(Failure.BROKEN, f"The provider's answer is not JSON: {error}") from error


class OpenAIStreamDecoder:
    """Chunks of a chat completion stream, each kept as the provider's own bytes."""

    __slots__ = ("_events", "failure", "finished")

    def __init__(self) -> None:
        self._events = SseDecoder()
        self.finished = False
        self.failure: ProviderError | None = None

    def feed(self, data: bytes) -> list[Chunk]:
        """See `providers.types.StreamDecoder`."""
        chunks: list[Chunk] = []
        if self.failure is not None:
            return chunks
        try:
            for payload in self._events.feed(data):
                if payload == b"[DONE]":
                    self.finished = True
                else:
                    chunks.append(self._read(payload))
        except ProviderError as error:
            self.failure = error
        return chunks

    def _read(self, payload: bytes) -> Chunk:
        try:
            body = _decode_body(payload)
        except MALFORMED as error:
            if NOT_A_NUMBER.search(payload):
                return self._read(without_nan(payload))
            raise ProviderError(
                Failure.BROKEN, f"The provider sent a stream event that is no chunk: {error}"
            ) from error
        if bytes(body.error) != b"null":
            raise stream_error(payload)
        return self.chunk(payload, body)

    def chunk(self, payload: bytes, body: Body) -> Chunk:
        """What one event says. A vendor that adds to the protocol reads more out of it."""
        said = pictures = 0
        for choice in body.choices or ():
            if choice.delta is not None:
                said += choice.delta.said()
                pictures += _count(choice.delta.images)
            if choice.finish_reason is not None:
                self.finished = True
        usage = _usage_of(body)
        chunk = Chunk(payload, said, said > 0 or pictures > 0, usage, usage is not None and not body.choices)
        if pictures:
            chunk.counted = {"images": pictures}
        return chunk


class OpenAICompatibleAdapter:
    """See `providers.types.Adapter`."""

    kind = "openai_compatible"
    operations = frozenset(PATHS) | frozenset(openai_media.PATHS) | {"realtime"}
    capabilities = CAPABILITIES
    links = frozenset({"vision", "video"})
    """OpenAI's own takes sound and documents as data only."""
    pictures_as: str | None = "b64_json"
    """The `response_format` that pictures are asked for in; None: it is not sent."""
    fixed_base_url: str | None = None
    keeps_continuations = False
    embeddings_at_once: EmbeddingLimits | None = EmbeddingLimits(items=32, tokens=16_384)
    """The strictest of the usual servers: text-embeddings-inference as it comes, `--max-client-batch-size` 32 and
    `--max-batch-tokens` 16384."""
    on_disconnect = OnDisconnect.ABORT
    """OpenAI, Azure, DeepSeek, xAI, Together, Fireworks and DeepInfra stop and bill no further when a stream is cut;
    Groq, Mistral, Perplexity, Nebius and others work on. Source: openrouter.ai/docs/api-reference/streaming, "Stream
    cancellation", November 2026. A server of one's own costs the same either way, and its time is better used."""

    def build_request(self, request: WireRequest, target: Target) -> UpstreamRequest:
        if request.operation in openai_media.PATHS:
            return openai_media.build_request(request, target, pictures_as=self.pictures_as)
        members: dict[str, Any] = {
            name: value for name, value in request.members.items() if name not in GATEWAY_MEMBERS
        }
        members["model"] = target.upstream_model
        if request.max_output_tokens is not None:
            name = next((name for name in OUTPUT_LIMITS if name in members), OUTPUT_LIMITS[0])
            members[name] = request.max_output_tokens
        if request.stream:
            members["stream_options"] = with_usage(members.get("stream_options"))
        self.adjust(members)
        url = target.base_url + PATHS[request.operation]
        return UpstreamRequest(url=url, headers=request_headers(request, target), body=_encode(members))

    def adjust(self, members: dict[str, Any]) -> None:
        """Where a vendor of this protocol wants a member named differently, it says so here."""

    def decoder(self, request: WireRequest | None = None) -> StreamDecoder:
        if request is not None and request.operation in openai_media.PATHS:
            return openai_media.decoder(request)
        return OpenAIStreamDecoder()

    def parse_response(self, request: WireRequest, body: bytes) -> Answer:
        if request.operation in openai_media.PATHS:
            return openai_media.read_answer(request, body)
        try:
            if request.operation == "embeddings":
                return Answer(body=body, usage=read_usage(bytes(_decode_embeddings(body).usage)), text_bytes=0)
            parsed = _decode_body(body)
        except MALFORMED as error:
            if NOT_A_NUMBER.search(body):
                return self.parse_response(request, without_nan(body))
            raise ProviderError(Failure.BROKEN, f"The provider's answer is not what it should be: {error}") from error
        if bytes(parsed.error) != b"null":
            raise stream_error(body)
        if not parsed.choices:
            raise ProviderError(Failure.BROKEN, "The provider answered without any choice.")
        return self.answer(body, parsed)

    def answer(self, body: bytes, parsed: Body) -> Answer:
        """What a whole chat answer says. A vendor that adds to the protocol reads more out of it."""
        messages = [choice.message for choice in parsed.choices or () if choice.message is not None]
        said, pictures = (
            sum(message.said() for message in messages),
            sum(_count(message.images) for message in messages),
        )
        return Answer(
            body=body, usage=_usage_of(parsed), text_bytes=said, counted={"images": pictures} if pictures else {}
        )

    def list_models(self, target: Target, *, page: str | None = None) -> UpstreamRequest:
        return UpstreamRequest(url=f"{target.base_url}/models", headers=authorization(target), body=b"", method="GET")

    def parse_models(self, body: bytes) -> ModelPage:
        try:
            listed = _decode_models(body).data
        except MALFORMED as error:
            raise ProviderError(Failure.BROKEN, f"The provider's list of models is none: {error}") from error
        return ModelPage(models=[ListedModel(id=model.id) for model in listed])

    def check_health(self, target: Target) -> UpstreamRequest:
        return self.list_models(target)

    def parse_error(self, status: int, *, headers: Mapping[str, str], body: bytes) -> ProviderError:
        param = None
        try:
            error = decode_error(body).error
            message = error if isinstance(error, str) else error.message or f"HTTP {status}"
            param = None if isinstance(error, str) else error.param
        except MALFORMED:
            message = body[:2000].decode("utf-8", "replace") or f"HTTP {status} without a body"
        return ProviderError(
            failure_of_status(status),
            message,
            status=status,
            param=param,
            retry_after_seconds=retry_after_seconds(headers),
        )


def _count(pictures: msgspec.Raw) -> int:
    return 0 if bytes(pictures) in SILENT else len(msgspec.json.decode(pictures, type=list[msgspec.Raw]))


def request_headers(request: WireRequest, target: Target) -> dict[str, str]:
    """The headers of a call."""
    accepted = "text/event-stream" if request.stream else "*/*"
    return {"content-type": "application/json", "accept": accepted, **authorization(target)}


def with_usage(given: msgspec.Raw | None) -> dict[str, Any]:
    """The client's stream options with usage asked for: the gateway bills by it whether or not the client wants it."""
    options: Any = msgspec.json.decode(given) if given is not None else None
    return {**(options if isinstance(options, dict) else {}), "include_usage": True}


ADAPTER = OpenAICompatibleAdapter()
