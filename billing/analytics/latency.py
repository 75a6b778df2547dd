"""Latencies as a histogram: what can be added up over any group and time, which percentiles cannot."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

BOUNDS_MS = (
    100, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000, 45_000,
    60_000, 120_000,
)  # fmt: skip
"""The upper bounds of all classes but the last, which has none."""
COLUMNS = (*(f"under_{bound}_ms" for bound in BOUNDS_MS), "slower")
"""Where `billing.models.analytics.Measures` counts each class."""


def percentile_ms(counts: Sequence[int], share: float) -> int | None:
    """About which latency this share of calls (0 to 1) did not exceed, in ms: exact to the class, in proportion within.

    None without calls. What is beyond the last bound counts as that bound.
    """
    wanted = share * sum(counts)
    if not wanted:
        return None
    lows = (0, *BOUNDS_MS)
    highs = (*BOUNDS_MS, BOUNDS_MS[-1])
    before = 0
    for low, high, count, after in zip(lows, highs, counts, itertools.accumulate(counts), strict=True):
        if count and after >= wanted:
            return round(low + (high - low) * (wanted - before) / count)
        before = after
    return BOUNDS_MS[-1]
