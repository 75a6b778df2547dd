"""What requests of some sizes cost at a price: for a look before it is set, and for anyone who plans."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from billing.money import usd
from billing.pricing import TIER, PriceVersion
from billing.tiers import Tier


class Sample(NamedTuple):
    """A request, by what it uses in disjoint units."""

    label: str
    units: Mapping[str, int]

    @property
    def input_tokens(self) -> int:
        """Every token read, cached or not."""
        return sum(self.units.get(unit, 0) for unit in ("input", "cache_read", "cache_write_5m", "cache_write_1h"))


SAMPLES = (
    Sample("1,000 in, 500 out", {"input": 1_000, "output": 500}),
    Sample("100,000 in, 2,000 out", {"input": 100_000, "output": 2_000}),
    Sample("100,000 in, 90,000 of them cached, 2,000 out", {"input": 10_000, "cache_read": 90_000, "output": 2_000}),
    Sample("300,000 in, 2,000 out", {"input": 300_000, "output": 2_000}),
)


class SampleCost(NamedTuple):
    """What a sample costs in USD, in one tier or at the base prices."""

    sample: str
    tier: str
    cost: str
    cost_now: str
    """At the price that holds, for a request of the same size, service tier and time; empty without one."""


def sample_costs(
    price: PriceVersion, *, now: PriceVersion | None = None, samples: Sequence[Sample] = SAMPLES
) -> list[SampleCost]:
    """Each sample at the base prices and in each tier, as far as a request of its size may be charged so."""
    return [
        SampleCost(
            sample.label,
            f"{tier.name}: {tier.condition()}" if tier else "base prices",
            usd(cost_in(price, sample.units, tier=place)),
            usd(_cost_now(now, sample, tier=tier, price=price)) if now is not None else "",
        )
        for sample in samples
        for place in _places(price, sample)
        for tier in [price.tiers[place - 1] if place else None]
    ]


def _cost_now(now: PriceVersion, sample: Sample, *, tier: Tier | None, price: PriceVersion) -> int:
    moment = price.valid_from.astimezone(dt.UTC)
    if tier is not None and tier.utc is not None:
        moment = moment.replace(hour=tier.utc.start // 60, minute=tier.utc.start % 60)
    service = tier.service_tier if tier is not None else ""
    place = now.tier_for(sample.input_tokens, service_tier=service, moment=moment)
    return cost_in(now, sample.units, tier=place)


def cost_in(price: PriceVersion, units: Mapping[str, int], *, tier: int) -> int:
    """Nano-USD for one request in a tier, by its place, with the fee for the request itself."""
    return price.cost_nano_usd({"requests": 1, **units, TIER: tier})


def _places(price: PriceVersion, sample: Sample) -> list[int]:
    """The tiers that a request of this size may be charged in, 0 for none: those that no earlier one always beats."""
    open_to_it = [
        (place, replace(tier, above_input_tokens=None))
        for place, tier in enumerate(price.tiers, start=1)
        if tier.above_input_tokens is None or sample.input_tokens > tier.above_input_tokens
    ]
    found = [
        place
        for index, (place, tier) in enumerate(open_to_it)
        if not any(earlier.covers(tier) for _, earlier in open_to_it[:index])
    ]
    always = any(not tier.conditions() for _, tier in open_to_it)
    return found if always else [0, *found]
