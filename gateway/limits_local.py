"""Rate limits as this process counts them while Redis is away, each process its share.

The window is the one of limits.lua: counts by interval, an interval forgotten when all of it has left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gateway.limit_buckets import Bucket, Standing

WINDOWS_KEPT = 10_000
"""End users are names that clients make up. Beyond this many windows the oldest are forgotten."""


class LocalWindow:
    """Counts of one window by the number of their interval."""

    __slots__ = ("_counts", "_interval_seconds", "_intervals", "total")

    def __init__(self, interval_seconds: int, intervals: int) -> None:
        self._interval_seconds = interval_seconds
        self._intervals = intervals
        self._counts: dict[int, int] = {}
        self.total = 0

    def used(self, now: float) -> int:
        """What is counted in the window that ends now."""
        oldest = int(now // self._interval_seconds) - self._intervals
        while self._counts and (first := next(iter(self._counts))) < oldest:
            self.total -= self._counts.pop(first)
        return self.total

    def add(self, now: float, amount: int) -> None:
        """Count from now on."""
        self._count(int(now // self._interval_seconds), amount)

    def give_back(self, counted_at: float, amount: int) -> None:
        """Take off what was counted then, as far as it still is."""
        interval = int(counted_at // self._interval_seconds)
        self._count(interval, -min(amount, self._counts.get(interval, 0)))

    def seconds_until_room(self, now: float, *, limit: int, amount: int) -> float:
        """How long until enough has left for `amount` more, or all has."""
        excess = self.total + amount - limit
        last = int(now // self._interval_seconds)
        for interval, count in self._counts.items():
            excess -= count
            if excess <= 0:
                last = interval
                break
        return self._leaves_at(last) - now

    def reset_ms(self, now: float) -> int:
        """In how long nothing of it is left."""
        last = next(reversed(self._counts), None)
        return 0 if last is None else int((self._leaves_at(last) - now) * 1000)

    def _leaves_at(self, interval: int) -> float:
        return float((interval + self._intervals + 1) * self._interval_seconds)

    def _count(self, interval: int, amount: int) -> None:
        if amount:
            self._counts[interval] = self._counts.get(interval, 0) + amount
            self.total += amount


class LocalLimits:
    """Admits calls to this process's share of each limit: the limit divided by the processes that live, at least 1."""

    def __init__(self) -> None:
        self.processes = 1
        """How many live, as Redis last said."""
        self._windows: dict[str, LocalWindow] = {}
        self._held: Counter[str] = Counter()
        """Calls under way in this process by concurrency bucket, whoever admitted them."""

    def admit(self, buckets: Sequence[Bucket], now: float) -> tuple[list[Standing], Bucket | None, float]:
        """Count a call in all its buckets or in none: how they stand, which refuses if one does, and for how long."""
        shares = [max(1, bucket.limit // self.processes) for bucket in buckets]
        used = [self._used(bucket, now) for bucket in buckets]
        refusing: Bucket | None = None
        wait_seconds = 0.0
        for bucket, share, count in zip(buckets, shares, used, strict=True):
            amount = _amount(bucket, share)
            if count + amount > share:
                wait = 1.0
                if bucket.measure.interval_seconds:
                    wait = self._window(bucket).seconds_until_room(now, limit=share, amount=amount)
                if wait > wait_seconds:
                    refusing, wait_seconds = bucket, wait
        standings = []
        for bucket, share, count in zip(buckets, shares, used, strict=True):
            if not bucket.measure.interval_seconds:
                continue
            amount = _amount(bucket, share) if refusing is None else 0
            window = self._window(bucket)
            window.add(now, amount)
            standings.append(Standing(bucket, count + amount, share, window.reset_ms(now)))
        return standings, refusing, wait_seconds

    def hold(self, buckets: Sequence[Bucket]) -> None:
        """Note that an admitted call is under way here."""
        for bucket in buckets:
            if not bucket.measure.interval_seconds:
                self._held[bucket.key] += 1

    def release(self, buckets: Sequence[Bucket]) -> None:
        """Note that it is over."""
        for bucket in buckets:
            if not bucket.measure.interval_seconds:
                self._held[bucket.key] -= 1
                if self._held[bucket.key] <= 0:
                    del self._held[bucket.key]

    def correct(self, bucket: Bucket, difference: int, *, now: float, counted_at: float) -> None:
        """Count what a call took beyond its estimate, or give back what it did not take."""
        if difference > 0:
            self._window(bucket).add(now, difference)
        else:
            self._window(bucket).give_back(counted_at, -difference)

    def forget_empty(self, now: float) -> None:
        """Drop windows in which nothing is counted any more."""
        for key in [key for key, window in self._windows.items() if not window.used(now)]:
            del self._windows[key]

    def _used(self, bucket: Bucket, now: float) -> int:
        if not bucket.measure.interval_seconds:
            return self._held[bucket.key]
        return self._window(bucket).used(now)

    def _window(self, bucket: Bucket) -> LocalWindow:
        window = self._windows.get(bucket.key)
        if window is None:
            if len(self._windows) >= WINDOWS_KEPT:
                del self._windows[next(iter(self._windows))]
            window = LocalWindow(bucket.measure.interval_seconds, bucket.measure.intervals)
            self._windows[bucket.key] = window
        return window


def _amount(bucket: Bucket, share: int) -> int:
    """What a call counts for here: one that the whole limit has room for may take all of a share."""
    return min(bucket.amount, share) if bucket.amount <= bucket.limit else bucket.amount
