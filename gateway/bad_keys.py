"""Floods of guessed API keys: who presents too many from one address has no more of them looked up.

Counted in each process for itself, in bounded memory. A key that was good once is always looked up, so that tenants
behind the same address go on, also after a change of the configuration.
"""

from __future__ import annotations

import time
from typing import TypeVar

from gateway.errors import RateLimitedError

WINDOW_SECONDS = 60
ADDRESSES_KEPT = 10_000
GOOD_KEYS_KEPT = 10_000
"""About 100 bytes each, as for addresses. The oldest goes first."""

Key = TypeVar("Key")
Value = TypeVar("Value")


class BadKeys:
    """Counts refused keys by address."""

    def __init__(self, per_minute: int) -> None:
        """0 switches the guard off."""
        self._per_minute = per_minute
        self._refused: dict[str, tuple[float, int]] = {}
        """For each address when its minute began, and how many of its keys were refused since."""
        self._good: dict[bytes, None] = {}

    def refused(self, address: str) -> None:
        """Count a key that was refused. Raises `RateLimitedError` if the address has had its share before."""
        if not self._per_minute:
            return
        self.check(address)
        began, count = self._refused.get(address, (0.0, 0))
        now = time.monotonic()
        if now - began >= WINDOW_SECONDS:
            began, count = now, 0
        _put(self._refused, address, value=(began, count + 1), at_most=ADDRESSES_KEPT)

    def check(self, address: str, digest: bytes | None = None) -> None:
        """Raises `RateLimitedError` for an address that has had its share, unless this key was good before."""
        began, count = self._refused.get(address, (0.0, 0))
        left = began + WINDOW_SECONDS - time.monotonic()
        if self._per_minute and count >= self._per_minute and left > 0 and digest not in self._good:
            raise RateLimitedError(
                "Too many API keys from this address were refused, so no other is looked up for now.",
                retry_after_seconds=int(left) + 1,
                may_retry=True,
                scope="address",
                what="refused_keys",
                limit=self._per_minute,
                window="minute",
            )

    def good(self, digest: bytes) -> None:
        """Remember a key that somebody has."""
        _put(self._good, digest, value=None, at_most=GOOD_KEYS_KEPT)


def _put(kept: dict[Key, Value], key: Key, *, value: Value, at_most: int) -> None:
    if key not in kept and len(kept) >= at_most:
        del kept[next(iter(kept))]
    kept[key] = value
