"""Who may be asked: the breakers, cooldowns and refused credentials of all deployments, and how long each takes.

Decisions read this process's own memory. Transitions go through Redis, so that all processes stop, try again and
recover together; each process also reads the whole board twice a second. While Redis is away each process judges by
itself, and no call fails or waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gateway.health.breaker import BreakerPolicy, CallWindow, Circuit, State
from gateway.observation import BREAKER
from gateway.redis_script import RedisAwayError, RedisScript, Reply
from providers.errors import Failure, ProviderError
from providers.types import Target

logger = logging.getLogger(__name__)

SCRIPT = Path(__file__).with_name("health.lua").read_text()
KEY = "bursar:health"
READ_SECONDS = 0.5
ROW = 6
"""Numbers in a row of the script's answer."""

SLOW_SHARE_OF_DEADLINE = 0.5
"""A call is slow when its first content takes longer than this part of the time it may take."""

LATENCY_WEIGHT = 0.2
"""Of the newest call in the moving average: the last ten or so calls decide."""

UNASKED_COOLDOWN_SECONDS = 1.0
"""After a 429 that does not say how long."""

LONGEST_COOLDOWN_SECONDS = 3600.0

BREAKING = frozenset({Failure.UNREACHABLE, Failure.TIMEOUT, Failure.BROKEN})
"""What counts against a deployment. A client's mistake, a 429 and a refused credential say nothing about its health."""


def _nothing() -> None:
    """What this process knows by itself will do while Redis is away."""


@dataclass(slots=True)
class Standing:
    """How one deployment is doing, as this process sees it."""

    circuit: Circuit
    window: CallWindow
    cools_until: float = 0.0
    in_flight: int = 0
    first_content_seconds: float | None = None
    """Moving average; None before the first call."""
    last_failure: str = ""
    last_failure_at: float = 0.0
    pool: tuple[int, ...] = field(default=())


