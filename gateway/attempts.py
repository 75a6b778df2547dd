"""One call to one deployment, from its reservation to its one end; and the walk over deployments until one answers."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from billing.entries import Void, new_attempt_id
from billing.errors import BudgetExceededError, LedgerUnavailableError
from billing.flight_recorder import Dispatch
from billing.models import Ending
from gateway import metering
from gateway.context import Call, Trace
from gateway.errors import BudgetRefusedError, OverloadedError, from_provider
from gateway.reservation import limited, reservation
from gateway.streaming import StreamReply, WholeReply
from providers.errors import Failure, ProviderError
from providers.registry import adapter_for
from providers.transport import Deadlines, UpstreamResponse, read_all, read_error
from providers.types import Chunk, Target, Usage

if TYPE_CHECKING:
    from gateway.runtime import Gateway

ATTEMPTS_PER_REQUEST = 3
HELD_BYTES = 16 * 1024
"""How much of a stream may come before its first content: roles, pings and the like are far smaller."""

DEADLINES = {
    "chat": Deadlines(idle=180.0, total=180.0),
    "embeddings": Deadlines(idle=60.0, total=60.0),
}
PROGRESS_SECONDS = 1.0
"""How old the count of a stream's output may be that is left when this process is killed."""

STREAM_DEADLINES = Deadlines(idle=60.0, total=600.0)


