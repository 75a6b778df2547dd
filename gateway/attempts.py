"""One call to one deployment, from its reservation to its one end."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from billing.entries import Settlement, Void, new_attempt_id
from billing.errors import BudgetExceededError, LedgerUnavailableError
from billing.fault_points import fault_point
from billing.flight_recorder import Dispatch
from billing.models import Ending
from billing.plausibility import later
from gateway import metering
from gateway.context import AttemptNote, Call, Trace
from gateway.embedding_batches import Route
from gateway.embedding_shares import Seat, items_of, members_in_common
from gateway.errors import BudgetRefusedError, OverloadedError, PriceUnknownError
from gateway.exchange import exchange
from gateway.health.board import Ticket
from gateway.media.links import without_links
from gateway.reservation import is_hard, limited, reservation
from gateway.schemas.emulation import told
from gateway.stream_clock import StreamClock
from gateway.streaming import StreamReply, WholeReply
from gateway.timeouts import deadlines_for
from providers.asynchronous import AsynchronousAdapter
from providers.errors import DeadlineError, Failure, ProviderError
from providers.registry import adapter_for, asynchronous_adapter
from providers.transport import UpstreamResponse, read_all
from providers.types import Answer, Chunk, Continuation, OnDisconnect, UpstreamRequest, Usage, WireRequest

if TYPE_CHECKING:
    from gateway.runtime import Gateway

HELD_BYTES = 16 * 1024
"""How many bytes of chunks are held back until one has content: roles and the like are far smaller."""

PROGRESS_SECONDS = 1.0
"""How old the count of a stream's output may be that is left when this process is killed."""


OUTCOMES = {Ending.COMPLETED: "answered", Ending.CLIENT_LEFT: "client_left", Ending.FAILED: "failed"}
MESSAGE_CHARACTERS = 500
"""How much of a provider's own words the trace keeps."""


