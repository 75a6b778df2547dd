"""Any server that speaks OpenAI's chat completions and embeddings.

The gateway speaks the same protocol to its clients, so bodies and stream events pass as the bytes they came in; what
the gateway decides on is read from a typed decode of the few fields it needs.
Source: the type definitions of the `openai` SDK 3.52.0.
"""

from __future__ import annotations

import datetime as dt
import email.utils
from collections.abc import Mapping
from typing import Any

import msgspec

from providers.errors import Failure, ProviderError
from providers.sse import SseDecoder
from providers.types import Answer, Chunk, Target, UpstreamRequest, Usage, WireRequest

GATEWAY_MEMBERS = frozenset({"async"})
"""Members of a client's body that speak to the gateway and mean nothing to a provider."""

PATHS = {"chat": "/chat/completions", "embeddings": "/embeddings"}

OUTPUT_LIMITS = ("max_tokens", "max_completion_tokens")
"""Every server of this protocol knows the older name; the newer one is used where the client uses it."""

TOKEN_COUNT_LIMIT = 1_000_000_000
"""No call uses a billion tokens; a larger figure is a provider's fault and is not believed."""

SILENT = (b"null", b'""', b"[]", b"{}")
"""Delta members that are present and say nothing."""


class _Delta(msgspec.Struct):
    content: msgspec.Raw = msgspec.Raw(b"null")
    reasoning_content: msgspec.Raw = msgspec.Raw(b"null")
    refusal: msgspec.Raw = msgspec.Raw(b"null")
    tool_calls: msgspec.Raw = msgspec.Raw(b"null")
    function_call: msgspec.Raw = msgspec.Raw(b"null")
    audio: msgspec.Raw = msgspec.Raw(b"null")

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


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")
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
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _ErrorBody(msgspec.Struct):
    message: str | None = None
    param: str | None = None
    code: str | int | None = None


class _ErrorEnvelope(msgspec.Struct):
    error: _ErrorBody | str


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_embeddings = msgspec.json.Decoder(_EmbeddingsBody).decode
_decode_usage = msgspec.json.Decoder(_Usage).decode
_decode_error = msgspec.json.Decoder(_ErrorEnvelope).decode
_encode = msgspec.json.encode


def read_usage(raw: bytes) -> Usage | None:
    """Normalise OpenAI's usage object; None where there is none or where its figures cannot be true.

    `cached_tokens` and `reasoning_tokens` are parts of the prompt's and completion's totals there; here they are apart.
    """
    if raw == b"null":
        return None
    try:
        usage = _decode_usage(raw)
    except msgspec.DecodeError:
        return None
    prompt = usage.prompt_tokens_details or _PromptDetails()
    completion = usage.completion_tokens_details or _CompletionDetails()
    cache_read, cache_write = prompt.cached_tokens or 0, prompt.cache_write_tokens or 0
    audio_input, image_input = prompt.audio_tokens or 0, prompt.image_tokens or 0
    reasoning, audio_output = completion.reasoning_tokens or 0, completion.audio_tokens or 0
    units = {
        "input": usage.prompt_tokens - cache_read - cache_write - audio_input - image_input,
        "cache_read": cache_read,
        "cache_write_5m": cache_write,
        "audio_input": audio_input,
        "image_input": image_input,
        "output": usage.completion_tokens - reasoning - audio_output,
        "reasoning": reasoning,
        "audio_output": audio_output,
    }
    if not all(0 <= count <= TOKEN_COUNT_LIMIT for count in units.values()):
        return None
    return Usage(
        units={unit: count for unit, count in units.items() if count},
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        reasoning_tokens=reasoning,
        raw=raw,
    )


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
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProviderError(
                Failure.BROKEN, f"The provider sent a stream event that is no chunk: {error}"
            ) from error
        if bytes(body.error) != b"null":
            raise _stream_error(payload)
        said = 0
        for choice in body.choices or ():
            if choice.delta is not None:
                said += choice.delta.said()
            if choice.finish_reason is not None:
                self.finished = True
        usage = read_usage(bytes(body.usage))
        return Chunk(payload, said, said > 0, usage, usage is not None and not body.choices)


