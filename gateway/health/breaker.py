"""A circuit breaker's judgement, from what one process sees. Pure: time is given, nothing is shared here."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum


class State(IntEnum):
    """As it is kept in Redis."""

    CLOSED = 0
    OPEN = 1
    HALF_OPEN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a breaker opens, for how long, and what closes it."""

    window_seconds: int = 30
    least_calls: int = 10
    failed_share: float = 0.5
    slow_share: float = 0.8
    failures_in_a_row: int = 5
    open_seconds: float = 10.0
    longest_open_seconds: float = 120.0
    probes: int = 3
    """How many calls may try a half-open deployment, over all processes; as many successes close it."""
    probe_seconds: float = 30.0
    """After this long without a verdict (a probing process was killed) others may try."""


@dataclass(slots=True)
class _Second:
    at: int
    calls: int = 0
    failed: int = 0
    slow: int = 0


class CallWindow:
    """The calls of the last seconds, by how they went."""

    __slots__ = ("_in_a_row", "_policy", "_seconds")

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._seconds: deque[_Second] = deque()
        self._in_a_row = 0

    def record(self, now: float, *, failed: bool, slow: bool) -> bool:
        """Count a call that ended at `now`, in seconds of a steady clock. Whether the breaker should open."""
        second = int(now)
        if not self._seconds or self._seconds[-1].at != second:
            self._seconds.append(_Second(second))
            while self._seconds[0].at <= second - self._policy.window_seconds:
                self._seconds.popleft()
        newest = self._seconds[-1]
        newest.calls += 1
        newest.failed += failed
        newest.slow += slow
        self._in_a_row = self._in_a_row + 1 if failed else 0
        return (failed or slow) and self._is_bad()

    def clear(self) -> None:
        """Begin anew: what was seen before says nothing about what comes now."""
        self._seconds.clear()
        self._in_a_row = 0

    def _is_bad(self) -> bool:
        policy = self._policy
        if self._in_a_row >= policy.failures_in_a_row:
            return True
        calls = sum(second.calls for second in self._seconds)
        if calls < policy.least_calls:
            return False
        failed = sum(second.failed for second in self._seconds)
        slow = sum(second.slow for second in self._seconds)
        return failed >= policy.failed_share * calls or slow >= policy.slow_share * calls


@dataclass(slots=True, kw_only=True)
class Circuit:
    """Where a deployment's breaker stands, as this process knows it, and what it does by itself while Redis is away.

    `until` and `now` are seconds of this process's monotonic clock. health.lua has the same rules for all processes.
    """

    policy: BreakerPolicy
    state: State = State.CLOSED
    until: float = 0.0
    level: int = 0
    epoch: int = 0
    probes: int = 0
    successes: int = 0
    probed: float = 0.0

    def is_open(self, now: float) -> bool:
        """Whether no call may go there, not even to try."""
        return self.state is State.OPEN and now < self.until

    def trip(self, now: float) -> None:
        """Open, or stay open for longer."""
        if self.state is State.CLOSED:
            self._turn(State.OPEN)
            self.level = 0
        if self.state is State.OPEN:
            self._open_for(now)

    def probe(self, now: float) -> bool:
        """Whether this call may try a deployment whose time is up."""
        if self.state is State.CLOSED:
            return True
        if self.is_open(now):
            return False
        if self.state is State.OPEN:
            self._turn(State.HALF_OPEN)
        if self.probes and now - self.probed > self.policy.probe_seconds:
            self.probes = self.successes = 0
        if self.probes >= self.policy.probes:
            return False
        if not self.probes:
            self.probed = now
        self.probes += 1
        return True

    def probed_with(self, good: bool | None, now: float) -> None:
        """What a call that tried has shown; None: nothing."""
        if self.state is not State.HALF_OPEN:
            return
        if good is None:
            self.probes = max(self.probes - 1, self.successes)
        elif good:
            self.successes += 1
            if self.successes >= self.policy.probes:
                self._turn(State.CLOSED)
                self.level = 0
        else:
            self._turn(State.OPEN)
            self.level += 1
            self._open_for(now)

    def learn(self, state: State, *, until: float, level: int, epoch: int) -> bool:
        """Take over what Redis says. Whether that changes the state."""
        changed = state is not self.state
        if changed:
            self.probes = self.successes = 0
        self.state, self.until, self.level, self.epoch = state, until, level, epoch
        return changed

    def _turn(self, state: State) -> None:
        self.state = state
        self.epoch += 1
        self.probes = self.successes = 0

    def _open_for(self, now: float) -> None:
        policy = self.policy
        self.until = now + min(policy.open_seconds * 2**self.level, policy.longest_open_seconds)
