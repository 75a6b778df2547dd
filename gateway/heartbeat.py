"""What a process does every few seconds besides answering: say that it lives, and end what dead ones left open."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import math
import time
from collections.abc import Awaitable, Callable

from django.db import DatabaseError, InterfaceError

from billing.entries import Void
from billing.flight_recorder import FlightRecorder
from billing.ledger import Ledger
from billing.sweeper import beat, end_process, orphans, sweep
from gateway.directory import Directory

logger = logging.getLogger(__name__)


class Heartbeat:
    """The two tasks of a process, apart from each other: a long sweep must not make it look dead."""

    def __init__(
        self, recorder: FlightRecorder, *, directory: Directory, every_seconds: float, dead_after_seconds: float
    ) -> None:
        self._recorder = recorder
        self._directory = directory
        self._every_seconds = every_seconds
        self._dead_after_seconds = dead_after_seconds
        self._started_at = dt.datetime.now(dt.UTC)
        self._beaten_at = 0.0
        self._sweeps_from = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, ledger: Ledger) -> None:
        """Make this process known, so that whatever it reserves has an owner, and begin. Raises `DatabaseError`."""
        await self._beat()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._forever(self._beat)),
            loop.create_task(self._forever(lambda: self._sweep(ledger))),
        ]

    @property
    def is_silent(self) -> bool:
        """Whether others may take this process for dead, or soon will: they wait twice as long."""
        return time.monotonic() - self._beaten_at > self._dead_after_seconds

    async def stop(self) -> None:
        """End the tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def sign_off(self) -> None:
        """Take this process off the books if all it began is ended there. Otherwise a sweep will see to the rest."""
        ended = False
        if not self._recorder.open_attempts:
            with contextlib.suppress(DatabaseError, InterfaceError):
                ended = await self._directory.query(end_process, self._recorder.process_id)
        self._recorder.close(keep=not ended)

    async def _forever(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(self._every_seconds)
            try:
                await work()
            except (DatabaseError, InterfaceError, OSError) as error:
                logger.warning("process.heartbeat_failed", extra={"reason": str(error)})

    async def _beat(self) -> None:
        self._recorder.maintain()
        beginning = time.monotonic()
        try:
            await self._directory.query(beat, self._recorder, self._started_at)
        except (DatabaseError, InterfaceError):
            self._sweeps_from = math.inf
            raise
        if self._sweeps_from == math.inf:
            # Nobody could say that it lives while the database was away: all get the time to do so.
            self._sweeps_from = time.monotonic() + self._dead_after_seconds
        self._beaten_at = beginning

    async def _sweep(self, ledger: Ledger) -> None:
        if time.monotonic() < self._sweeps_from:
            return
        await self._directory.query(sweep, self._recorder.path.parent, self._dead_after_seconds)
        unheard = await self._directory.query(orphans, self._recorder.process_id, self._dead_after_seconds)
        for attempt_id in unheard:
            if attempt_id not in self._recorder.open_attempts:
                ledger.void(Void(attempt_id=attempt_id, failure="reservation_unheard"))