def _stream_error(payload: bytes) -> ProviderError:
    try:
        error = _decode_error(payload).error
    except msgspec.DecodeError:
        error = payload.decode("utf-8", "replace")
    message = error if isinstance(error, str) else error.message or "The provider ended the stream with an error."
    return ProviderError(Failure.BROKEN, message)


class OpenAICompatibleAdapter:
    """See `providers.types.Adapter`."""

    kind = "openai_compatible"
    operations = frozenset(PATHS)
    fixed_base_url: str | None = None

    def build_request(self, request: WireRequest, target: Target) -> UpstreamRequest:
        members: dict[str, Any] = {
            name: value for name, value in request.members.items() if name not in GATEWAY_MEMBERS
        }
        members["model"] = target.upstream_model
        if request.max_output_tokens is not None:
            name = next((name for name in OUTPUT_LIMITS if name in members), OUTPUT_LIMITS[0])
            members[name] = request.max_output_tokens
        if request.stream:
            members["stream_options"] = _with_usage(members.get("stream_options"))
        self.adjust(members)
        headers = {"content-type": "application/json", "accept": "text/event-stream" if request.stream else "*/*"}
        if target.secret is not None:
            headers["authorization"] = f"Bearer {target.secret}"
        return UpstreamRequest(url=target.base_url + PATHS[request.operation], headers=headers, body=_encode(members))

    def adjust(self, members: dict[str, Any]) -> None:
        """Where a vendor of this protocol wants a member named differently, it says so here."""

    def decoder(self) -> OpenAIStreamDecoder:
        return OpenAIStreamDecoder()

    def parse_response(self, operation: str, body: bytes) -> Answer:
        try:
            if operation == "embeddings":
                return Answer(body=body, usage=read_usage(bytes(_decode_embeddings(body).usage)), text_bytes=0)
            parsed = _decode_body(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProviderError(Failure.BROKEN, f"The provider's answer is not what it should be: {error}") from error
        if not parsed.choices:
            raise ProviderError(Failure.BROKEN, "The provider answered without any choice.")
        said = sum(choice.message.said() for choice in parsed.choices if choice.message is not None)
        return Answer(body=body, usage=read_usage(bytes(parsed.usage)), text_bytes=said)

    def parse_error(self, status: int, *, headers: Mapping[str, str], body: bytes) -> ProviderError:
        param = None
        try:
            error = _decode_error(body).error
            message = error if isinstance(error, str) else error.message or f"HTTP {status}"
            param = None if isinstance(error, str) else error.param
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            message = body[:2000].decode("utf-8", "replace") or f"HTTP {status} without a body"
        return ProviderError(
            failure_of_status(status),
            message,
            status=status,
            param=param,
            retry_after_seconds=retry_after_seconds(headers),
        )


def _with_usage(given: msgspec.Raw | None) -> dict[str, Any]:
    """The client's stream options with usage asked for: the gateway bills by it whether or not the client wants it."""
    options: Any = msgspec.json.decode(given) if given is not None else None
    return {**(options if isinstance(options, dict) else {}), "include_usage": True}


def failure_of_status(status: int) -> Failure:
    """Sort an HTTP status: who is at fault, and may another deployment help."""
    if status in (401, 402, 403):
        return Failure.REFUSED_CREDENTIAL
    if status == 429:
        return Failure.THROTTLED
    if status < 400 or status in (404, 408, 409) or status >= 500:
        # A redirect is not followed; a 404 is a model or path this server does not have: both the operator's mistake.
        return Failure.BROKEN
    return Failure.REFUSED_INPUT


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After as seconds or as a date; None for absent, negative or unreadable values."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (moment - dt.datetime.now(dt.UTC)).total_seconds() if moment.tzinfo is not None else -1
    return seconds if 0 <= seconds < 86_400 else None


ADAPTER = OpenAICompatibleAdapter()
