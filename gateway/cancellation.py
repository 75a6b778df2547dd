"""Cancelling a request in flight from any process: whoever holds it hears of it through Redis and answers.

Redis only carries the message. While it is away, a request can be cancelled through the process that holds it and by
its client hanging up, and nothing else changes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple
from uuid import uuid4

import redis.asyncio
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from gateway.context import Trace
from gateway.stopping import cancelled

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 1.0
"""How long all processes together have to say whether they hold a request."""

COMMAND_SECONDS = 1.0
RECONNECT_SECONDS = 1.0
SILENCE_SECONDS = 5.0
"""Then Redis is asked for a sign of life: a connection that nobody closed may be dead all the same."""


class _Held(NamedTuple):
    trace: Trace
    task: asyncio.Task[object]


class InFlight:
    """The requests that this process is answering, by tenant and request id, and how to cancel each."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, str], _Held] = {}

    def holds(self, trace: Trace) -> bool:
        """Whether a request of its tenant bears its id already."""
        return _key(trace) in self._held

    def add(self, trace: Trace) -> None:
        """Hold a request that the current task answers."""
        task = asyncio.current_task()
        assert task is not None
        self._held[_key(trace)] = _Held(trace, task)

    def discard(self, trace: Trace) -> None:
        """Let go of a request that is over; nothing for one that was never held."""
        if trace.caller is not None:
            self._held.pop(_key(trace), None)

    def cancel(self, tenant_id: int, request_id: str) -> bool:
        """Break off a tenant's call; False when there is none, or its whole answer is on its way already.

        Doing it twice is the same as once. Only calls can be cancelled, not questions such as this one.
        """
        held = self._held.get((tenant_id, request_id))
        if held is None or not held.trace.operation or (held.trace.status and not held.trace.stream_begun):
            return False
        if not held.trace.cancelled:
            held.trace.cancelled = True
            held.task.cancel()
        return True


def _key(trace: Trace) -> tuple[int, str]:
    assert trace.caller is not None
    return trace.caller.principal.tenant_id, trace.request_id


class _Question:
    """What all processes were asked, and how many have yet to say no."""

    def __init__(self) -> None:
        self.found: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.noes = 0
        self.asked: int | None = None

    def hear(self, found: bool) -> None:
        """Count one answer."""
        self.noes += not found
        self.settle(found)

    def settle(self, found: bool) -> None:
        """Answer as soon as one process has it, or none of those that were asked."""
        if not self.found.done() and (found or self.noes == self.asked):
            self.found.set_result(found)


class Cancellations:
    """Passes cancellations between processes."""

    def __init__(self, redis_url: str, in_flight: InFlight) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            redis_url, socket_connect_timeout=COMMAND_SECONDS, decode_responses=True
        )
        self._in_flight = in_flight
        database = self._redis.get_connection_kwargs().get("db") or 0  # channels go across a server's databases
        self._asked_here = f"bursar:{database}:cancel"
        """Where every process listens. A message is `sender number tenant request_id`."""
        self._answered_here = f"bursar:{database}:cancelled:{uuid4().hex}"
        self._questions: dict[str, _Question] = {}
        self._count = 0
        self._hears = False
        self._listening: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen; a Redis that is away is tried again."""
        self._listening = asyncio.get_running_loop().create_task(self._listen())

    async def close(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            await cancelled(self._listening)
        await self._redis.aclose()

    async def cancel(self, tenant_id: int, request_id: str) -> bool:
        """Cancel a tenant's request wherever it is; whether it was found. Raises `RedisError` or `OSError`."""
        if self._in_flight.cancel(tenant_id, request_id):
            return True
        if not self._hears:
            raise ConnectionError("Redis is away.")
        self._count += 1
        number = str(self._count)
        question = self._questions[number] = _Question()
        try:
            question.asked = await self._publish(
                self._asked_here, f"{self._answered_here} {number} {tenant_id} {request_id}"
            )
            question.settle(found=False)  # all may have answered before Redis said how many they are
            async with asyncio.timeout(ANSWER_SECONDS):
                return await question.found
        except TimeoutError:
            if question.asked is None:
                raise
            return False  # a process that does not even say no is dead or stuck
        finally:
            del self._questions[number]

    async def _publish(self, channel: str, message: str) -> int:
        """Send a message; returns how many processes have it."""
        async with asyncio.timeout(COMMAND_SECONDS):
            return int(await self._redis.publish(channel, message))

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=False) as channel:
                    await channel.subscribe(self._asked_here, self._answered_here)
                    await self._hear(channel)
            except (RedisError, OSError) as error:
                logger.info("cancellation.redis_away", extra={"reason": str(error)})
            self._hears = False
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _hear(self, channel: PubSub) -> None:
        was_asked = False
        while True:
            message = await channel.get_message(timeout=SILENCE_SECONDS)
            if message is None:
                if was_asked:
                    raise ConnectionError("Redis is silent.")
                await channel.ping()
                was_asked = True
                continue
            was_asked = False
            if message["type"] == "pong":
                continue
            if message["type"] == "subscribe":
                self._hears = message["channel"] == self._answered_here  # the second and last of the two
            elif message["channel"] == self._asked_here:
                await self._answer(str(message["data"]))
            else:
                number, _, found = str(message["data"]).partition(" ")
                if (question := self._questions.get(number)) is not None:
                    question.hear(found == "1")

    async def _answer(self, message: str) -> None:
        sender, number, tenant, request_id = message.split(" ")
        found = self._in_flight.cancel(int(tenant), request_id)
        await self._publish(sender, f"{number} {int(found)}")
