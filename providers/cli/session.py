"""One session: a process that takes a line of JSON and answers in lines of JSON, one request at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import time
from enum import StrEnum
from uuid import uuid4

import msgspec

from providers.cli.config import PoolConfig
from providers.errors import DeadlineError, Failure, ProviderError
from providers.failures import MALFORMED

logger = logging.getLogger(__name__)

LINE_LIMIT_BYTES = 16 * 1024 * 1024
PING_SECONDS = 10.0
END_SECONDS = 1.0
"""How long a program has to end by itself once its input is closed."""

STDERR_LINES = 20
STDERR_LINE_BYTES = 500
STDERR_PIECE_BYTES = 4096
SECRET_LOOKING = re.compile(r"(?i)\b(?:sk-|key-|bsr_live_|ghp_|bearer\s+)[\w.\-]{8,}")
"""Credentials by their look: what a program says about a failed login may quote one."""

LAST_EVENTS = frozenset({"result", "error"})


class SessionState(StrEnum):
    """Where a session stands."""

    STARTING = "starting"
    """Its first ping is not answered yet."""
    IDLE = "idle"
    CHECKING = "checking"
    """A keep-alive ping is not answered yet."""
    BUSY = "busy"
    DEAD = "dead"


class _Event(msgspec.Struct):
    type: str = ""
    id: str = ""


_decode_event = msgspec.json.Decoder(_Event).decode


class CliSession:
    """A process and what is known of it. `start` it once, `wait` for its end; in between it answers."""

    def __init__(self, name: str, config: PoolConfig, *, is_overflow: bool = False, restarts: int = 0) -> None:
        self.name = name
        self.is_overflow = is_overflow
        self.restarts = restarts
        self.served = 0
        self.state = SessionState.STARTING
        self.end_reason = ""
        """Why it was ended, or why it did not start; empty for one that ended by itself."""
        self.started_at = time.monotonic()
        self._config = config
        self._process: asyncio.subprocess.Process | None = None
        self._stderr: asyncio.Task[None] | None = None
        self._stderr_bytes = 0
        self._token = uuid4().hex[:16]
        self._exchanges = 0
        self._ending: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """None before its process is there."""
        return self._process.pid if self._process is not None else None

    @property
    def exit_status(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._process.returncode if self._process is not None else None

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self.started_at

    async def start(self) -> None:
        """Start the process and wait until it answers a ping. Raises `ProviderError`; its process is ended then."""
        seconds = self._config.request_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                await self._spawn()
                await self._ping()
        except TimeoutError as error:
            self._fail(f"It did not answer its first ping within {seconds:g} s.")
            raise ProviderError(Failure.UNREACHABLE, f"The CLI session did not start: {self.end_reason}") from error
        except (OSError, ProviderError) as error:
            self._fail(str(error))
            raise ProviderError(Failure.UNREACHABLE, f"The CLI session did not start: {self.end_reason}") from error

    async def _spawn(self) -> None:
        config = self._config
        process = self._process = await asyncio.create_subprocess_exec(
            *config.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=config.folder,
            env=dict(config.environment),
            start_new_session=True,  # a process group of its own: what it starts ends with it
            preexec_fn=config.before_exec,
            limit=LINE_LIMIT_BYTES,
        )
        assert process.stderr is not None
        self._stderr = asyncio.create_task(self._read_stderr(process.stderr))
        if self.end_reason:  # it was given up while it was being started
            self.kill(self.end_reason)

    def _fail(self, reason: str) -> None:
        self.kill(reason)
        self.state = SessionState.DEAD

    async def answers_ping(self) -> bool:
        """Whether it lives and listens."""
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self._ping()
        except (TimeoutError, ProviderError):
            return False
        return True

    async def _ping(self) -> None:
        ping_id = self._next_id()
        await self._write(b'{"id":"%b","type":"ping"}\n' % ping_id.encode())
        while True:
            event = _head(await self._read_line())
            if event is not None and event.type == "pong" and event.id == ping_id:
                return

    async def ask(self, body: bytes, *, deadline: float) -> str:
        """Send a request, a JSON object on one line, with an id before its members; returns the id.

        Raises `ProviderError`; the session is killed then.
        """
        exchange_id = self._next_id()
        try:
            async with asyncio.timeout_at(deadline):
                await self._write(b'{"id":"%b",%b\n' % (exchange_id.encode(), body[1:]))
        except TimeoutError as error:
            raise self._too_slow() from error
        return exchange_id

    async def hear(self, exchange_id: str, *, deadline: float) -> tuple[bytes, bool]:
        """The next line of an answer, and whether it is the last. Lines that belong to nothing asked are passed over.

        Raises `ProviderError`; the session is killed then. Cancelled, it may be called again and nothing is lost.
        """
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    line = await self._read_line()
                    event = _head(line)
                    if event is None:
                        self.kill("It wrote a line that is no event.")
                        raise ProviderError(Failure.BROKEN, "The CLI session wrote a line that is no event in JSON.")
                    if event.id == exchange_id:
                        return line, event.type in LAST_EVENTS
        except TimeoutError as error:
            raise self._too_slow() from error

    def kill(self, reason: str) -> None:
        """End it at once, with all that it has started."""
        self.end_reason = self.end_reason or reason
        if self._process is not None and self.exit_status is None:
            self._kill_group()

    def retire(self) -> None:
        """Let it end by itself: its input is closed. It is killed after `END_SECONDS`."""
        self.end_reason = self.end_reason or "It was no longer needed."
        self.state = SessionState.DEAD
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._ending = asyncio.get_running_loop().call_later(END_SECONDS, self.kill, self.end_reason)

    async def wait(self) -> None:
        """Return when its process is gone, and reaped."""
        if self._process is not None:
            await self._process.wait()
            self._kill_group()  # what it had started may still be there
        self.state = SessionState.DEAD
        if self._ending is not None:
            self._ending.cancel()
        if self._stderr is not None:
            await asyncio.wait({self._stderr}, timeout=END_SECONDS)
            self._stderr.cancel()

    def log_end(self) -> None:
        """Say how it ended."""
        extra = {
            "session": self.name,
            "pid": self.pid,
            "exit_status": self.exit_status,
            "reason": self.end_reason or "It ended by itself.",
            "requests": self.served,
            "stderr_bytes": self._stderr_bytes,
        }
        logger.info("cli.session_ended", extra=extra)

    def _kill_group(self) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _too_slow(self) -> DeadlineError:
        seconds = self._config.request_timeout_seconds
        self.kill(f"A request took longer than {seconds:g} s.")
        return DeadlineError("total", seconds)

    def _next_id(self) -> str:
        self._exchanges += 1
        return f"{self._token}-{self._exchanges}"

    async def _write(self, line: bytes) -> None:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            await self._process.stdin.drain()
        except (OSError, RuntimeError) as error:  # uvloop's own for a pipe that is closed
            self.kill("Its input is closed.")
            raise ProviderError(Failure.BROKEN, "The CLI session has closed its input.") from error

    async def _read_line(self) -> bytes:
        assert self._process is not None and self._process.stdout is not None
        try:
            line = await self._process.stdout.readline()
        except ValueError as error:
            self.kill(f"It wrote a line of over {LINE_LIMIT_BYTES} bytes.")
            raise ProviderError(Failure.BROKEN, "The CLI session wrote too long a line.") from error
        if not line.endswith(b"\n"):
            self.kill("")
            raise ProviderError(Failure.BROKEN, "The CLI session ended before its answer did.")
        return line

    async def _read_stderr(self, stderr: asyncio.StreamReader) -> None:
        """Log how it begins, before the first request. From then on what it says may quote a call, and is counted."""
        lines = 0
        while piece := await stderr.read(STDERR_PIECE_BYTES):
            self._stderr_bytes += len(piece)
            if self.state is not SessionState.STARTING:
                continue
            for line in piece.splitlines()[: STDERR_LINES - lines]:
                lines += 1
                text = self._redacted(line[:STDERR_LINE_BYTES].decode("utf-8", "replace"))
                logger.warning("cli.stderr", extra={"session": self.name, "text": text})

    def _redacted(self, text: str) -> str:
        for secret in self._config.secrets:
            text = text.replace(secret, "[redacted]")
        return SECRET_LOOKING.sub("[redacted]", text)


def _head(line: bytes) -> _Event | None:
    """What every event has; None for a line that is none."""
    try:
        return _decode_event(line)
    except MALFORMED:
        return None
