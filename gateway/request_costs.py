"""How sure a cost is: what a provider reported, what was reckoned here, and what nobody knows. Never one figure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from billing.models import UsageRecord, UsageSource
from billing.money import usd


class Certainty(StrEnum):
    """Of one charge."""

    KNOWN = "known"
    ESTIMATED = "estimated"
    UNKNOWN = "unknown"


KNOWN_SOURCES = frozenset({UsageSource.PROVIDER_FINAL.value, UsageSource.CACHE.value})


def certainty_of(charge: UsageRecord) -> Certainty:
    """Unknown without a price or without figures, estimated where the provider did not report the end of it."""
    if charge.price_id is None or charge.usage_source == UsageSource.UNKNOWN:
        return Certainty.UNKNOWN
    return Certainty.KNOWN if charge.usage_source in KNOWN_SOURCES else Certainty.ESTIMATED


@dataclass(frozen=True, slots=True)
class CostParts:
    """What some charges come to, in nano-USD, apart by how sure it is; adjustments are known."""

    known_nano_usd: int = 0
    estimated_nano_usd: int = 0
    unknown: int = 0
    """How many charges have no cost that anybody knows: not nothing, unknown."""
    charges: int = 0

    def as_text(self) -> str:
        """In words, such as "0.00045 known, 0.1 estimated, 1 unknown"."""
        parts = []
        if self.known_nano_usd or not (self.estimated_nano_usd or self.unknown):
            parts.append(f"{usd(self.known_nano_usd)} known")
        if self.estimated_nano_usd:
            parts.append(f"{usd(self.estimated_nano_usd)} estimated")
        if self.unknown:
            parts.append(f"{self.unknown} unknown")
        return ", ".join(parts)


def parts_of(charges: Iterable[UsageRecord], *, adjusted_nano_usd: int = 0) -> CostParts:
    """Add up charges."""
    known, estimated, unknown, count = adjusted_nano_usd, 0, 0, 0
    for charge in charges:
        count += 1
        match certainty_of(charge):
            case Certainty.KNOWN:
                known += charge.cost_nano_usd
            case Certainty.ESTIMATED:
                estimated += charge.cost_nano_usd
            case Certainty.UNKNOWN:
                unknown += 1
    return CostParts(known, estimated, unknown, count)
