"""Embeddings calls of one tenant that ask the same model for the same kind of vector leave as one call to the provider.

A call with nobody beside it leaves at once. While another of its kind is under way it waits for a few milliseconds for
company; where two batches are under way, for some windows more or until one of them is back. Each call keeps its own
attempt, reservation and charge: here they only share the way, and what the provider says it used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from billing.fault_points import fault_point
from gateway.context import Call
from gateway.embedding_shares import MiscountError, Seat, Share, items_of, merged, shares_of
from gateway.exchange import exchange
from gateway.observation import EMBEDDING_BATCHES, EMBEDDINGS_BATCHED
from providers.errors import Failure, ProviderError
from providers.registry import adapter_for
from providers.transport import Deadlines, Transport, read_all
from providers.types import Target

AT_ONCE = 2
"""Batches of one kind under way at the same time, before others wait for company longer than a window."""

PATIENCE_WINDOWS = 10
"""How many windows a call waits at most."""

SPLITTING = frozenset({Failure.REFUSED_INPUT, Failure.UNSUPPORTED})
"""A batch refused for what is in it is asked again by halves, until the call at fault is alone."""


class Route(NamedTuple):
    """What calls must have in common to leave together, besides being of one kind."""

    tenant_id: int
    target: Target
    deadlines: Deadlines
    price_id: int | None
    kind: str
    members: tuple[tuple[str, bytes], ...]


@dataclass(slots=True, eq=False)
class _Queue:
    """The calls of one route that wait, and how many batches are under way."""

    waiting: list[Seat] = field(default_factory=list)
    under_way: int = 0
    is_due: bool = False
    """Whether the first of them has waited for its window."""
    timer: asyncio.TimerHandle | None = None


class EmbeddingBatches:
    """The batches of one gateway."""

    def __init__(self, transport: Transport, *, window_seconds: float) -> None:
        """With a window of 0 every call leaves alone."""
        self._transport = transport
        self._window_seconds = window_seconds
        self._queues: dict[Route, _Queue] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def takes(self, call: Call, target: Target) -> bool:
        """Whether a call may leave with others."""
        limits = adapter_for(target.kind).embeddings_at_once
        if limits is None or not self._window_seconds or not call.may_batch:
            return False
        items, _, tokens = items_of(call.wire)
        return len(items) < limits.items and sum(tokens) < limits.tokens

    async def answer(self, seat: Seat, route: Route) -> Share:
        """A call's own part of the answer. Raises `ProviderError` as if it had been asked for alone.

        Whoever is cancelled before the batch leaves is not in it; after that the others go on.
        """
        queue = self._queues.setdefault(route, _Queue())
        queue.waiting.append(seat)
        if not queue.under_way:
            self._leave(route, queue)
        elif queue.timer is None:
            queue.timer = asyncio.get_running_loop().call_later(self._window_seconds, self._due, route, queue)
        return await seat.share

    async def close(self) -> None:
        """Cut off what is under way, which nobody waits for any more."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _due(self, route: Route, queue: _Queue) -> None:
        """The window is over: leave, or wait for a batch to be back, but not for ever."""
        if queue.under_way < AT_ONCE or queue.is_due:
            self._leave(route, queue)
            return
        queue.is_due = True
        patience = (PATIENCE_WINDOWS - 1) * self._window_seconds
        queue.timer = asyncio.get_running_loop().call_later(patience, self._due, route, queue)

    def _leave(self, route: Route, queue: _Queue) -> None:
        """Send all that wait, in as many batches as the provider's limits make of them."""
        if queue.timer is not None:
            queue.timer.cancel()
        queue.timer, queue.is_due = None, False
        waiting, queue.waiting = [seat for seat in queue.waiting if not seat.share.done()], []
        for seats in _batches(waiting, route.target):
            queue.under_way += 1
            task = asyncio.get_running_loop().create_task(self._carry(seats, route))
            self._tasks.add(task)
            task.add_done_callback(partial(self._landed, seats=seats, route=route, queue=queue))
            for seat in seats:
                seat.share.add_done_callback(partial(_let_go, seats=seats, task=task))
        if not queue.under_way:
            self._queues.pop(route, None)

    def _landed(self, done: asyncio.Task[None], *, seats: Sequence[Seat], route: Route, queue: _Queue) -> None:
        self._tasks.discard(done)
        for seat in seats:
            if not seat.share.done():  # a fault of our own, or the gateway is closing: nobody is left waiting
                _fail(seat, done)
        queue.under_way -= 1
        if queue.waiting and (queue.is_due or (not queue.under_way and queue.timer is None)):
            self._leave(route, queue)
        elif not queue.waiting and not queue.under_way:
            self._queues.pop(route, None)

    async def _carry(self, seats: Sequence[Seat], route: Route) -> None:
        """One call to the provider for these, and for each its part of what came."""
        seats = [seat for seat in seats if not seat.share.done()]
        if not seats:
            return
        EMBEDDING_BATCHES.inc()
        EMBEDDINGS_BATCHED.observe(len(seats))
        try:
            shares = await self._ask(seats, route)
        except ProviderError as error:
            if len(seats) > 1 and (error.failure in SPLITTING or isinstance(error, MiscountError)):
                middle = len(seats) // 2
                await asyncio.gather(self._carry(seats[:middle], route), self._carry(seats[middle:], route))
                return
            for seat in seats:
                if not seat.share.done():
                    seat.share.set_exception(error)
            return
        for seat, share in zip(seats, shares, strict=True):
            if not seat.share.done():
                seat.share.set_result(share)

    async def _ask(self, seats: Sequence[Seat], route: Route) -> list[Share]:
        wire = merged(seats)
        adapter = adapter_for(route.target.kind)
        request = adapter.build_request(wire, route.target)
        for seat in seats:
            seat.dispatch(request, leads=seat is seats[0])
        response = await exchange(self._transport, request, target=route.target, deadlines=route.deadlines)
        try:
            for seat in seats:
                if not seat.share.done():
                    seat.accepted()
            body = await read_all(response)
        finally:
            response.close()
        fault_point("before_final_usage")
        return shares_of(seats, adapter.parse_response(wire, body))


def _batches(seats: Sequence[Seat], target: Target) -> list[list[Seat]]:
    """Seats in the order they came, as many together as the provider takes."""
    limits = adapter_for(target.kind).embeddings_at_once
    assert limits is not None
    batches: list[list[Seat]] = []
    items = tokens = 0
    for seat in seats:
        items, tokens = items + len(seat.items), tokens + sum(seat.tokens)
        if not batches or items > limits.items or tokens > limits.tokens:
            batches.append([])
            items, tokens = len(seat.items), sum(seat.tokens)
        batches[-1].append(seat)
    return batches


def _fail(seat: Seat, done: asyncio.Task[None]) -> None:
    error = None if done.cancelled() else done.exception()
    if error is None:
        seat.share.cancel()
    else:
        seat.share.set_exception(error)


def _let_go(_: asyncio.Future[Share], *, seats: Sequence[Seat], task: asyncio.Task[None]) -> None:
    """Cut off a call to the provider that nobody waits for any more."""
    if all(seat.share.cancelled() for seat in seats):
        task.cancel()