class Health:
    """The board of one process."""

    def __init__(self, redis_url: str, *, timeout_seconds: float, policy: BreakerPolicy | None = None) -> None:
        self.policy = policy or BreakerPolicy()
        self._script = RedisScript(redis_url, SCRIPT, timeout_seconds=timeout_seconds)
        self._standings: dict[int, Standing] = {}
        self._refused: dict[int, int] = {}
        """The version of each credential that a provider refused; a new secret has another one."""
        self._reading: asyncio.Task[None] | None = None

    async def read_once(self) -> None:
        """Learn what is known now, for somebody who only wants to look."""
        await self._read()

    async def start(self) -> None:
        """Learn what is known and keep learning."""
        await self._read()
        self._reading = asyncio.get_running_loop().create_task(self._keep_reading())

    async def close(self) -> None:
        """Stop; what was found out is written first."""
        if self._reading is not None:
            self._reading.cancel()
        await self._script.close()

    def standing(self, deployment_id: int) -> Standing:
        """What is known of a deployment."""
        standing = self._standings.get(deployment_id)
        if standing is None:
            standing = Standing(Circuit(policy=self.policy), CallWindow(self.policy))
            self._standings[deployment_id] = standing
        return standing

    def objection(self, target: Target) -> str | None:
        """Why a deployment should not be asked now; None when it may be, or may be tried."""
        if target.credential_id is not None and self._refused.get(target.credential_id) == target.credential_version:
            return "its credential was refused"
        standing = self._standings.get(target.deployment_id)
        if standing is None:
            return None
        now = time.monotonic()
        if standing.cools_until > now:
            return f"throttled, cooling down for {standing.cools_until - now:.1f} s"
        if standing.circuit.is_open(now):
            return f"circuit open for {standing.circuit.until - now:.1f} s"
        return None

    def free_in_seconds(self, targets: Iterable[Target]) -> float:
        """When the first of some deployments may be asked again: for Retry-After."""
        now = time.monotonic()
        waits = [
            max(standing.cools_until, standing.circuit.until) - now
            for target in targets
            if (standing := self._standings.get(target.deployment_id)) is not None
        ]
        return max(min(waits, default=1.0), 0.0)

    async def begin(self, target: Target, *, pool: Sequence[int] = ()) -> Ticket | None:
        """Go on record for a call to a deployment; None when it may not be made.

        `pool`: all deployments that serve the same model. Waits for nobody unless the breaker lets only few try.
        """
        if self.objection(target) is not None:
            return None
        standing = self.standing(target.deployment_id)
        standing.pool = tuple(pool)
        is_probe = standing.circuit.state is not State.CLOSED
        if is_probe and not await self._may_probe(target.deployment_id, standing):
            return None
        standing.in_flight += 1
        return Ticket(self, target, standing=standing, is_probe=is_probe, epoch=standing.circuit.epoch)

    async def _may_probe(self, deployment_id: int, standing: Standing) -> bool:
        try:
            lease_ms = _ms(self.policy.probe_seconds)
            reply = await self._script.run([KEY], ["probe", deployment_id, self.policy.probes, lease_ms])
        except RedisAwayError:
            return standing.circuit.probe(time.monotonic())
        self._learn(reply)
        return any(kind == 4 and granted == 1 for kind, _, granted, *_ in _rows(reply))

    def record(self, target: Target, standing: Standing, *, failed: bool, slow: bool) -> None:
        """Count an ordinary call that has ended."""
        now = time.monotonic()
        should_open = standing.window.record(now, failed=failed, slow=slow)
        if standing.circuit.state is State.OPEN and failed:
            should_open = True  # it began before the breaker opened
        if should_open and standing.circuit.state is not State.HALF_OPEN:
            self._trip(target.deployment_id, standing)

    def probed(self, target: Target, standing: Standing, *, good: bool | None, epoch: int) -> None:
        """Tell what a call that tried a half-open deployment has shown; None: nothing."""
        policy = self.policy
        outcome = 2 if good is None else int(good)
        opening = (_ms(policy.open_seconds), _ms(policy.longest_open_seconds))
        self._tell(
            ["probed", target.deployment_id, epoch, outcome, policy.probes, *opening],
            otherwise=lambda: standing.circuit.probed_with(good, time.monotonic()),
        )

    def cool_down(self, target: Target, seconds: float | None) -> None:
        """A provider has throttled us: leave the deployment alone for so long."""
        seconds = min(UNASKED_COOLDOWN_SECONDS if seconds is None else seconds, LONGEST_COOLDOWN_SECONDS)
        standing = self.standing(target.deployment_id)
        standing.cools_until = max(standing.cools_until, time.monotonic() + seconds)
        self._tell(["cool", target.deployment_id, _ms(seconds)])

    def refuse_credential(self, target: Target) -> None:
        """A provider refused a credential: it is not used again until its secret changes or an operator says so."""
        if target.credential_id is None or self._refused.get(target.credential_id) == target.credential_version:
            return
        logger.error(
            "health.credential_refused", extra={"provider": target.provider_name, "credential": target.credential_id}
        )
        self._refused[target.credential_id] = target.credential_version
        self._tell(["refuse", target.credential_id, target.credential_version])

    def _trip(self, deployment_id: int, standing: Standing) -> None:
        policy = self.policy
        standing.window.clear()
        others = [other for other in standing.pool if other != deployment_id]
        at_most = max((len(others) + 1) // 2, 1)
        opening = (_ms(policy.open_seconds), _ms(policy.longest_open_seconds))
        self._tell(
            ["trip", deployment_id, *opening, at_most, *others],
            otherwise=lambda: self._trip_alone(standing, others=others, at_most=at_most),
        )

    def _trip_alone(self, standing: Standing, *, others: Sequence[int], at_most: int) -> None:
        open_others = sum(self.standing(other).circuit.state is not State.CLOSED for other in others)
        if standing.circuit.state is State.OPEN or open_others < at_most:
            standing.circuit.trip(time.monotonic())

    def _tell(self, arguments: list[str | int], *, otherwise: Callable[[], None] = _nothing) -> None:
        """Tell Redis and take over what it answers; while it is away, `otherwise` is what this process does alone."""
        if self._script.is_away:
            otherwise()
        else:
            self._script.run([KEY], arguments).add_done_callback(partial(self._told, otherwise=otherwise))

    def _told(self, done: asyncio.Future[Reply], *, otherwise: Callable[[], None]) -> None:
        if done.cancelled():
            return
        if done.exception() is None:
            self._learn(done.result())
        else:
            otherwise()

    async def _keep_reading(self) -> None:
        while True:
            await asyncio.sleep(READ_SECONDS)
            await self._read()

    async def _read(self) -> None:
        with contextlib.suppress(RedisAwayError):
            reply = await self._script.run([KEY], ["read"])
            self._refused = {credential: version for kind, credential, version, *_ in _rows(reply) if kind == 3}
            self._learn(reply)

    def _learn(self, reply: Reply) -> None:
        """Take over the rows of an answer; times of Redis' clock become times of ours."""
        rows = _rows(reply)
        redis_ms = rows[0][2]
        now = time.monotonic()
        for kind, number, first, second, third, fourth in rows[1:]:
            if kind == 1:
                circuit = self.standing(number).circuit
                state, until = State(first), now + (second - redis_ms) / 1000
                if circuit.learn(state, until=until, level=third, epoch=fourth):
                    self.standing(number).window.clear()
                    BREAKER.labels(str(number)).set(state)
                    logger.warning("health.breaker", extra={"deployment": number, "state": state.name.lower()})
            elif kind == 2:
                self.standing(number).cools_until = now + (first - redis_ms) / 1000


class Ticket:
    """One call to a deployment, on record until it says how it ended. Saying it twice does nothing."""

    __slots__ = ("_ended", "_epoch", "_health", "_is_probe", "_slow", "_standing", "target")

    def __init__(self, health: Health, target: Target, *, standing: Standing, is_probe: bool, epoch: int) -> None:
        self.target = target
        self._health = health
        self._standing = standing
        self._is_probe = is_probe
        self._epoch = epoch
        self._slow = False
        self._ended = False

    def first_content(self, seconds: float, *, deadline_seconds: float) -> None:
        """The answer has begun, so long after it was asked for. Enough for a call that only tries."""
        known = self._standing.first_content_seconds
        self._standing.first_content_seconds = seconds if known is None else known + LATENCY_WEIGHT * (seconds - known)
        self._slow = seconds > SLOW_SHARE_OF_DEADLINE * deadline_seconds
        if self._is_probe:
            self._is_probe = False
            self._health.probed(self.target, self._standing, good=not self._slow, epoch=self._epoch)

    def succeeded(self) -> None:
        """The whole answer has come."""
        self._end(failed=False)

    def failed(self, error: ProviderError) -> None:
        """The call failed at the provider or on the way there."""
        if not self._ended:
            self._standing.last_failure = f"{error.failure}: {error.message[:200]}"
            self._standing.last_failure_at = time.time()
        if error.failure in BREAKING:
            self._end(failed=True)
            return
        if error.failure is Failure.THROTTLED:
            self._health.cool_down(self.target, error.retry_after_seconds)
        elif error.failure is Failure.REFUSED_CREDENTIAL and error.status in (401, 403):
            self._health.refuse_credential(self.target)
        self.says_nothing()

    def says_nothing(self) -> None:
        """The client left, or asked for what nobody could answer: no sign of how the deployment is doing."""
        if self._ended:
            return
        self._leave()
        if self._is_probe:
            self._health.probed(self.target, self._standing, good=None, epoch=self._epoch)

    def _end(self, *, failed: bool) -> None:
        if self._ended:
            return
        self._leave()
        if self._is_probe:
            self._health.probed(self.target, self._standing, good=not failed, epoch=self._epoch)
        else:
            self._health.record(self.target, self._standing, failed=failed, slow=self._slow)

    def _leave(self) -> None:
        self._ended = True
        self._standing.in_flight -= 1


def _rows(reply: Reply) -> list[list[int]]:
    return [reply[start : start + ROW] for start in range(0, len(reply), ROW)]


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
