"""Who waits for jobs in this process: all of them by one small query a few times a second, and none while nobody does.

The database is asked and not Redis: what waits must hear also when Redis has lost everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, InterfaceError

from gateway.jobs.models import Job

if TYPE_CHECKING:
    from gateway.directory import Directory

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.2


class JobWatch:
    """Tells waiters that a job has changed."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._waiting: dict[str, set[tuple[int, asyncio.Future[None]]]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._meanwhile: set[asyncio.Task[None]] = set()

    async def changed(self, job_id: str, *, beyond: int, seconds: float) -> None:
        """Return when a job has more than `beyond` events, or after so long."""
        waiter = (beyond, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(job_id, set()).add(waiter)
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await waiter[1]
        finally:
            self._waiting[job_id].discard(waiter)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    def meanwhile(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what no answer waits for: a queue that is away would keep it for seconds."""
        task = asyncio.get_running_loop().create_task(work)
        self._meanwhile.add(task)
        task.add_done_callback(self._meanwhile.discard)

    async def close(self) -> None:
        """Stop looking, and wait for what is done meanwhile."""
        if self._meanwhile:
            await asyncio.wait(self._meanwhile)
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def _look(self) -> None:
        while self._waiting:
            try:
                for job_id, events in await self._directory.query(_events_of, list(self._waiting)):
                    self._tell(job_id, events)
            except (DatabaseError, InterfaceError) as error:
                logger.warning("job.watch_failed", extra={"reason": str(error)})
            await asyncio.sleep(LOOK_SECONDS)
        self._looking = None

    def _tell(self, job_id: str, events: int) -> None:
        for beyond, waiter in self._waiting.get(job_id, ()):
            if events > beyond and not waiter.done():
                waiter.set_result(None)


def _events_of(job_ids: list[str]) -> list[tuple[str, int]]:
    return list(Job.objects.filter(pk__in=job_ids).values_list("id", "events"))
