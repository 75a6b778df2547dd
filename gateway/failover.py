"""The walk over deployments until one answers: whom to ask next, whom again, and what to say when none did.

Another deployment is asked at once, the same one again only when nobody else is left, after a pause. Every attempt
after the first at one provider counts against its retry budget, also when it is at another of its deployments: a
provider in trouble is asked at most a fifth more often than it would be anyway. Asking another one costs it nothing.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from gateway.attempts import Attempt
from gateway.context import Call, Trace
from gateway.errors import BudgetRefusedError, GatewayError, PriceUnknownError, ProviderUnavailableError, from_provider
from gateway.health.board import Ticket
from gateway.observation import FAILOVERS, RETRIES
from gateway.retries import pause_seconds
from gateway.streaming import StreamReply, WholeReply
from gateway.timeouts import REQUEST_SECONDS
from providers.errors import Failure, ProviderError
from providers.types import Target

if TYPE_CHECKING:
    from gateway.runtime import Gateway

Reply = WholeReply | StreamReply

ATTEMPTS_PER_REQUEST = 3
COOLED_SECONDS = 0.05
"""Beyond a cooldown's end, which other processes' clocks and the way to Redis move a little."""


async def first_answer(gateway: Gateway, call: Call, *, trace: Trace, targets: list[Target]) -> Reply:
    """Try deployments in turn. Raises the `GatewayError` that says why none answered."""
    walk = _Walk(gateway, call, trace=trace)
    for target in targets:
        if (reply := await walk.ask(target)) is not None:
            return reply
    if (again := walk.worth_another_try()) is not None:
        target, pause = again
        await asyncio.sleep(pause)
        if (reply := await walk.ask(target)) is not None:
            return reply
    raise walk.outcome(targets)


class _Walk:
    """What a request has tried so far."""

    def __init__(self, gateway: Gateway, call: Call, *, trace: Trace) -> None:
        self._gateway = gateway
        self._call = call
        self._trace = trace
        self._asked = len(trace.notes)  # none, unless an answer that did not do is asked for again
        self._providers: list[str] = []
        """Those that were asked, in order."""
        self._failures: list[tuple[Target, ProviderError]] = []
        self._refusal: GatewayError | None = None
        """The first budget that had no room for a candidate."""
        self._is_final = False
        """Whether the last failure is the answer, whoever else might be asked."""

    async def ask(self, target: Target) -> Reply | None:
        """Ask a deployment, if it may be asked. None when it did not answer."""
        if self._is_final or self._asked >= ATTEMPTS_PER_REQUEST or self._is_late():
            return None
        ticket = await self._admitted(target)
        if ticket is None:
            return None
        attempt = Attempt(self._gateway, self._call, trace=self._trace, ticket=ticket)
        reply: Reply | None = None
        try:
            await attempt.reserve()
            self._trace.notes.append(attempt.note)
            self._trace.target = target
            reply = await attempt.answer()
        except ProviderError as error:
            attempt.failed(error)
            self._failed(target, error)
        except (BudgetRefusedError, PriceUnknownError) as error:
            self._refusal = self._refusal or error
            self._skip(target, error.message)
        except asyncio.CancelledError:
            attempt.leave()
            raise
        else:
            self._trace.attempts.append(f"{target.provider_name}: answered")
        finally:
            if reply is None:
                attempt.fail()  # does nothing where the attempt has ended above
            if attempt.dispatched:
                self._count(target)
        return reply

    async def _admitted(self, target: Target) -> Ticket | None:
        gateway = self._gateway
        model = gateway.directory.catalogue.models.get(target.model_name)
        ticket = await gateway.health.begin(target, pool=model.pool if model is not None else ())
        if ticket is None:
            self._skip(target, gateway.health.objection(target) or "others are finding out whether it is back")
        elif target.provider_name in self._providers:
            if not gateway.retries.take(target.provider_name, time.monotonic()):
                ticket.says_nothing()
                self._skip(target, "its provider's retry budget is used up")
                return None
            RETRIES.labels(target.provider_name).inc()
        elif self._providers:
            FAILOVERS.labels(self._providers[-1]).inc()
        return ticket

    def _count(self, target: Target) -> None:
        """The provider was really asked."""
        self._asked += 1
        if target.provider_name not in self._providers:
            self._gateway.retries.called(target.provider_name, time.monotonic())
            self._providers.append(target.provider_name)

    def _failed(self, target: Target, error: ProviderError) -> None:
        self._trace.attempts.append(f"{target.provider_name}: {error.failure}")
        self._failures.append((target, error))
        self._is_final = not error.may_try_another

    def _skip(self, target: Target, reason: str) -> None:
        self._trace.skipped.append((f"{target.model_name} at {target.provider_name}", reason))

    def _is_late(self, pause: float = 0.0) -> bool:
        return self._trace.elapsed_seconds() + pause >= REQUEST_SECONDS

    def worth_another_try(self) -> tuple[Target, float] | None:
        """The deployment to ask once more, and after how long; None when that is no use."""
        if self._is_final or self._asked >= ATTEMPTS_PER_REQUEST:
            return None
        waits = [
            (pause, number)
            for number, (target, error) in enumerate(self._failures)
            if (pause := self._pause(target, error)) is not None and not self._is_late(pause)
        ]
        if not waits:
            return None
        pause, number = min(waits)
        return self._failures[number][0], pause

    def _pause(self, target: Target, error: ProviderError) -> float | None:
        """Also as long as its cooldown, which is there when the provider did not say how long to wait."""
        pause = pause_seconds(error, 0)
        if pause is None or self._gateway.health.objection(target) is None:
            return pause
        cools = self._gateway.health.free_in_seconds([target])
        return max(pause, cools) + COOLED_SECONDS if error.failure is Failure.THROTTLED else None

    def outcome(self, targets: list[Target]) -> GatewayError:
        """Why nobody answered. A budget's refusal says more than the failure of what it has room for."""
        if self._refusal is not None and not self._is_final:
            return self._refusal
        if self._failures:
            telling = [error for _, error in self._failures if error.failure is not Failure.UNSUPPORTED]
            return from_provider(
                # a deployment that might have answered says more than one that never could
                telling[-1] if telling else self._failures[0][1],
                attempts=self._trace.attempts,
                deployments=self._trace.deployments_asked,
            )
        return ProviderUnavailableError(
            "No deployment may be asked at the moment.",
            retry_after_seconds=self._gateway.health.free_in_seconds(targets),
            attempts=[f"{subject}: {reason}" for subject, reason in self._trace.skipped],
        )
