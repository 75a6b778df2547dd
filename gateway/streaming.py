"""Answers on their way to the client: whole, or event by event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import orjson

from billing.models import Ending
from gateway.context import Call, Trace
from gateway.errors import UpstreamError
from providers.errors import Failure, ProviderError
from providers.transport import UpstreamResponse
from providers.types import Chunk, StreamDecoder, Usage

if TYPE_CHECKING:
    from gateway.attempts import Attempt

Send = Callable[[dict[str, Any]], Awaitable[None]]

DONE = b"data: [DONE]\n\n"
NULL_USAGE = b',"usage":null'
"""Providers put this on every chunk when asked for usage. Inside a JSON string its quotes would be escaped, so these
bytes can be nothing else."""


class WholeReply:
    """A complete answer in OpenAI's shape."""

    __slots__ = ("body",)

    def __init__(self, body: bytes) -> None:
        self.body = body


class StreamReply:
    """A stream that has begun at the provider; it holds its attempt and ends it, however it goes."""

    def __init__(
        self,
        attempt: Attempt,
        response: UpstreamResponse,
        *,
        decoder: StreamDecoder,
        first: list[Chunk],
        call: Call,
        trace: Trace,
    ) -> None:
        self._attempt = attempt
        self._response = response
        self._decoder = decoder
        self._first = first
        self._call = call
        self._trace = trace
        self._last_data = b"{}"
        self._usage_sent = False

    async def write(self, send: Send) -> None:
        """Send the body of the response, ending the attempt when it is over or the client is gone."""
        ending = Ending.CLIENT_LEFT
        try:
            await _send(send, self._frame(self._first))
            while data := await self._response.next():
                if frames := self._frame(self._decoder.feed(data)):
                    await _send(send, frames)
                if self._decoder.failure is not None:
                    raise self._decoder.failure
            if not self._decoder.finished:
                raise ProviderError(Failure.BROKEN, "The provider's stream stopped before its end.")
            ending = Ending.COMPLETED
            self._end(ending)
            await send({"type": "http.response.body", "body": self._closing(), "more_body": False})
        except ProviderError as error:
            ending = Ending.FAILED
            self._end(ending)
            await send({"type": "http.response.body", "body": self._failure(error), "more_body": False})
        finally:
            self._end(ending)

    def close(self) -> None:
        """Let go of a stream that was never written or is over."""
        self._end(Ending.CLIENT_LEFT)

    def _end(self, ending: Ending) -> None:
        self._response.close()
        self._attempt.settle(ending)

    def _frame(self, chunks: Iterable[Chunk]) -> bytes:
        """Account for chunks and write them as events; what came together leaves together."""
        attempt = self._attempt
        frames = []
        for chunk in chunks:
            attempt.output_bytes += chunk.text_bytes
            data = chunk.data
            if chunk.usage is not None:
                attempt.usage = chunk.usage
                if not self._call.wants_usage_chunk:
                    if chunk.usage_only:
                        continue
                    data = _without_usage(data)
                self._usage_sent = True
            elif not self._call.wants_usage_chunk and NULL_USAGE in data:
                data = data.replace(NULL_USAGE, b"")
            self._last_data = data
            frames.append(b"data: %b\n\n" % data)
        attempt.progress()
        return b"".join(frames)

    def _closing(self) -> bytes:
        """What follows the last chunk: the usage a client asked for and the provider did not send, then the mark."""
        usage = self._trace.usage
        if not self._call.wants_usage_chunk or self._usage_sent or usage is None:
            return DONE
        return b"data: %b\n\n%b" % (_usage_chunk(self._last_data, usage), DONE)

    def _failure(self, error: ProviderError) -> bytes:
        """The event that ends a stream that had begun; no [DONE] follows it."""
        told = UpstreamError(f"The stream broke off: {error.message}", finish_reason="error")
        self._trace.error_code = told.code
        return b"data: %b\n\n" % told.envelope(self._trace.request_id)


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


def _without_usage(data: bytes) -> bytes:
    """A chunk with choices that also carries usage, for a client that did not ask for any."""
    chunk = orjson.loads(data)
    chunk.pop("usage", None)
    return orjson.dumps(chunk)


def _usage_chunk(last: bytes, usage: Usage) -> bytes:
    """OpenAI's closing chunk: no choices, and usage."""
    head = orjson.loads(last)
    return orjson.dumps(
        {
            "id": head.get("id", ""),
            "object": "chat.completion.chunk",
            "created": head.get("created", 0),
            "model": head.get("model", ""),
            "choices": [],
            "usage": {
                "prompt_tokens": usage.input_tokens,
                "completion_tokens": usage.output_tokens,
                "total_tokens": usage.input_tokens + usage.output_tokens,
            },
        }
    )
