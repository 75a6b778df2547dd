"""What a call costs: billable units, dated prices, and the one formula."""

from __future__ import annotations

import bisect
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from billing.money import nano_from_pico
from billing.tiers import Tier

UNITS = (
    "input", "output", "reasoning", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "audio_output",
    "audio_cache_read", "image_input", "image_cache_read", "image_output", "images", "pages", "seconds", "characters",
    "requests", "searches",
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
    "image_cache_read": "cache_read",
    "image_output": "output",
}
"""A unit without a price of its own costs what vendors charge where they make no difference."""


INPUT_TOKENS = (
    "input", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "audio_cache_read", "image_input",
    "image_cache_read",
)  # fmt: skip
"""What a token of the input may turn out to be: nobody knows beforehand what a provider will cache."""

OUTPUT_TOKENS = ("output", "reasoning", "audio_output", "image_output")
"""What a token of the answer may turn out to be."""

TIER = "tier"
"""Stands among a usage row's units, though it is none: the place, from 1, of the price's tier that the call was charged
by. So the row's units and its price version are all that its cost is computed from."""


class Dearest(NamedTuple):
    """The most that a call may come to, in pico-USD: a token in, a token out, and the call itself."""

    input: int
    output: int
    request: int


def rate_in(rates: Mapping[str, int], unit: str) -> int:
    """Pico-USD for one unit; 0 for a unit that has no price."""
    name: str | None = unit
    while name is not None:
        if name in rates:
            return rates[name]
        name = PRICED_AS.get(name)
    return 0


@dataclass(frozen=True)
class PriceVersion:
    """A model's prices from a moment on: pico-USD by unit, and the tiers in which others hold, the first choice first.

    Of the tiers that apply to a call the first wins, for the whole call. The rates it names replace the base rates.
    """

    price_id: int
    valid_from: dt.datetime
    rates: Mapping[str, int]
    tiers: tuple[Tier, ...] = ()

    def rates_at(self, tier: int) -> Mapping[str, int]:
        """The rates of a tier by its place, from 1, or the base rates at 0."""
        return self._tables[tier]

    def rate(self, unit: str, tier: int = 0) -> int:
        """Pico-USD for one unit in a tier; 0 for a unit this model has no price for."""
        return rate_in(self._tables[tier] if tier else self.rates, unit)

    def cost_nano_usd(self, units: Mapping[str, int]) -> int:
        """Price disjoint units, in the tier that they name, rounded once, half up."""
        return nano_from_pico(self.cost_pico_usd(units))

    def cost_pico_usd(self, units: Mapping[str, int]) -> int:
        """The same before it is rounded, for a cost that is to be shared out."""
        rates = self._tables[units.get(TIER, 0)] if self.tiers else self.rates
        return sum(rate_in(rates, unit) * count for unit, count in units.items())

    def most_pico_usd(self, units: Mapping[str, int]) -> int:
        """The most that these units cost in any tier, in pico-USD."""
        return sum(count * max(rate_in(rates, unit) for rates in self._tables) for unit, count in units.items())

    def is_by_tokens(self) -> bool:
        """Whether any token has a price."""
        return any(rate_in(rates, unit) for rates in self._tables for unit in (*INPUT_TOKENS, *OUTPUT_TOKENS))

    def tier_for(self, input_tokens: int, *, service_tier: str, moment: dt.datetime) -> int:
        """The place of the tier that a call is charged by, 0 for none: by every token it read, cached or not, by the
        service tier it was served in, and by when its attempt began."""
        served = service_tier.lower()
        for place, tier in enumerate(self.tiers, start=1):
            if tier.applies(input_tokens, service_tier=served, moment=moment):
                return place
        return 0

    def dearest(self, input_bound: int, *, service_tier: str, moment: dt.datetime) -> Dearest:
        """The rates that no call exceeds which reads at most so many tokens, asked for this service tier ("" for none)
        and begins at this moment. A provider serves what was asked for, or its standard."""
        if not self.tiers:
            return self._bounds[0]
        asked = service_tier.lower()
        found = []
        for place, tier in enumerate(self.tiers, start=1):
            if tier.may_apply(input_bound, asked=asked, moment=moment):
                found.append(self._bounds[place])
                if tier.is_certain:
                    break
        else:
            found.append(self._bounds[0])
        return Dearest(*(max(rates) for rates in zip(*found, strict=True)))

    @cached_property
    def _tables(self) -> tuple[Mapping[str, int], ...]:
        return (self.rates, *({**self.rates, **tier.rates} for tier in self.tiers))

    @cached_property
    def _bounds(self) -> tuple[Dearest, ...]:
        return tuple(
            Dearest(
                max(rate_in(rates, unit) for unit in INPUT_TOKENS),
                max(rate_in(rates, unit) for unit in OUTPUT_TOKENS),
                rate_in(rates, "requests"),
            )
            for rates in self._tables
        )


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
