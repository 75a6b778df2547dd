"""Where jobs are worked on: a gateway of its own in each process of a Celery worker, many jobs at once.

Celery says only that there may be something to do. What there is says the database, asked a few times a second for as
long as something is under way or falls due soon.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import threading
import time

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from gateway.handler import DataPlaneHandler
from gateway.jobs import rows
from gateway.jobs.models import Job
from gateway.jobs.recovery import take_back, take_back_own
from gateway.jobs.running import see_to
from gateway.runtime import Gateway, GatewayConfig

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
LINGER = dt.timedelta(seconds=12)
"""What falls due within it is waited for: a provider is asked again after ten seconds at most."""

WORK_SECONDS = 300.0
"""Then no more is taken up, so that Celery may replace the process when what is under way is over."""

TAKE_BACK_SECONDS = 5.0
CLOSE_SECONDS = 30.0


class Workplace:
    """A process's gateway, on a loop in a thread of its own: it must say that it lives also between two tasks."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="jobs", daemon=True)
        self._thread.start()
        self._gateway = Gateway(GatewayConfig.from_settings())
        self._handler = DataPlaneHandler(self._gateway)
        self._running: dict[str, asyncio.Task[None]] = {}

    def work(self) -> None:
        """Work on what is due, and on what falls due meanwhile. Returns when there is nothing more."""
        asyncio.run_coroutine_threadsafe(self._work(), self._loop).result()

    def close(self) -> None:
        """Break off what is under way: whoever takes it up knows how far it was."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)

    async def _work(self) -> None:
        await self._gateway.start()
        gateway, end = self._gateway, time.monotonic() + WORK_SECONDS
        process = gateway.recorder.process_id
        is_more, looked_at = True, 0.0
        while is_more or self._running:
            room = settings.JOBS_AT_ONCE - len(self._running) if time.monotonic() < end else 0
            try:
                if time.monotonic() - looked_at > TAKE_BACK_SECONDS:
                    looked_at = time.monotonic()
                    await gateway.directory.query(lambda: take_back_own(process, running=list(self._running)))
                taken = await gateway.directory.query(lambda room=room: rows.take(process, most=room)) if room else []
                for job in taken:
                    self._begin(job)
                if self._running:
                    for tenant_id, job_id in await gateway.directory.query(rows.to_cancel, process):
                        gateway.in_flight.cancel(tenant_id, job_id)
                is_more = bool(taken) or (room > 0 and await gateway.directory.query(rows.something_is_due, LINGER))
            except (DatabaseError, InterfaceError) as error:
                logger.warning("job.database_away", extra={"reason": str(error)[:200]})
            await self._pause(is_full=len(self._running) >= settings.JOBS_AT_ONCE)

    async def _pause(self, *, is_full: bool) -> None:
        """Until something changes that this process would know of, or it is time to look."""
        if is_full:
            await asyncio.wait(self._running.values(), timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(LOOK_SECONDS if self._running else LOOK_SECONDS / 2)

    def _begin(self, job: Job) -> None:
        task = self._loop.create_task(self._see_to(job))
        self._running[job.pk] = task
        task.add_done_callback(lambda _: self._running.pop(job.pk, None))

    async def _see_to(self, job: Job) -> None:
        try:
            await see_to(self._gateway, self._handler, job=job)
        except (DatabaseError, InterfaceError) as error:
            # It stays in this process's hand until `take_back_own` finds that it is not under way.
            logger.error("job.not_written", extra={"job": job.pk, "reason": str(error)[:200]})
        except Exception:
            logger.exception("job.broke", extra={"job": job.pk})

    async def _close(self) -> None:
        for task in list(self._running.values()):
            task.cancel()
        if self._running:
            await asyncio.wait(list(self._running.values()))
        await self._gateway.close()


_workplace: Workplace | None = None
_taken_back_at = 0.0


def run_due() -> None:
    """Work on jobs in this process, if there are any."""
    global _workplace, _taken_back_at
    if time.monotonic() - _taken_back_at > TAKE_BACK_SECONDS:
        _taken_back_at = time.monotonic()
        take_back(settings.PROCESS_DEAD_SECONDS)
    if not rows.something_is_due(LINGER):
        return
    connection.close()
    if _workplace is None:
        _workplace = Workplace()
    _workplace.work()


def close() -> None:
    """Let go of what this process holds, at its end."""
    global _workplace
    if _workplace is not None:
        _workplace.close()
        _workplace = None