class Attempt:
    """An open attempt in the ledger. Whoever holds it must end it; ending it twice does nothing."""

    def __init__(self, gateway: Gateway, call: Call, *, trace: Trace, target: Target) -> None:
        self._gateway = gateway
        self._call = call
        self._trace = trace
        self._target = target
        self._adapter = adapter_for(target.kind)
        self._id = new_attempt_id()
        self._price = gateway.directory.prices.at(target.model_id, trace.started_at)
        self._granted: int | None = None
        self._reserved = False
        self._dispatched = False
        self._ended = False
        self.usage: Usage | None = None
        self.output_bytes = 0
        self._next_progress = 0.0

    async def reserve(self) -> None:
        """Commit the attempt and hold its upper bound. Raises the `GatewayError` that says why nothing may be spent."""
        asked = reservation(self._id, self._call, target=self._target, price=self._price)
        try:
            self._granted = await self._gateway.ledger.reserve(asked)
        except LedgerUnavailableError as error:
            raise OverloadedError("The ledger cannot be written at the moment, so no call is made.") from error
        except BudgetExceededError as error:
            self._ended = True  # nothing was committed, so there is nothing to void
            raise BudgetRefusedError(error.refusal) from error
        self._reserved = True

    async def complete(self) -> WholeReply:
        """Ask and wait for the whole answer. Raises `ProviderError`."""
        asked = time.perf_counter()
        response = await self._ask(DEADLINES[self._call.operation])
        try:
            body = await read_all(response)
        finally:
            response.close()
        self._trace.upstream_seconds += time.perf_counter() - asked
        answer = self._adapter.parse_response(self._call.operation, body)
        self.usage, self.output_bytes = answer.usage, answer.text_bytes
        self.settle(Ending.COMPLETED)
        return WholeReply(answer.body)

    async def begin_stream(self) -> StreamReply:
        """Ask and wait until the answer really begins, so that a failure before that can still go elsewhere."""
        asked = time.perf_counter()
        response = await self._ask(STREAM_DEADLINES)
        decoder = self._adapter.decoder()
        chunks: list[Chunk] = []
        held = 0
        begun = False
        try:
            while not (decoder.finished or held > HELD_BYTES or any(chunk.has_content for chunk in chunks)):
                data = await response.next()
                if not data:
                    raise ProviderError(Failure.BROKEN, "The provider's stream ended before it had begun.")
                held += len(data)
                chunks += decoder.feed(data)
                if decoder.failure is not None:
                    raise decoder.failure
            begun = True
        finally:
            if not begun:
                response.close()
        self._trace.upstream_seconds += time.perf_counter() - asked
        self._trace.first_content_ms = self._trace.elapsed_ms()
        return StreamReply(self, response, decoder=decoder, first=chunks, call=self._call, trace=self._trace)

    async def _ask(self, deadlines: Deadlines) -> UpstreamResponse:
        """Send the request; an answer that is not 2xx becomes the error it stands for."""
        request = self._adapter.build_request(limited(self._call, self._target, granted=self._granted), self._target)
        self._gateway.recorder.dispatched(self._id, self._dispatch())
        self._dispatched = True
        response = await self._gateway.transport.send(
            request, deadlines=deadlines, allow_private_network=self._target.allow_private_network
        )
        if 200 <= response.status < 300:
            return response
        try:
            body = await read_error(response)
        finally:
            response.close()
        if self._target.secret:  # a provider that quotes our credential must not have it passed on or logged
            body = body.replace(self._target.secret.encode(), b"[credential]")
        raise self._adapter.parse_error(response.status, headers=response.headers, body=body)

    def progress(self) -> None:
        """Put on file how much the model has said: at its first content, then once in `PROGRESS_SECONDS`."""
        now = time.monotonic()
        if now >= self._next_progress and self.output_bytes and not self._ended:
            self._next_progress = now + PROGRESS_SECONDS
            self._gateway.recorder.progressed(self._id, self.output_bytes)

    def _dispatch(self) -> Dispatch:
        """What a charge needs to know should this process not live to write it."""
        call, attribution = self._call, self._call.attribution
        return Dispatch(
            input_bytes=call.input_bytes,
            stream=call.wire.stream,
            project_id=call.caller.principal.project_id,
            user=attribution.user,
            conversation=attribution.conversation,
            agent=attribution.agent,
            agent_type=attribution.agent_type,
            requested_model=call.requested_model,
            upstream_model=self._target.upstream_model,
            price_id=self._price.price_id if self._price is not None else None,
        )

    def settle(self, ending: Ending) -> None:
        """End the attempt with what it cost."""
        if self._ended:
            return
        self._ended = True
        self._gateway.ledger.settle(
            metering.settlement(
                self._id,
                self._call,
                trace=self._trace,
                target=self._target,
                price=self._price,
                outcome=metering.Outcome(ending, self.usage, self.output_bytes),
            )
        )

    def void(self, failure: str) -> None:
        """End the attempt without a charge."""
        if not self._ended:
            self._ended = True
            self._gateway.ledger.void(Void(attempt_id=self._id, failure=failure))

    def abandon(self) -> None:
        """End an attempt whose client left before the answer: a provider that was asked has read the input."""
        if self._dispatched:
            self.settle(Ending.CLIENT_LEFT)
        elif self._reserved:
            self.void("client_left")  # while it is being reserved, the ledger sees to it

    def fail(self) -> None:
        """End an attempt that a fault of our own broke off: what the provider was asked may have cost something."""
        if self._dispatched:
            self.settle(Ending.FAILED)
        else:
            self.void("internal_error")


async def first_answer(
    gateway: Gateway, call: Call, *, trace: Trace, targets: list[Target]
) -> WholeReply | StreamReply:
    """Try deployments in turn. Raises the `GatewayError` that says how the last one failed."""
    failure: ProviderError | None = None
    for target in targets[:ATTEMPTS_PER_REQUEST]:
        attempt = Attempt(gateway, call, trace=trace, target=target)
        reply: WholeReply | StreamReply | None = None
        try:
            await attempt.reserve()
            trace.target = target
            reply = await (attempt.begin_stream() if call.wire.stream else attempt.complete())
        except ProviderError as error:
            attempt.void(error.failure)
            trace.attempts.append(f"{target.provider_name}: {error.failure}")
            failure = error
            if not error.may_try_another:
                break
        except asyncio.CancelledError:
            attempt.abandon()
            raise
        else:
            trace.attempts.append(f"{target.provider_name}: answered")
            return reply
        finally:
            if reply is None:
                attempt.fail()  # does nothing where the attempt has ended above
    assert failure is not None
    raise from_provider(failure, attempts=trace.attempts)
