"""One Lua script of Redis', run for many requests in few round trips, and quick to say that Redis is away.

What is asked while a batch is under way forms the next one, over one connection: four hundred calls at once are a
handful of round trips, and an idle process waits for nobody. redis-py opens the connection (URL forms, TLS, login).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence

from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from billing.coalescer import Coalescer
from gateway.stopping import cancelled

logger = logging.getLogger(__name__)

Argument = str | int
Row = tuple[Argument, ...]
Reply = list[int]

PAUSE_SECONDS = 1.0
"""For how long nobody asks a Redis that has just failed."""

LATE_SECONDS = 0.01
"""A timer that fires this late says that our own loop was busy, not that Redis was slow."""


class RedisAwayError(Exception):
    """Redis did not answer in time, or not in a way that is of use. Whether it ran the script is unknown."""


class RedisScript:
    """Runs a script that answers a list of numbers."""

    def __init__(self, url: str, text: str, *, timeout_seconds: float) -> None:
        self._text = text
        self._timeout_seconds = timeout_seconds
        self._sha = ""
        self._pool = ConnectionPool.from_url(url, retry=Retry(NoBackoff(), 0))
        self._connection = self._pool.make_connection()
        self._rows: Coalescer[Row, Reply] = Coalescer(self._write)
        self._away_until = -math.inf

    @property
    def is_away(self) -> bool:
        """Whether it is no use to ask at the moment."""
        return time.monotonic() < self._away_until

    def run(
        self, keys: Sequence[str], arguments: Sequence[Argument], *, within_seconds: float = 0.0
    ) -> asyncio.Future[Reply]:
        """Ask for one run; the future has what the script answers, or `RedisAwayError`. Runs keep their order.

        `within_seconds`: for how long it may wait for others to be asked with it.
        """
        return self._rows.add((len(keys), *keys, *arguments), within_seconds=within_seconds)

    async def close(self) -> None:
        """Wait for what was asked, then let go of the connection."""
        await self._rows.idle()
        await self._connection.disconnect()

    async def _write(self, batch: list[Row]) -> Sequence[Reply | Exception]:
        if self.is_away:
            return [RedisAwayError("Redis has just failed.")] * len(batch)
        exchange = asyncio.get_running_loop().create_task(self._exchange(batch))
        if not await _ends_within(self._timeout_seconds, exchange):
            await cancelled(exchange)
            return self._failed(f"no answer within {self._timeout_seconds} s", batch)
        error = exchange.exception()
        if isinstance(error, (RedisError, OSError)):
            return self._failed(str(error), batch)
        return exchange.result()

    def _failed(self, reason: str, batch: list[Row]) -> Sequence[Reply | Exception]:
        self._away_until = time.monotonic() + PAUSE_SECONDS
        logger.warning("redis.away", extra={"reason": reason, "calls": len(batch)})
        return [RedisAwayError(reason)] * len(batch)

    async def _exchange(self, batch: list[Row]) -> list[Reply | Exception]:
        if not self._connection.is_connected:
            await self._connection.connect()
            await self._load()
        outcomes = await self._send(batch)
        if any(isinstance(outcome, NoScriptError) for outcome in outcomes):  # somebody has emptied the script cache
            await self._load()
            missed = [index for index, outcome in enumerate(outcomes) if isinstance(outcome, NoScriptError)]
            for index, outcome in zip(missed, await self._send([batch[index] for index in missed]), strict=True):
                outcomes[index] = outcome
        return outcomes

    async def _send(self, rows: list[Row]) -> list[Reply | Exception]:
        packed = b"".join([_packed(("EVALSHA", self._sha, *row)) for row in rows])
        await self._connection.send_packed_command(packed, check_health=False)
        return [await self._reply() for _ in rows]

    async def _reply(self) -> Reply | Exception:
        try:
            reply: Reply = await self._connection.read_response(timeout=math.inf)
        except NoScriptError as error:
            return error
        except ResponseError as error:  # it is there and refuses: read-only, out of memory
            logger.warning("redis.refused", extra={"reason": str(error)})
            return RedisAwayError(str(error))
        return reply

    async def _load(self) -> None:
        await self._connection.send_command("SCRIPT", "LOAD", self._text)
        sha = await self._connection.read_response(timeout=math.inf)
        self._sha = sha.decode() if isinstance(sha, bytes) else sha


def _packed(command: Row) -> bytes:
    """A command as Redis reads it: redis-py's own packing took a tenth of the CPU of a limited call."""
    pieces = [str(argument).encode() for argument in command]
    return b"*%d\r\n" % len(pieces) + b"".join([b"$%d\r\n%b\r\n" % (len(piece), piece) for piece in pieces])


async def _ends_within(seconds: float, task: asyncio.Task[list[Reply | Exception]]) -> bool:
    """Wait for a task; time in which our own loop was too busy to hear Redis does not count against it."""
    while True:
        due = time.monotonic() + seconds
        await asyncio.wait({task}, timeout=seconds)
        if task.done() or time.monotonic() - due < LATE_SECONDS:
            return task.done()
