"""Whether and when a failed call is made again: a bounded share of what a provider is asked anyway."""

from __future__ import annotations

import random
from collections import defaultdict, deque

from providers.errors import DeadlineError, Failure, ProviderError

BUDGET_SHARE = 0.2
BUDGET_FLOOR_PER_SECOND = 3
BUDGET_WINDOW_SECONDS = 10
FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 8.0
LONGEST_WAIT_SECONDS = 10.0
"""A provider that asks for more than this is not waited for."""

REPEATABLE = frozenset({Failure.UNREACHABLE, Failure.TIMEOUT, Failure.BROKEN, Failure.THROTTLED})
"""What the same deployment may do better the second time."""


class RetryBudgets:
    """For each provider, how often calls may be repeated: so many that they cannot make an outage worse."""

    def __init__(self) -> None:
        self._calls: defaultdict[str, _Counter] = defaultdict(_Counter)
        self._retries: defaultdict[str, _Counter] = defaultdict(_Counter)

    def called(self, provider: str, now: float) -> None:
        """A call goes to a provider for the first time."""
        self._calls[provider].add(now)

    def take(self, provider: str, now: float) -> bool:
        """Whether a call may be made again, which is counted."""
        floor = BUDGET_FLOOR_PER_SECOND * BUDGET_WINDOW_SECONDS
        if self._retries[provider].total(now) + 1 > BUDGET_SHARE * self._calls[provider].total(now) + floor:
            return False
        self._retries[provider].add(now)
        return True


class _Counter:
    """Events of the last seconds."""

    def __init__(self) -> None:
        self._seconds: deque[list[int]] = deque()
        self._total = 0

    def add(self, now: float) -> None:
        self.total(now)
        if not self._seconds or self._seconds[-1][0] != int(now):
            self._seconds.append([int(now), 0])
        self._seconds[-1][1] += 1
        self._total += 1

    def total(self, now: float) -> int:
        while self._seconds and self._seconds[0][0] <= int(now) - BUDGET_WINDOW_SECONDS:
            self._total -= self._seconds.popleft()[1]
        return self._total


def pause_seconds(error: ProviderError, attempt: int) -> float | None:
    """How long to wait before the same deployment is asked again; None when it should not be. `attempt` from 0.

    Full jitter, so that calls that failed together do not come back together; a throttled call waits at least half of
    it, and as long as the provider asked for.
    """
    if error.failure not in REPEATABLE or (isinstance(error, DeadlineError) and error.deadline != "connect"):
        return None  # whoever has waited for a whole deadline is not made to wait for it twice at the same place
    ceiling: float = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2**attempt)
    if error.failure is not Failure.THROTTLED:
        return random.uniform(0, ceiling)
    asked: float = error.retry_after_seconds or 0.0
    if asked > LONGEST_WAIT_SECONDS:
        return None
    return max(asked, ceiling / 2 + random.uniform(0, ceiling / 2))
