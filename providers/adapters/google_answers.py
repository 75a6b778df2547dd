"""Gemini's answers, whole and streamed, into OpenAI's shape. Both have the same form there."""

from __future__ import annotations

import uuid

import msgspec

from providers.embeddings import embeddings_answer
from providers.errors import Failure, ProviderError
from providers.failures import MALFORMED, failure_of_status
from providers.openai_shape import ChunkWriter, Said, Shown, completion
from providers.sse import SseDecoder
from providers.types import Answer, Chunk, Continuation, Usage, WireRequest
from providers.usage import impossible, unbelievable

KIND = "google"

FINISH_REASONS = dict.fromkeys(
    (
        "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "MODEL_ARMOR",
        "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "IMAGE_OTHER",
    ),
    "content_filter",
) | {"STOP": "stop", "MAX_TOKENS": "length"}  # fmt: skip
"""A reason that is neither here nor below is one that did not exist yet: `stop`."""

GONE_WRONG = frozenset(
    {
        "MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "MISSING_THOUGHT_SIGNATURE", "OTHER", "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
    }
)  # fmt: skip
"""The model failed; another may not."""

CREDENTIAL_STATUSES = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "FAILED_PRECONDITION"})
"""FAILED_PRECONDITION is about billing or the place that is called from: the account's trouble, not the request's."""

NULL = msgspec.Raw(b"null")


class _FunctionCall(msgspec.Struct):
    name: str = ""
    id: str = ""
    args: msgspec.Raw = NULL


class _Blob(msgspec.Struct, rename="camel"):
    mime_type: str = ""
    data: str = ""


class _Part(msgspec.Struct, rename="camel"):
    text: msgspec.Raw = NULL
    inline_data: _Blob | None = None
    thought: bool = False
    function_call: _FunctionCall | None = None
    thought_signature: str = ""


class _Content(msgspec.Struct):
    parts: list[_Part] = []


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class _Modality(msgspec.Struct, rename="camel"):
    modality: str = ""
    token_count: int = 0


