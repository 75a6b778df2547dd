"""What a call costs: billable units, dated prices, and the one formula."""

from __future__ import annotations

import bisect
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from billing.money import nano_from_pico

UNITS = (
    "input", "output", "reasoning", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "audio_output",
    "audio_cache_read", "image_input", "image_output", "images", "pages", "seconds", "characters", "requests",
    "searches",
)  # fmt: skip
"""The vocabulary of billable units; adapters report usage in these, disjointly."""

PRICED_AS = {
    "reasoning": "output",
    "cache_read": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "cache_write_5m",
    "audio_input": "input",
    "audio_output": "output",
    "audio_cache_read": "cache_read",
    "image_input": "input",
    "image_output": "output",
}
"""A unit without a price of its own costs what vendors charge where they make no difference."""


@dataclass(frozen=True, slots=True)
class PriceVersion:
    """A model's prices from a moment on: pico-USD by unit."""

    price_id: int
    valid_from: dt.datetime
    rates: Mapping[str, int]

    def rate(self, unit: str) -> int:
        """Pico-USD for one unit; 0 for a unit this model has no price for."""
        name: str | None = unit
        while name is not None:
            if name in self.rates:
                return self.rates[name]
            name = PRICED_AS.get(name)
        return 0

    def cost_nano_usd(self, units: Mapping[str, int]) -> int:
        """Price disjoint units, rounded once, half up."""
        return nano_from_pico(sum(self.rate(unit) * count for unit, count in units.items()))


class PriceList:
    """Every model's price versions, found by model and moment."""

    def __init__(self, versions: Mapping[int, list[PriceVersion]]) -> None:
        self._versions = {
            model_id: sorted(found, key=lambda version: version.valid_from) for model_id, found in versions.items()
        }

    def at(self, model_id: int, moment: dt.datetime) -> PriceVersion | None:
        """The price of a model at a moment; None when it has none yet."""
        versions = self._versions.get(model_id)
        if not versions:
            return None
        index = bisect.bisect_right(versions, moment, key=lambda version: version.valid_from)
        return versions[index - 1] if index else None
