"""From a handshake to a provider that has answered it: the pipeline's own steps, for a session.

Until a provider has said `session.created` the client's handshake waits, so another can still be asked, and a refusal
is a status that the client can read.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.context import AttemptNote, Call, Trace
from gateway.errors import (
    BudgetRefusedError,
    GatewayError,
    OverloadedError,
    PriceUnknownError,
    ProviderUnavailableError,
    from_provider,
)
from gateway.health.board import Ticket
from gateway.realtime.policing import Terms
from gateway.realtime.purse import Purse
from gateway.routing import candidates
from providers.errors import DeadlineError, Failure, ProviderError
from providers.realtime.registry import realtime_adapter_for
from providers.realtime.types import (
    Conversation,
    ServerEvent,
    SocketClosedError,
    SocketRefusedError,
    UpstreamSocket,
)
from providers.realtime_transport import open_socket
from providers.registry import adapter_for
from providers.types import Target

if TYPE_CHECKING:
    from gateway.runtime import Gateway

PROVIDERS_ASKED = 3
CREATED_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Opened:
    """A provider that is ready to talk, and what pays for it."""

    terms: Terms
    purse: Purse
    upstream: UpstreamSocket
    conversation: Conversation
    first: list[ServerEvent]
    """Up to and with `session.created`."""


async def open_session(gateway: Gateway, call: Call, *, trace: Trace) -> Opened:
    """Find a deployment that answers. Raises `GatewayError`."""
    targets = candidates(gateway.directory, call, health=gateway.health, trace=trace)
    await gateway.limits.admit(call, trace, targets=targets)
    asking = _Asking(gateway, call, trace=trace)
    for target in targets[:PROVIDERS_ASKED]:
        if (opened := await asking.ask(target)) is not None:
            return opened
        if asking.is_final:
            break
    raise asking.outcome(targets)


class _Asking:
    """What an opening has tried so far."""

    def __init__(self, gateway: Gateway, call: Call, *, trace: Trace) -> None:
        self._gateway = gateway
        self._call = call
        self._trace = trace
        self._refusal: GatewayError | None = None
        self._failures: list[ProviderError] = []
        self.is_final = False

    async def ask(self, target: Target) -> Opened | None:
        """Ask one deployment; None when it did not answer."""
        gateway, trace = self._gateway, self._trace
        model = gateway.directory.catalogue.models.get(target.model_name)
        ticket = await gateway.health.begin(target, pool=model.pool if model is not None else ())
        if ticket is None:
            self._skip(target, gateway.health.objection(target) or "others are finding out whether it is back")
            return None
        price = gateway.directory.prices.at(target.model_id, trace.started_at)
        purse = Purse(gateway, self._call, target=target, price=price)
        try:
            await purse.open()
        except (BudgetRefusedError, PriceUnknownError) as error:
            ticket.says_nothing()
            self._refusal = self._refusal or error
            self._skip(target, error.message)
            return None
        except (OverloadedError, asyncio.CancelledError):
            ticket.says_nothing()
            raise
        trace.target = target
        return await self._ask_provider(target, ticket, purse=purse)

    async def _ask_provider(self, target: Target, ticket: Ticket, *, purse: Purse) -> Opened | None:
        trace, asked = self._trace, time.perf_counter()
        note = AttemptNote(
            attempt=purse.attempt_id, deployment=target.deployment_id, model=target.model_name,
            provider=target.provider_name, started_ms=trace.elapsed_ms(),
        )  # fmt: skip
        trace.notes.append(note)
        opened: Opened | None = None
        outcome, failure = "client_left", None
        try:
            upstream, conversation, first = await _begin(target)
            terms = Terms(self._call.caller, self._gateway.directory.catalogue, self._call.requested_model, target)
            opened = Opened(terms, purse, upstream, conversation, first)
            outcome = "answered"
        except ProviderError as error:
            outcome, failure = error.failure.value, error
            self._failures.append(error)
            self.is_final = not error.may_try_another
        finally:
            seconds = time.perf_counter() - asked
            trace.upstream_seconds += seconds
            note.outcome, note.elapsed_ms = outcome, trace.elapsed_ms() - note.started_ms
            note.message = failure.message[:500] if failure is not None else ""
            trace.attempts.append(f"{target.provider_name}: {outcome}")
            if opened is None:
                purse.fail(outcome)
            if failure is not None:
                ticket.failed(failure)
            elif opened is not None:
                ticket.first_content(seconds, deadline_seconds=CREATED_SECONDS)
                ticket.succeeded()
            else:
                ticket.says_nothing()
        return opened

    def _skip(self, target: Target, reason: str) -> None:
        self._trace.skipped.append((f"{target.model_name} at {target.provider_name}", reason))

    def outcome(self, targets: list[Target]) -> GatewayError:
        """Why nobody answered."""
        if self._refusal is not None and not self.is_final:
            return self._refusal
        if self._failures:
            asked = self._trace.deployments_asked
            return from_provider(self._failures[-1], attempts=self._trace.attempts, deployments=asked)
        return ProviderUnavailableError(
            "No deployment may be asked at the moment.",
            retry_after_seconds=self._gateway.health.free_in_seconds(targets),
            attempts=[f"{subject}: {reason}" for subject, reason in self._trace.skipped],
        )


async def _begin(target: Target) -> tuple[UpstreamSocket, Conversation, list[ServerEvent]]:
    """Open the socket and wait until the provider has a session. Raises `ProviderError`."""
    adapter = realtime_adapter_for(target.kind)
    upstream = adapter.over(await _dial(target), target, dial=lambda: _dial(target))
    conversation = adapter.conversation(target)
    first: list[ServerEvent] = []
    begun = False
    try:
        async with asyncio.timeout(CREATED_SECONDS):
            for frame in conversation.opening():
                await upstream.send(frame)
            while not begun:
                first += conversation.from_provider(await upstream.receive())
                _check(first)
                begun = any(event.type == "session.created" for event in first)
    except TimeoutError as error:
        raise DeadlineError("first_token", CREATED_SECONDS) from error
    except SocketClosedError as error:
        raise ProviderError(Failure.BROKEN, str(error)) from error
    finally:
        if not begun:
            await upstream.close()
    return upstream, conversation, first


async def _dial(target: Target) -> UpstreamSocket:
    """Open a socket. Raises `ProviderError`."""
    request = realtime_adapter_for(target.kind).connect(target)
    try:
        return await open_socket(request, allow_private_network=target.allow_private_network)
    except SocketRefusedError as refused:
        body = refused.body
        if target.secret:  # a provider that quotes our credential must not have it passed on or logged
            body = body.replace(target.secret.encode(), b"[credential]")
        raise adapter_for(target.kind).parse_error(refused.status, headers=refused.headers, body=body) from refused


def _check(events: list[ServerEvent]) -> None:
    """Raises what a provider says is wrong before there is a session."""
    for event in events:
        if event.type == "error":
            said = event.event.get("error")
            message = str(said.get("message")) if isinstance(said, dict) else "It gave no reason."
            raise ProviderError(Failure.BROKEN, message)