class _Usage(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None
    candidates_token_count: int = 0
    thoughts_token_count: int = 0
    cached_content_token_count: int = 0
    tool_use_prompt_token_count: int = 0
    prompt_tokens_details: list[_Modality] = []
    cache_tokens_details: list[_Modality] = []
    candidates_tokens_details: list[_Modality] = []


class _Detail(msgspec.Struct, rename="camel"):
    reason: str | None = None
    retry_delay: str | None = None


class _Error(msgspec.Struct):
    code: int = 500
    message: str = ""
    status: str = ""
    details: list[_Detail] = []


class GoogleAnswer(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] = []
    prompt_feedback: _Feedback | None = None
    usage_metadata: msgspec.Raw = NULL
    model_version: str = ""
    response_id: str = ""
    error: _Error | None = None


class _Vector(msgspec.Struct):
    values: list[float]


class _Embeddings(msgspec.Struct, rename="camel"):
    embeddings: list[_Vector]
    usage_metadata: msgspec.Raw = NULL


class _Envelope(msgspec.Struct):
    error: _Error


decode_answer = msgspec.json.Decoder(GoogleAnswer).decode
_decode_embeddings = msgspec.json.Decoder(_Embeddings).decode
_decode_usage = msgspec.json.Decoder(_Usage).decode
_decode_error = msgspec.json.Decoder(_Envelope | list[_Envelope]).decode
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.encode


def read_usage(raw: bytes) -> Usage | None:
    """Normalise `usageMetadata`; None where there is none.

    What was cached is a part of the prompt there, what was thought is not a part of the candidates.
    """
    if raw == b"null":
        return None
    try:
        usage = _decode_usage(raw)
    except MALFORMED as error:
        return unbelievable(raw, str(error))
    if usage.prompt_token_count is None:
        return None
    prompt, cached, said = (
        {detail.modality: detail.token_count for detail in details}
        for details in (usage.prompt_tokens_details, usage.cache_tokens_details, usage.candidates_tokens_details)
    )
    input_tokens = usage.prompt_token_count + usage.tool_use_prompt_token_count
    cache_read, audio_cached = usage.cached_content_token_count, cached.get("AUDIO", 0)
    audio_input = prompt.get("AUDIO", 0) - audio_cached
    image_input = prompt.get("IMAGE", 0) - cached.get("IMAGE", 0)
    audio_output, image_output = said.get("AUDIO", 0), said.get("IMAGE", 0)
    units = {
        "input": input_tokens - cache_read - audio_input - image_input,
        "cache_read": cache_read - audio_cached,
        "audio_cache_read": audio_cached,
        "audio_input": audio_input,
        "image_input": image_input,
        "output": usage.candidates_token_count - audio_output - image_output,
        "reasoning": usage.thoughts_token_count,
        "audio_output": audio_output,
        "image_output": image_output,
    }
    if problem := impossible(units):
        return unbelievable(raw, problem)
    return Usage(
        units={unit: count for unit, count in units.items() if count},
        input_tokens=input_tokens,
        output_tokens=usage.candidates_token_count + usage.thoughts_token_count,
        cache_read_tokens=cache_read,
        reasoning_tokens=usage.thoughts_token_count,
        raw=raw,
    )


def read_error(status: int, body: bytes) -> ProviderError:
    """What an answer that is not 2xx means; streaming methods wrap the error into a list."""
    try:
        envelope = _decode_error(body)
        error = (envelope[0] if isinstance(envelope, list) else envelope).error
    except (*MALFORMED, IndexError):
        message = body[:2000].decode("utf-8", "replace") or f"HTTP {status} without a body"
        return ProviderError(failure_of_status(status), message, status=status)
    return explain(error, status)


def explain(error: _Error, status: int) -> ProviderError:
    """An error's status and details in terms the gateway decides on."""
    failure = failure_of_status(status)
    invalid_key = any(detail.reason == "API_KEY_INVALID" for detail in error.details)
    if error.status in CREDENTIAL_STATUSES or invalid_key:
        failure = Failure.REFUSED_CREDENTIAL
    elif error.status == "CANCELLED":
        failure = Failure.BROKEN
    delays = [detail.retry_delay for detail in error.details if detail.retry_delay]
    message = error.message or error.status or f"HTTP {status}"
    return ProviderError(failure, message, status=status, retry_after_seconds=_seconds(delays[0]) if delays else None)


def _seconds(delay: str) -> float | None:
    """`46s` as seconds."""
    try:
        seconds = float(delay.removesuffix("s"))
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None


def finish_reason_of(reason: str, *, calls: bool, message: str | None) -> str:
    """OpenAI's word. Raises `ProviderError` where the model failed."""
    if reason in GONE_WRONG:
        raise ProviderError(Failure.BROKEN, f"The model failed with {reason}. {message or ''}".strip())
    return "tool_calls" if calls else FINISH_REASONS.get(reason, "stop")


def read_answer(body: bytes) -> Answer:
    """A whole answer. Raises `ProviderError` for garbage and for a model that failed."""
    collected = collect(body)
    answer, said, usage = collected.answer, collected.said, collected.usage
    return Answer(
        body=completion(
            answer.response_id, answer.model_version, said=said, finish_reason=collected.finish_reason, usage=usage
        ),
        usage=usage,
        text_bytes=said.text_bytes,
        continuation=continuation_of(collected.signatures),
        counted=pictures_in(said.media),
    )


def collect(body: bytes) -> Collected:
    """All that a whole answer says. Raises `ProviderError` for garbage and for a model that failed."""
    try:
        return Collected(decode_answer(body))
    except MALFORMED as error:
        raise ProviderError(Failure.BROKEN, f"The provider's answer is not what it should be: {error}") from error


def pictures_in(media: list[Shown]) -> dict[str, int]:
    """How many pictures were made, in billable units."""
    count = sum(shown.media_type.startswith("image/") for shown in media)
    return {"images": count} if count else {}


def read_embeddings_answer(request: WireRequest, body: bytes) -> Answer:
    """A whole answer of batchEmbedContents. Raises `ProviderError` for garbage."""
    try:
        answer = _decode_embeddings(body)
    except MALFORMED as error:
        raise ProviderError(Failure.BROKEN, f"The provider's answer is not what it should be: {error}") from error
    vectors = [vector.values for vector in answer.embeddings]
    return embeddings_answer(request, vectors, usage=read_usage(bytes(answer.usage_metadata)))


def shown(blob: _Blob) -> Shown:
    """A picture or sound among a model's words. Raises `ProviderError` for what a chat's answer has no place for."""
    if not blob.mime_type.startswith(("image/", "audio/")):
        raise ProviderError(Failure.BROKEN, f"The model answered with {blob.mime_type!r}, which a chat cannot carry.")
    return Shown(blob.mime_type, blob.data)


class Collected:
    """What a whole answer says."""

    def __init__(self, answer: GoogleAnswer) -> None:
        self.answer = answer
        self.usage = read_usage(bytes(answer.usage_metadata))
        self.signatures: dict[str, str] = {}
        if not answer.candidates:
            if answer.prompt_feedback is None or answer.prompt_feedback.block_reason is None:
                raise ProviderError(Failure.BROKEN, "The provider answered without any candidate.")
            self.said, self.finish_reason = Said(), "content_filter"
            return
        candidate = answer.candidates[0]
        texts: dict[bool, list[str]] = {False: [], True: []}
        calls: list[tuple[str, str, str]] = []
        media: list[Shown] = []
        for part in candidate.content.parts if candidate.content is not None else ():
            if part.function_call is not None:
                call_id = call_id_of(part.function_call, answer.response_id, number=len(calls))
                calls.append((call_id, part.function_call.name, arguments_of(part.function_call)))
                self.signatures[call_id] = part.thought_signature
            elif bytes(part.text) != b"null":
                texts[part.thought].append(_decode_text(part.text))
            elif part.inline_data is not None and not part.thought:
                media.append(shown(part.inline_data))
        self.said = Said("".join(texts[False]), "".join(texts[True]), calls, media)
        self.finish_reason = finish_reason_of(
            candidate.finish_reason or "STOP", calls=bool(calls), message=candidate.finish_message
        )


def call_id_of(call: _FunctionCall, response_id: str, *, number: int) -> str:
    """The provider's id for a call, or one made where it gives none."""
    return call.id or f"call_{response_id or uuid.uuid4().hex}_{number}"


def arguments_of(call: _FunctionCall) -> str:
    """A call's arguments as JSON."""
    return "{}" if bytes(call.args) == b"null" else bytes(call.args).decode("utf-8", "replace")


def continuation_of(signatures: dict[str, str]) -> Continuation | None:
    """A turn's signatures by call; None for a turn without."""
    given = {call_id: signature for call_id, signature in signatures.items() if signature}
    return Continuation(call_id=next(iter(signatures)), kind=KIND, data=_encode(given)) if given else None


class GoogleStreamDecoder:
    """Chunks of a streamGenerateContent answer. See `providers.types.StreamDecoder`."""

    __slots__ = ("_begun", "_events", "_media", "_response_id", "_signatures", "_writer", "failure", "finished")

    def __init__(self) -> None:
        self._events = SseDecoder()
        self._writer = ChunkWriter("", "")
        self._response_id = ""
        self._begun = False
        self._media = 0
        self._signatures: dict[str, str] = {}
        self.finished = False
        self.failure: ProviderError | None = None

    def feed(self, data: bytes) -> list[Chunk]:
        chunks: list[Chunk] = []
        if self.failure is not None:
            return chunks
        try:
            for payload in self._events.feed(data):
                self._read(payload, chunks)
        except ProviderError as error:
            self.failure = error
        return chunks

    def _read(self, payload: bytes, chunks: list[Chunk]) -> None:
        try:
            answer = decode_answer(payload)
        except MALFORMED as error:
            raise ProviderError(Failure.BROKEN, f"The provider sent a stream event that is none: {error}") from error
        if answer.error is not None:
            raise explain(answer.error, answer.error.code)
        if not self._begun:
            self._begun = True
            self._response_id = answer.response_id
            self._writer = ChunkWriter(answer.response_id, answer.model_version)
            chunks.append(self._writer.role())
        reason = None
        if answer.candidates:
            candidate = answer.candidates[0]
            if candidate.content is not None:
                for part in candidate.content.parts:
                    self._part(part, chunks)
            if candidate.finish_reason is not None:
                reason = finish_reason_of(
                    candidate.finish_reason, calls=bool(self._signatures), message=candidate.finish_message
                )
        elif answer.prompt_feedback is not None and answer.prompt_feedback.block_reason is not None:
            reason = "content_filter"
        if reason is not None:
            self._finish(reason, bytes(answer.usage_metadata), chunks=chunks)

    def _part(self, part: _Part, chunks: list[Chunk]) -> None:
        text = bytes(part.text)
        if len(text) > 2 and text.startswith(b'"'):
            chunks.append(self._writer.reasoning(text) if part.thought else self._writer.content(text))
        if part.function_call is not None:
            call = part.function_call
            number = len(self._signatures)
            call_id = call_id_of(call, self._response_id, number=number)
            self._signatures[call_id] = part.thought_signature
            chunks.append(self._writer.call(number, call_id, name=call.name, arguments=arguments_of(call)))
        if part.inline_data is not None and not part.thought:
            found = shown(part.inline_data)
            chunk = self._writer.media(self._media, found)
            chunk.counted = pictures_in([found])
            chunks.append(chunk)
            self._media += 1

    def _finish(self, reason: str, raw_usage: bytes, *, chunks: list[Chunk]) -> None:
        """There is no terminator: the finish reason is the end, and its event has the last usage."""
        self.finished = True
        finish = self._writer.finish(reason)
        finish.continuation = continuation_of(self._signatures)
        chunks.append(finish)
        usage = read_usage(raw_usage)
        if usage is not None:
            chunks.append(self._writer.usage(usage))
