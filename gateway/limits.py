"""Rate limits: one round trip to Redis says whether a call may go on, over all limits that are about it.

While Redis is away, this process counts for itself and admits its share of each limit; answers say so.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
import uuid
from collections import deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from billing.counting import count_tokens
from gateway.context import Call, Trace
from gateway.errors import RateLimitedError
from gateway.limit_buckets import Bucket, Lease, Standing, buckets_for, headers_for, owner
from gateway.limits_local import LocalLimits
from gateway.redis_script import RedisAwayError, RedisScript, Reply
from gateway.reservation import output_limit
from providers.types import Target

SCRIPT = Path(__file__).with_name("limits.lua").read_text()
PROCESSES_KEY = "bursar:processes"

LEASE_SECONDS = 600
"""After this long, what a killed process held is free again. A whole answer takes at most three attempts of 180 s."""

RENEW_SECONDS = 300
BEAT_SECONDS = 2.0
ALIVE_SECONDS = 10
"""A process that has not been heard of for five beats is dead, and the others' share grows."""

RELEASE_WITHIN_SECONDS = 0.01
"""How long a release may wait for the next admission to take it along."""

RELEASES_KEPT = 10_000
"""How many releases wait for a Redis that is away; the rest run out with their lease."""


class Limits:
    """Admits calls and takes back what they held."""

    def __init__(self, redis_url: str, *, timeout_seconds: float) -> None:
        self._script = RedisScript(redis_url, SCRIPT, timeout_seconds=timeout_seconds)
        self._local = LocalLimits()
        self._process = uuid.uuid4().hex
        self._numbers = itertools.count()
        self._leases: dict[str, Lease] = {}
        """Leases under way that hold something in Redis."""
        self._unreleased: dict[str, list[str]] = {}
        """Concurrency keys by lease, of releases that Redis has not taken yet."""
        self._counts: deque[int] = deque(maxlen=5)
        self._beating: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Join the processes that share limits while Redis is away."""
        await self._beat(ALIVE_SECONDS)
        self._beating = asyncio.get_running_loop().create_task(self._keep_beating())

    async def close(self) -> None:
        """Leave them, when what finished calls held is given back."""
        if self._beating is not None:
            self._beating.cancel()
        await self._beat(0)
        await self._script.close()

    async def admit(self, call: Call, trace: Trace, *, targets: Sequence[Target]) -> None:
        """Count a call in all its limits, or in none and raise `RateLimitedError`. No round trip without a limit."""
        caller = call.caller
        if not caller.rate_limits:
            return
        lease = lease_for(call, f"{self._process}:{next(self._numbers)}", targets=targets)
        if not lease.buckets:
            return
        standings, refusing, wait_seconds = await self._ask(lease)
        trace.limit_headers = headers_for(standings)
        if lease.local:
            trace.limit_headers["x-gateway-ratelimit"] = "degraded"
        if refusing is not None:
            raise refused_by(refusing, wait_seconds)
        self._local.hold(lease.buckets)
        self._leases[lease.id] = lease
        trace.lease = lease

    def finish(self, trace: Trace) -> None:
        """Give back what a call held and put real tokens in place of the estimate. Waits for nothing."""
        lease, trace.lease = trace.lease, None
        if lease is None:
            return
        self._leases.pop(lease.id, None)
        self._local.release(lease.buckets)
        taken = trace.usage.input_tokens + trace.usage.output_tokens if trace.usage is not None else 0
        difference = taken - lease.tokens
        if lease.local:
            for bucket in lease.buckets:
                if bucket.measure.what == "tokens":
                    self._local.correct(
                        bucket, difference, now=time.time(), counted_at=lease.admitted_at_us / 1_000_000
                    )
        else:
            self._finish_in_redis(lease, difference)

    async def _ask(self, lease: Lease) -> tuple[list[Standing], Bucket | None, float]:
        if not self._script.is_away:
            try:
                return await asked(self._script, "admit", lease=lease)
            except asyncio.CancelledError:
                self._finish_in_redis(lease, 0)  # runs after the admission, which goes on without us
                raise
            except RedisAwayError:
                self._finish_in_redis(lease, 0)  # it may have been counted all the same
        now = time.time()
        lease.local, lease.admitted_at_us = True, int(now * 1_000_000)
        return self._local.admit(lease.buckets, now)

    def _finish_in_redis(self, lease: Lease, difference: int) -> None:
        keys: list[str] = []
        arguments: list[str | int] = ["finish", lease.id, lease.admitted_at_us, difference]
        held = []
        for bucket in lease.buckets:
            if bucket.measure.what == "concurrency":
                held.append(bucket.key)
            elif bucket.measure.what != "tokens" or not difference:
                continue
            keys.append(bucket.key)
            arguments += (bucket.measure.interval_seconds, bucket.measure.intervals)
        if keys:
            released = self._script.run(keys, arguments, within_seconds=RELEASE_WITHIN_SECONDS)
            released.add_done_callback(partial(self._finished, lease_id=lease.id, held=held))

    def _finished(self, done: asyncio.Future[Reply], *, lease_id: str, held: list[str]) -> None:
        """A release that Redis did not take is repeated; a difference in tokens is not: it may have been counted."""
        if done.cancelled() or not isinstance(done.exception(), RedisAwayError):
            self._unreleased.pop(lease_id, None)
        elif held and len(self._unreleased) < RELEASES_KEPT:
            self._unreleased[lease_id] = held

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            await self._beat(ALIVE_SECONDS)
            self._local.forget_empty(time.time())
            if not self._script.is_away:
                self._renew_leases()
                for lease_id, held in list(self._unreleased.items()):
                    arguments: list[str | int] = ["finish", lease_id, 0, 0, *(0, 0) * len(held)]
                    given_back = self._script.run(held, arguments)
                    given_back.add_done_callback(partial(self._finished, lease_id=lease_id, held=held))

    async def _beat(self, seconds: int) -> None:
        try:
            (count,) = await self._script.run([PROCESSES_KEY], ["beat", self._process, seconds])
        except RedisAwayError:
            return  # what was last known still counts
        self._counts.append(count)
        self._local.processes = max(self._counts)  # a Redis that was just flushed knows of one

    def _renew_leases(self) -> None:
        """Prolong the leases of long streams."""
        now = time.monotonic()
        for lease in self._leases.values():
            if lease.local or now - lease.renewed_at < RENEW_SECONDS:
                continue
            lease.renewed_at = now
            held = [bucket.key for bucket in lease.buckets if bucket.measure.what == "concurrency"]
            if held:
                self._script.run(held, ["keep", lease.id, LEASE_SECONDS]).add_done_callback(_ignore)


def _ignore(done: asyncio.Future[Reply]) -> None:
    """A lease that could not be prolonged is tried again after as long; its error is logged where it arose."""
    if not done.cancelled():
        done.exception()


def lease_for(call: Call, lease_id: str, *, targets: Sequence[Target]) -> Lease:
    """What a call has to be counted in, and with how much."""
    tokens = count_tokens(call.input_bytes)
    if call.max_output_tokens is not None:
        tokens += call.choices * max(output_limit(call, target) for target in targets)
    caller = call.caller
    return Lease(
        id=lease_id,
        buckets=buckets_for(caller.rate_limits, caller.principal, user=call.attribution.user, tokens=tokens),
        tokens=tokens,
        admitted_at_us=0,
        local=False,
        renewed_at=time.monotonic(),
    )


async def asked(
    script: RedisScript, task: Literal["admit", "look"], *, lease: Lease
) -> tuple[list[Standing], Bucket | None, float]:
    """How each bucket stands, which refuses the call if one does, and in how many seconds it would not; `look` counts
    nothing. Raises `RedisAwayError`."""
    arguments: list[str | int] = [task, lease.id, LEASE_SECONDS]
    for bucket in lease.buckets:
        arguments += (bucket.limit, bucket.amount, bucket.measure.interval_seconds, bucket.measure.intervals)
    return _read(await script.run([bucket.key for bucket in lease.buckets], arguments), lease)


def refused_by(bucket: Bucket, wait_seconds: float) -> RateLimitedError:
    """What a client is told whose call a limit has no room for."""
    return RateLimitedError(
        f"{_explain(bucket)} Wait {_whole(wait_seconds)} s.",
        retry_after_seconds=_whole(wait_seconds),
        may_retry=bucket.amount <= bucket.limit,
        scope=bucket.scope,
        subject=bucket.subject,
        what=bucket.measure.what,
        limit=bucket.limit,
        window=bucket.measure.window or None,
    )


def _read(reply: Reply, lease: Lease) -> tuple[list[Standing], Bucket | None, float]:
    refusing, wait_ms, lease.admitted_at_us = reply[:3]
    standings = [
        Standing(bucket, used, bucket.limit, reset_ms)
        for bucket, used, reset_ms in zip(lease.buckets, reply[3::2], reply[4::2], strict=True)
    ]
    return standings, lease.buckets[refusing - 1] if refusing else None, wait_ms / 1000


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))


def _explain(bucket: Bucket) -> str:
    if bucket.measure.what == "concurrency":
        return f"The limit of this {owner(bucket)} is {bucket.limit} calls at the same time, and so many are under way."
    limit = f"The limit of this {owner(bucket)} is {bucket.limit} {bucket.measure.what} a {bucket.measure.window}"
    if bucket.amount > bucket.limit:
        return f"{limit}, and this call alone may need {bucket.amount}: ask for less, with a smaller max_tokens."
    return f"{limit}, and it is used."
