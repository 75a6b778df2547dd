"""A pool of sessions: started before they are needed, pinged while they are idle, started again when they die.

A request that finds every session busy starts one more, up to a bound, and takes whichever is free first. A session
serves one request at a time. Each web process has a pool of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from providers.cli import CHAT_URL, HEALTH_URL
from providers.cli.config import PoolConfig
from providers.cli.session import END_SECONDS, CliSession, SessionState
from providers.errors import DeadlineError, Failure, ProviderError
from providers.types import UpstreamRequest

logger = logging.getLogger(__name__)

QUEUE_LIMIT = 100
FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 30.0
LONG_LIFE_SECONDS = 60.0
"""A session that lived so long, or answered a request, died by accident: the next is started without a pause."""

COMING = frozenset({SessionState.STARTING, SessionState.CHECKING})


def pause_seconds(failures: int) -> float:
    """How long to wait after so many early deaths in a row: not at all after the first, then longer and longer."""
    if failures < 2:
        return 0
    doublings = min(failures - 2, 10)  # far beyond the longest, and still a float
    return min(FIRST_BACKOFF_SECONDS * 2.0**doublings, LONGEST_BACKOFF_SECONDS)


class SessionPool:
    """Sessions of one process. `start` it inside a running event loop; close it when done."""

    def __init__(self, config: PoolConfig, *, changed: Callable[[Mapping[str, int]], None] | None = None) -> None:
        self.config = config
        self._changed = changed
        self._sessions: dict[str, CliSession] = {}
        self._idle: deque[CliSession] = deque()
        self._waiting: deque[asyncio.Future[CliSession]] = deque()
        self._runners: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()
        self._overflow_started = 0
        self._last_error = ""

    def start(self) -> None:
        """Start the sessions; returns at once, they get ready by and by."""
        self.config.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(1, self.config.size + 1):
            session = self._sessions[str(number)] = CliSession(str(number), self.config)
            self._run(self._keep(session), f"cli-{number}")
        self._tell()

    async def close(self) -> None:
        """End every session: idle ones in good order, the others at once."""
        self._closing.set()
        self._refuse_waiting("The process is ending.")
        for session in self._sessions.values():
            session.retire() if session.state is SessionState.IDLE else session.kill("The process is ending.")
        if self._runners:
            _, late = await asyncio.wait(self._runners, timeout=2 * END_SECONDS + 1)
            for runner in late:
                runner.cancel()
        self._sessions.clear()
        self._tell()

    async def send(self, request: UpstreamRequest) -> CliResponse | LocalResponse:
        """Give a request to a session. Raises `ProviderError`."""
        if request.method == "GET" and request.url == HEALTH_URL:
            return self._health()
        if request.url != CHAT_URL or b"\n" in request.body or not request.body.startswith(b"{"):
            raise ProviderError(Failure.BROKEN, "A CLI session is asked by providers of kind cli only.")
        deadline = asyncio.get_running_loop().time() + self.config.request_timeout_seconds
        session = await self._take(deadline)
        asked = False
        try:
            exchange_id = await session.ask(request.body, deadline=deadline)
            asked = True
        finally:
            if not asked:
                session.kill("Its request was broken off.")
        return CliResponse(self, session, exchange_id=exchange_id, deadline=deadline)

    def release(self, session: CliSession) -> None:
        """Take back a session whose answer is whole."""
        session.served += 1
        self._offer(session)

    def standing(self) -> dict[str, int]:
        """How many sessions are in each state, how many of them are overflow, how many requests wait for one."""
        counts = Counter(session.state.value for session in self._sessions.values())
        overflow = sum(session.is_overflow for session in self._sessions.values())
        states = {state.value: counts[state.value] for state in SessionState}
        return {**states, "overflow": overflow, "waiting": len(self._waiting)}

    def described(self) -> list[dict[str, Any]]:
        """Each session, for whoever runs the platform."""
        return [
            {
                "id": session.name,
                "kind": "overflow" if session.is_overflow else "pool",
                "state": session.state.value,
                "pid": session.pid,
                "age_seconds": round(session.age_seconds, 1),
                "requests": session.served,
                "restarts": session.restarts,
                "reason": session.end_reason or None,
            }
            for session in self._sessions.values()
        ]

    async def _take(self, deadline: float) -> CliSession:
        """Wait for a session. Raises `ProviderError`: there is none, too many wait, or it took too long."""
        if session := self._pop_idle():
            session.state = SessionState.BUSY
            self._tell()
            return session
        if self._closing.is_set() or len(self._waiting) >= QUEUE_LIMIT:
            raise ProviderError(Failure.UNREACHABLE, "Too many requests wait for a CLI session.")
        if len(self._waiting) >= sum(session.state in COMING for session in self._sessions.values()):
            self._start_overflow()
        if not any(self._living()):
            raise ProviderError(Failure.UNREACHABLE, f"No CLI session can be had. {self._last_error}")
        waiter: asyncio.Future[CliSession] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._tell()
        taken = False
        try:
            async with asyncio.timeout_at(deadline):
                session = await waiter
            taken = True
            return session
        except TimeoutError as error:
            raise DeadlineError("connect", self.config.request_timeout_seconds) from error
        finally:
            if not taken:
                self._give_up(waiter)

    def _pop_idle(self) -> CliSession | None:
        while self._idle:
            session = self._idle.popleft()
            if session.exit_status is None:
                return session
        return None

    def _give_up(self, waiter: asyncio.Future[CliSession]) -> None:
        """A request waits no longer; a session that it was given in the same moment goes to another."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            self._offer(waiter.result())
        self._tell()

    def _offer(self, session: CliSession) -> None:
        """Give a free session to who waits longest; else it is idle, or ended if it is not one of the pool's own."""
        while self._waiting and session.exit_status is None:
            waiter = self._waiting.popleft()
            if not waiter.done():
                session.state = SessionState.BUSY
                waiter.set_result(session)
                self._tell()
                return
        if session.is_overflow or self._closing.is_set():
            session.retire()
        else:
            session.state = SessionState.IDLE
            self._idle.append(session)
        self._tell()

    def _start_overflow(self) -> None:
        if sum(session.is_overflow for session in self._living()) >= self.config.overflow:
            return
        self._overflow_started += 1
        session = CliSession(f"overflow-{self._overflow_started}", self.config, is_overflow=True)
        self._sessions[session.name] = session
        self._run(self._run_overflow(session), f"cli-{session.name}")

    async def _run_overflow(self, session: CliSession) -> None:
        await self._live(session)
        del self._sessions[session.name]
        self._tell()

    async def _keep(self, session: CliSession) -> None:
        """Hold one place of the pool: when its session has ended, start another."""
        failures = 0
        while True:
            await self._live(session)
            failures = 0 if session.served or session.age_seconds > LONG_LIFE_SECONDS else failures + 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_seconds(failures)):
                    await self._closing.wait()
            if self._closing.is_set():
                return
            session = CliSession(session.name, self.config, restarts=session.restarts + 1)
            self._sessions[session.name] = session
            self._tell()

    async def _live(self, session: CliSession) -> None:
        """A session's whole life."""
        try:
            await session.start()
        except ProviderError as error:
            self._last_error = error.message
            logger.warning("cli.start_failed", extra={"session": session.name, "reason": error.message})
        else:
            logger.info("cli.session_started", extra={"session": session.name, "pid": session.pid})
            self._offer(session)
            while session.exit_status is None:
                await self._wait_or_check(session)
        await session.wait()
        if session in self._idle:
            self._idle.remove(session)
        session.log_end()
        self._tell()
        if not any(self._living()):
            self._refuse_waiting(self._last_error)

    async def _wait_or_check(self, session: CliSession) -> None:
        """Wait for a session's end; one that is idle meanwhile is pinged, and killed when it does not answer."""
        try:
            async with asyncio.timeout(self.config.keep_alive_seconds or None):
                await session.wait()
        except TimeoutError:
            if session not in self._idle:
                return
            self._idle.remove(session)
            session.state = SessionState.CHECKING
            if await session.answers_ping():
                self._offer(session)
            else:
                session.kill("It did not answer a ping.")

    def _living(self) -> Iterator[CliSession]:
        return (session for session in self._sessions.values() if session.state is not SessionState.DEAD)

    def _refuse_waiting(self, reason: str) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(ProviderError(Failure.UNREACHABLE, f"No CLI session can be had. {reason}"))

    def _health(self) -> LocalResponse:
        ready = any(session.state not in COMING for session in self._living())
        return LocalResponse(200 if ready else 503)

    def _run(self, life: Any, name: str) -> None:
        runner = asyncio.get_running_loop().create_task(life, name=name)
        self._runners.add(runner)
        runner.add_done_callback(self._runners.discard)

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed(self.standing())


class CliResponse:
    """An answer that a session is giving; see `providers.transport.UpstreamResponse`."""

    status = 200

    def __init__(self, pool: SessionPool, session: CliSession, *, exchange_id: str, deadline: float) -> None:
        self.headers: Mapping[str, str] = {}
        self._pool = pool
        self._session = session
        self._exchange_id = exchange_id
        self._deadline = deadline
        self._over = False

    async def next(self) -> bytes:
        if self._over:
            return b""
        line, is_last = await self._session.hear(self._exchange_id, deadline=self._deadline)
        if is_last:
            self._over = True
            self._pool.release(self._session)
        return line

    def close(self) -> None:
        """An answer that is not whole ends its session: what it would still say must not reach another request."""
        if not self._over:
            self._over = True
            self._session.kill("Its request was broken off.")


class LocalResponse:
    """What the pool says of itself."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {}

    async def next(self) -> bytes:
        return b""

    def close(self) -> None:
        """Nothing is held."""
