"""The voice sessions of this process: how many there may be, and how they end with it."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from billing.leases import Leases
from gateway.errors import OverloadedError
from gateway.realtime.closing import End
from gateway.realtime.models import SessionReason

if TYPE_CHECKING:
    from gateway.realtime.session import Session
    from gateway.runtime import Gateway

logger = logging.getLogger(__name__)

LEFT_SECONDS = 8.0
"""How long sessions that are stopped at once may take to be paid."""


class Room:
    """Build it with the gateway; what it needs of the gateway is there once that has started."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._sessions: dict[asyncio.Task[None], Session] = {}
        self.leases = Leases(gateway.config.database_conninfo)
        self.drained_at: float | None = None
        """When the last response may be cut off, by the monotonic clock; None while the process goes on."""

    def check(self) -> None:
        """Whether another session may begin here. Raises `OverloadedError`."""
        if self._gateway.stopping.has_begun:
            raise OverloadedError("This process is being stopped. Another takes new sessions.")
        if len(self._sessions) >= self._gateway.config.realtime_sessions:
            raise OverloadedError("This process has as many voice sessions as it can serve. Try again in a moment.")

    def hold(self, session: Session, task: asyncio.Task[None]) -> None:
        """Know of a session until its task is done."""
        self._sessions[task] = session
        task.add_done_callback(lambda done: self._sessions.pop(done, None))

    async def drain(self) -> None:
        """Let the responses under way finish, for a while, and end all sessions: each with its summary."""
        seconds = self._gateway.config.realtime_drain_seconds
        self.drained_at = time.monotonic() + seconds
        if self._sessions:
            logger.info("realtime.draining", extra={"sessions": len(self._sessions)})
            for session in self._sessions.values():
                session.wake()
            await asyncio.wait(list(self._sessions), timeout=seconds + LEFT_SECONDS)

    async def close(self) -> None:
        """End what is left."""
        for session in self._sessions.values():
            session.stop(End(reason=SessionReason.DRAINING))
        if self._sessions:
            await asyncio.wait(list(self._sessions), timeout=LEFT_SECONDS)
        await self.leases.close()
