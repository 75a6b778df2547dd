"""Answers on their way to the client: whole, or event by event."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from billing.fault_points import fault_point
from billing.models import Ending
from gateway.context import Call, Trace
from gateway.errors import GatewayError, OverloadedError, ResponseBlockedError, UpstreamError
from gateway.stream_clock import CLIENT_SECONDS, Cause, StreamClock
from providers.errors import DeadlineError, Failure, ProviderError
from providers.transport import UpstreamResponse
from providers.types import Chunk, Continuation, StreamDecoder, Usage

if TYPE_CHECKING:
    from gateway.attempts import Attempt

Send = Callable[[dict[str, Any]], Awaitable[None]]

DONE = b"data: [DONE]\n\n"
NULL_USAGE = b',"usage":null'
"""Providers put this on every chunk when asked for usage. Inside a JSON string its quotes would be escaped, so these
bytes can be nothing else."""


class EventStream(Protocol):
    """The body of a response that is sent piece by piece."""

    async def write(self, send: Send) -> None:
        """Send all of it."""

    def close(self) -> None:
        """Let go of what it holds, also when it was never written."""


class StreamJudge(Protocol):
    """What looks at the chunks of a stream on their way to the client."""

    async def pass_on(self, chunks: Iterable[Chunk]) -> list[Chunk]:
        """What may be sent now. Raises `ResponseBlockedError`."""
        ...

    async def finish(self) -> list[Chunk]:
        """What is held of texts that the provider did not end. Raises `ResponseBlockedError`."""
        ...


class Framing(Protocol):
    """How a stream that is no chat is put on the wire."""

    async def frame(self, chunks: Iterable[Chunk]) -> bytes:
        """Bytes for the client, and empty for what waits."""
        ...

    async def closing(self) -> bytes:
        """What follows the last chunk, when the provider has ended well."""
        ...

    def units(self) -> Mapping[str, int]:
        """Billable units that show only when all of it is there."""
        ...

    def broken(self, error: GatewayError) -> bytes | None:
        """What is said about a stream that breaks off; None where nothing can be said but by hanging up."""
        ...


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
        self._over = False
        """Ended, or left to be read without its client."""
        self._continuation: Continuation | None = None
        self.hooks: StreamJudge | None = None
        """What looks at the chunks on their way to the client."""
        self.framing: Framing | None = None
        """None: chunks of a chat."""
        self.media_type = next((chunk.media_type for chunk in first if chunk.media_type), "")

    async def write(self, send: Send) -> None:
        """Send the body of the response, ending the attempt when it is over or the client is gone."""
        clock = self._attempt.clock()
        try:
            async with clock:
                await self._pass_on(send, clock)
        except TimeoutError:
            if clock.cause is None:
                raise
            if clock.cause is Cause.SILENCE:
                await self._break_off(send, DeadlineError("idle", clock.idle_seconds))
            elif clock.cause is Cause.STOPPING:
                await self._break_off(send)
            else:
                self._trace.error_code = "client_left"
        except ProviderError as error:
            await self._break_off(send, error)
        except ResponseBlockedError as error:
            if self._decoder.finished:
                self._end(Ending.COMPLETED)
            else:
                self.close()  # as if its client had left
            await self._tell_last(send, error)
        finally:
            self.close()

    async def _pass_on(self, send: Send, clock: StreamClock) -> None:
        """Send what comes, to its end. Raises `ProviderError`."""
        framing = self.framing
        first = await self._judged(self._first, clock)
        frames = self.frame(first) if framing is None else await framing.frame(first)
        await self._keep()
        with clock.sending():
            await _send(send, frames)
        while data := await self._response.next():
            chunks = self._decoder.feed(data)
            self._attempt.hear(chunks)
            clock.heard(any(chunk.has_content for chunk in chunks))
            told = await self._judged(chunks, clock)
            if frames := self.frame(told) if framing is None else await framing.frame(told):
                if self._continuation is not None:
                    await self._keep()
                with clock.sending():
                    await _send(send, frames)
                fault_point("mid_stream")
            if self._decoder.failure is not None:
                raise self._decoder.failure
        if not self._decoder.finished:
            raise ProviderError(Failure.BROKEN, "The provider's stream stopped before its end.")
        rest = b""
        if self.hooks is not None:
            held = await self.hooks.finish()
            rest = self.frame(held) if framing is None else await framing.frame(held)
        self._end(Ending.COMPLETED)
        closing = self.closing() if framing is None else await framing.closing()
        with clock.sending():
            await send({"type": "http.response.body", "body": rest + closing, "more_body": False})

    async def _break_off(self, send: Send, error: ProviderError | None = None) -> None:
        """End a stream that cannot be ended well: the provider failed, or this process is being stopped."""
        self._end(Ending.FAILED, error=error)
        await self._tell_last(send, _told(error))

    async def _tell_last(self, send: Send, told: GatewayError) -> None:
        """Say in an event why there is no more."""
        self._trace.error_code = told.code
        event: bytes | None = b"data: %b\n\n" % told.envelope(self._trace.request_id)  # no [DONE] follows it
        if self.framing is not None and (event := self.framing.broken(told)) is None:
            return  # the server hangs up on an answer without an end, which its client cannot take for a whole one
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLIENT_SECONDS):
                await send({"type": "http.response.body", "body": event, "more_body": False})

    async def _judged(self, chunks: list[Chunk], clock: StreamClock) -> list[Chunk]:
        """What the hooks let through. While they think it is not the provider that is silent."""
        if self.hooks is None:
            return chunks
        with clock.sending():
            return await self.hooks.pass_on(chunks)

    async def drain(self) -> None:
        """Read on without a client, and end the attempt by what came."""
        try:
            while data := await self._response.next():
                self._attempt.hear(self._decoder.feed(data))
                if self._decoder.failure is not None:
                    break
        except ProviderError:
            pass  # what came until then is charged
        finally:
            self._end(Ending.CLIENT_LEFT)

    def close(self) -> None:
        """Let go of a stream that is over or whose client has left."""
        if not self._over:
            self._over = self._attempt.outlive(self.drain)
        if not self._over:
            self._end(Ending.CLIENT_LEFT)

    def _end(self, ending: Ending, *, error: ProviderError | None = None) -> None:
        self._over = True
        self._response.close()
        self._attempt.usage_is_final = self._decoder.finished
        if self.framing is not None:
            self._attempt.count_if_missing(self.framing.units())
        self._attempt.settle(ending, error=error)

    def frame(self, chunks: Iterable[Chunk]) -> bytes:
        """Write chunks as events; what came together leaves together."""
        frames = []
        for chunk in chunks:
            if chunk.continuation is not None:
                self._continuation = chunk.continuation
            data = chunk.data
            if chunk.usage is not None:
                if chunk.usage.problem or not self._call.wants_usage_chunk:
                    if chunk.usage_only:
                        continue
                    data = _without_usage(data)
                else:
                    self._usage_sent = True
            elif not self._call.wants_usage_chunk and NULL_USAGE in data:
                data = data.replace(NULL_USAGE, b"")
            self._last_data = data
            frames.append(b"data: %b\n\n" % data)
        return b"".join(frames)

    async def _keep(self) -> None:
        """Keep what the provider wants back before the client hears the end and can ask on."""
        continuation, self._continuation = self._continuation, None
        if continuation is not None:
            await self._attempt.keep(continuation)

    def closing(self) -> bytes:
        """What follows the last chunk: the usage a client asked for and the provider did not send, then the mark."""
        usage = self._trace.usage
        if not self._call.wants_usage_chunk or self._usage_sent or usage is None:
            return DONE
        return b"data: %b\n\n%b" % (_usage_chunk(self._last_data, usage), DONE)


def _told(error: ProviderError | None) -> GatewayError:
    """What the client hears of a stream that broke off."""
    if error is None:
        return OverloadedError("The stream broke off: this process is being stopped.", finish_reason="error")
    return UpstreamError(f"The stream broke off: {error.message}", finish_reason="error")


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