class Attempt:
    """An open attempt in the ledger. Whoever holds it must end it; ending it twice does nothing."""

    def __init__(self, gateway: Gateway, call: Call, *, trace: Trace, ticket: Ticket) -> None:
        target = ticket.target
        if call.expected is not None:
            call = told(call, target, catalogue=gateway.directory.catalogue)
        self._ticket = ticket
        self._deadlines = deadlines_for(call, target)
        self._gateway = gateway
        self._call = call
        self._trace = trace
        self._target = target
        self._adapter = adapter_for(target.kind)
        self._id = new_attempt_id()
        self._started_at = dt.datetime.now(dt.UTC)
        self._price = gateway.directory.prices.at(target.model_id, trace.started_at)
        self._granted: int | None = None
        self._wire = call.wire
        self._reserved = False
        self.dispatched = False
        """Whether the provider may have heard of it."""
        self._ended = False
        self._leads = True
        self._share_nano_usd: int | None = None
        self._client_left = False
        self._asking: asyncio.Task[WholeReply | StreamReply] | None = None
        self._usage: Usage | None = None
        self._output_bytes = 0
        self._counted: dict[str, int] = {}
        self._next_progress = 0.0
        self.usage_is_final = False
        """Whether the provider has said that its answer is whole."""
        self.note = AttemptNote(
            attempt=self._id,
            deployment=target.deployment_id,
            model=target.model_name,
            provider=target.provider_name,
            started_ms=trace.elapsed_ms(),
        )

    async def reserve(self) -> None:
        """Commit the attempt and hold its upper bound. Raises the `GatewayError` that says why nothing may be spent."""
        fault_point("before_reserve")
        if self._trace.idempotent and self._gateway.heartbeat.is_silent:
            raise OverloadedError("This process may be taken for dead, so it makes no call that another may make.")
        try:
            asked = reservation(self._id, self._call, target=self._target, price=self._price, moment=self._started_at)
        except PriceUnknownError:
            self._nothing_committed()
            raise
        ledger = self._gateway.ledger
        try:
            try:
                self._granted = await ledger.reserve(asked)
            except LedgerUnavailableError:
                if is_hard(self._call, self._target):
                    raise
                self._granted = await ledger.put_aside(asked)
        except LedgerUnavailableError as error:
            raise OverloadedError("The ledger cannot be written at the moment, so no call is made.") from error
        except BudgetExceededError as error:
            self._nothing_committed()
            raise BudgetRefusedError(error.refusal) from error
        self._reserved = True
        fault_point("after_reserve_commit")

    async def answer(self) -> WholeReply | StreamReply:
        """Ask, and wait until there is something to tell the client. Raises `ProviderError`.

        Where a client that leaves is to be outlived, the asking is a task of its own.
        """
        begin = self.begin_stream if self._call.wire.stream else self.complete
        if self._target.on_disconnect is not OnDisconnect.DRAIN:
            return await begin()
        self._asking = asyncio.get_running_loop().create_task(begin())
        return await asyncio.shield(self._asking)

    async def complete(self) -> WholeReply:
        """Ask and wait for the whole answer. Raises `ProviderError`."""
        asked = time.perf_counter()
        submits = asynchronous_adapter(self._target.kind, self._call.operation)
        try:
            if submits is not None:
                return await self._hand_over(submits)
            if self._gateway.embedding_batches.takes(self._call, self._target):
                answer = await self._answer_with_others()
            else:
                answer = await self._whole_answer()
        finally:
            seconds = time.perf_counter() - asked
            self._trace.upstream_seconds += seconds
        if self._leads:
            self._ticket.first_content(seconds, deadline_seconds=self._deadlines.first_token)
        self._usage, self._output_bytes, self.usage_is_final = answer.usage, answer.text_bytes, True
        self.count(answer.counted)
        fault_point("after_final_usage")
        self.settle(Ending.COMPLETED)
        if answer.continuation is not None:
            await self.keep(answer.continuation)
        return WholeReply(answer.body)

    async def _whole_answer(self) -> Answer:
        response = await self._ask()
        try:
            body = await read_all(response)
        finally:
            response.close()
        fault_point("before_final_usage")
        return self._adapter.parse_response(self._call.wire, body)

    async def _hand_over(self, submits: AsynchronousAdapter) -> WholeReply:
        """Give a job to a provider that works on it by itself. From then on its attempt is the job's to end."""
        run = self._trace.job
        assert run is not None, "what a provider works on by itself is always a job"
        request = submits.submit(limited(self._call, self._target, granted=self._granted), self._target)
        self._dispatching(request)
        response = await exchange(self._gateway.transport, request, target=self._target, deadlines=self._deadlines)
        try:
            upstream_id = submits.read_submission(await read_all(response))
        finally:
            response.close()
        usage = Usage(units=dict(self._call.media.held), input_tokens=0, output_tokens=0)
        self._tell("submitted")
        charge = self._settlement(Ending.COMPLETED, usage=usage)
        await run.taken_up(upstream_id, target=self._target, settlement=charge)
        self._ended = True
        self._ticket.succeeded()
        self._gateway.ledger.let_go(self._id)
        return WholeReply(b"{}")

    async def _answer_with_others(self) -> Answer:
        """The answer as part of one that others have asked for too."""
        call, price = self._call, self._price
        items, kind, tokens = items_of(call.wire)
        seat = Seat(
            wire=call.wire,
            items=items,
            tokens=tokens,
            price=price,
            service_tier=call.service_tier,
            begun_at=self._started_at,
            share=asyncio.get_running_loop().create_future(),
            dispatching=self._dispatching,
            accepted=self._accepted,
        )
        route = Route(
            tenant_id=call.caller.principal.tenant_id,
            target=self._target,
            deadlines=self._deadlines,
            price_id=price.price_id if price is not None else None,
            kind=kind,
            members=members_in_common(call.wire),
        )
        share = await self._gateway.embedding_batches.answer(seat, route)
        self._share_nano_usd = share.cost_nano_usd
        return share.answer

    async def begin_stream(self) -> StreamReply:
        """Ask and wait until the answer really begins, so that a failure before that can still go elsewhere."""
        asked = time.perf_counter()
        deadline_seconds = self._deadlines.first_token
        try:
            async with asyncio.timeout(deadline_seconds):
                reply = await self._gate()
        except TimeoutError as error:
            raise DeadlineError("first_token", deadline_seconds) from error
        finally:
            seconds = time.perf_counter() - asked
            self._trace.upstream_seconds += seconds
        self._ticket.first_content(seconds, deadline_seconds=deadline_seconds)
        self._trace.first_content_ms = self._trace.elapsed_ms()
        fault_point("first_chunk")
        return reply

    async def _gate(self) -> StreamReply:
        """Hold back what comes before the first content."""
        response = await self._ask()
        decoder = self._adapter.decoder(self._wire)
        chunks: list[Chunk] = []
        held = 0
        begun = False
        try:
            while not (decoder.finished or held > HELD_BYTES or any(chunk.has_content for chunk in chunks)):
                data = await response.next()
                if not data:
                    raise ProviderError(Failure.BROKEN, "The provider's stream ended before it had begun.")
                heard = decoder.feed(data)
                self.hear(heard)
                chunks += heard
                held += sum(len(chunk.data) for chunk in heard)
                if decoder.failure is not None:
                    raise decoder.failure
            if not chunks:
                raise ProviderError(Failure.BROKEN, "The provider's stream was empty.")
            begun = True
        finally:
            if not begun:
                response.close()
        return StreamReply(self, response, decoder=decoder, first=chunks, call=self._call, trace=self._trace)

    async def _ask(self) -> UpstreamResponse:
        """Send the request; an answer that is not 2xx becomes the error it stands for."""
        wire = self._wire = await self._for_target()
        if self._adapter.keeps_continuations and wire.tool_turns:
            wire = await self._gateway.continuations.recalled(wire, self._call, kind=self._target.kind)
        request = self._adapter.build_request(wire, self._target)
        self._dispatching(request)
        response = await exchange(self._gateway.transport, request, target=self._target, deadlines=self._deadlines)
        self._accepted()
        return response

    def _dispatching(self, request: UpstreamRequest, leads: bool = True) -> None:
        """Put on file that the request leaves. Of several attempts that it is for, one `leads`: it alone says how the
        deployment is doing, which is asked only once."""
        self._trace.dropped_parameters = request.dropped_parameters
        fault_point("before_dispatch")
        self._gateway.recorder.dispatched(self._id, self._dispatch())
        self.dispatched = True
        fault_point("after_dispatch_mark")
        if not leads:
            self._leads = False
            self._ticket.says_nothing()

    def _accepted(self) -> None:
        """The provider has begun to answer: from here on a process that dies leaves evidence."""
        self._gateway.recorder.progressed(self._id, 0)

    async def _for_target(self) -> WireRequest:
        """The request as this deployment gets it."""
        wire, adapter = limited(self._call, self._target, granted=self._granted), self._adapter
        if wire.operation == "speech" and self._price is not None and self._price.is_by_tokens():
            wire = msgspec.structs.replace(wire, priced_by_tokens=True)
        if not wire.links <= adapter.links:
            wire = await without_links(self._gateway, self._call, wire=wire, kinds=wire.links - adapter.links)
        return wire

    def count(self, units: Mapping[str, int]) -> None:
        """Account for billable units that are seen in the answer."""
        for unit, amount in units.items():
            self._counted[unit] = self._counted.get(unit, 0) + amount

    def count_if_missing(self, units: Mapping[str, int]) -> None:
        """Account for what is measured, where the answer did not tell."""
        self._counted = {**units, **self._counted}

    async def keep(self, continuation: Continuation) -> None:
        """Keep what the provider wants back, before the client can ask on."""
        await self._gateway.continuations.keep(continuation, self._call)

    def hear(self, chunks: Iterable[Chunk]) -> None:
        """Account for what the provider has sent, and put on file how much the model has said: at its first content,
        then once in `PROGRESS_SECONDS`."""
        for chunk in chunks:
            self._output_bytes += chunk.text_bytes
            if chunk.counted:
                self.count(chunk.counted)
            if chunk.usage is not None:
                fault_point("before_final_usage")
                self._usage = later(self._usage, chunk.usage)
                fault_point("after_final_usage")
        now = time.monotonic()
        if now >= self._next_progress and self._output_bytes and not self._ended:
            self._next_progress = now + PROGRESS_SECONDS
            self._gateway.recorder.progressed(self._id, self._output_bytes)

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
            service_tier=call.service_tier,
            units=dict(call.media.known),
        )

    def clock(self) -> StreamClock:
        """What watches over the stream while it is passed on."""
        return StreamClock(self._deadlines, self._gateway.stopping)

    def settle(self, ending: Ending, *, error: ProviderError | None = None) -> None:
        """End the attempt with what it cost; `error` is how the provider broke off what it had begun."""
        if self._ended:
            return
        self._ended = True
        if self._client_left:
            ending = Ending.CLIENT_LEFT
        self._tell(OUTCOMES[ending], error)
        if error is not None:
            self._ticket.failed(error)
        elif ending is Ending.COMPLETED:
            self._ticket.succeeded()
        else:
            self._ticket.says_nothing()
        fault_point("before_settle")
        self._gateway.ledger.settle(self._settlement(ending, usage=self._usage))

    def _settlement(self, ending: Ending, *, usage: Usage | None) -> Settlement:
        """The charge, by what is known now."""
        return metering.settlement(
            self._id,
            self._call,
            trace=self._trace,
            target=self._target,
            price=self._price,
            outcome=metering.Outcome(
                self._started_at,
                ending,
                usage=usage,
                usage_is_final=self.usage_is_final,
                output_bytes=self._output_bytes,
                granted=self._granted,
                share_nano_usd=self._share_nano_usd,
                counted=self._counted,
            ),
        )

    def failed(self, error: ProviderError) -> None:
        """End an attempt that the provider failed before it had begun to answer; such a one is not charged."""
        self._tell(error.failure, error)
        self._ticket.failed(error)
        self._void(error.failure)

    def _void(self, failure: str) -> None:
        """End the attempt without a charge."""
        if not self._ended:
            self._ended = True
            self._tell(failure)
            self._ticket.says_nothing()  # unless it has been told more
            fault_point("before_void")
            self._gateway.ledger.void(Void(attempt_id=self._id, failure=failure))

    def _nothing_committed(self) -> None:
        """The books know nothing of the attempt, so there is nothing to void."""
        self._ended = True
        self._ticket.says_nothing()

    def _tell(self, outcome: str, error: ProviderError | None = None) -> None:
        """Note how the attempt went; the first word stands."""
        if self.note.elapsed_ms is None:
            self.note.outcome = outcome if error is None else error.failure
            self.note.message = error.message[:MESSAGE_CHARACTERS].replace("\0", "") if error is not None else ""
            self.note.elapsed_ms = self._trace.elapsed_ms() - self.note.started_ms

    def outlive(self, rest: Callable[[], Awaitable[None]]) -> bool:
        """Whether the rest of the answer is read without its client, which has left; it then ends the attempt."""
        if self._ended or self._target.on_disconnect is not OnDisconnect.DRAIN:
            return False
        self._client_left = self._gateway.drains.take(rest)
        if self._client_left:
            self._tell(OUTCOMES[Ending.CLIENT_LEFT])
        return self._client_left

    def leave(self) -> None:
        """The client left before the answer began."""
        if self._asking is None:
            self.abandon()
        elif not self.outlive(self._drain):
            self._asking.cancel()
            self._asking.add_done_callback(_let_go)
            self.abandon()

    async def _drain(self) -> None:
        """Wait for the answer that the client did not wait for, and charge for it."""
        assert self._asking is not None
        try:
            reply = await self._asking
            if isinstance(reply, StreamReply):
                await reply.drain()
        except ProviderError as error:
            self.failed(error)
        finally:
            self.abandon()  # does nothing where the attempt has ended above

    def abandon(self) -> None:
        """End an attempt whose client left before the answer: a provider that was asked has read the input."""
        if self.dispatched:
            self.settle(Ending.CLIENT_LEFT)
        elif self._reserved:
            self._void("client_left")  # while it is being reserved, the ledger sees to it

    def fail(self) -> None:
        """End an attempt that a fault of our own broke off: what the provider was asked may have cost something."""
        if self._client_left:
            return  # and its answer is being read
        if self.dispatched:
            self.settle(Ending.FAILED)
        else:
            self._void("internal_error")


def _let_go(asking: asyncio.Task[WholeReply | StreamReply]) -> None:
    """Close a stream that began in the moment its client left."""
    if not asking.cancelled() and asking.exception() is None:
        reply = asking.result()
        if isinstance(reply, StreamReply):
            reply.close()
