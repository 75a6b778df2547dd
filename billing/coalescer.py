"""Many small writes as few large ones.

At most one batch is under way; what arrives meanwhile forms the next. An idle ledger therefore adds no latency, and a
busy one pays for one round trip where it would have paid for dozens. What nobody waits for may wait for company.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Row = TypeVar("Row")
Result = TypeVar("Result")

BATCH_LIMIT = 256
"""Rows in one statement: keeps a statement well under its two-second timeout on a small server."""


class Coalescer(Generic[Row, Result]):
    """Hands rows to `write` in batches and tells each caller how its own row fared."""

    def __init__(self, write: Callable[[list[Row]], Awaitable[Sequence[Result | Exception]]]) -> None:
        """`write` takes a batch and answers one entry for each row: its result, or what went wrong with it."""
        self._write = write
        self._waiting: list[tuple[Row, asyncio.Future[Result]]] = []
        self._worker: asyncio.Task[None] | None = None
        self._under_way = 0
        self._newest: asyncio.Future[Result] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def add(self, row: Row, *, within_seconds: float = 0.0) -> asyncio.Future[Result]:
        """Queue a row; the future is done when it is committed, or carries why it is not.

        `within_seconds`: for how long it may wait for others to leave with it.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((row, future))
        self._newest = future
        if not within_seconds:
            self._begin()
        elif self._worker is None and self._timer is None:
            self._timer = loop.call_later(within_seconds, self._begin)
        return future

    @property
    def pending(self) -> int:
        """How many rows wait for the next batch."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether a row is being written or waits."""
        return self._worker is not None or bool(self._waiting)

    async def urge(self, *, wait_seconds: float) -> None:
        """Let no row wait for company any more, and wait until those queued by now are written, or for so long."""
        if self._waiting:
            self._begin()
        if self._newest is not None:
            await asyncio.wait({self._newest}, timeout=wait_seconds)

    async def idle(self) -> None:
        """Wait until everything queued so far is written."""
        if self._waiting:
            self._begin()
        while self._worker is not None:
            await asyncio.shield(self._worker)

    async def abandon(self) -> int:
        """Stop writing and cancel what is queued; how many rows were not written, or not known to be."""
        unwritten = self._under_way + len(self._waiting)
        for _, future in self._waiting:
            future.cancel()
        self._waiting.clear()
        self._forget_timer()
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait([self._worker])
        return unwritten

    def _begin(self) -> None:
        self._forget_timer()
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._drain())

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _drain(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH_LIMIT], self._waiting[BATCH_LIMIT:]
                self._under_way = len(batch)
                outcomes: Sequence[Result | Exception] = [RuntimeError("The batch's writer broke.")] * len(batch)
                try:
                    outcomes = await self._write([row for row, _ in batch])
                except asyncio.CancelledError:
                    for _, future in batch:
                        future.cancel()
                    raise
                finally:
                    self._under_way = 0
                    _deliver(batch, outcomes)
        finally:
            self._worker = asyncio.get_running_loop().create_task(self._drain()) if self._waiting else None


def _deliver(batch: list[tuple[Row, asyncio.Future[Result]]], outcomes: Sequence[Result | Exception]) -> None:
    for (_, future), outcome in zip(batch, outcomes, strict=True):
        if future.done():  # cancelled, by whom it is for or with its batch
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
