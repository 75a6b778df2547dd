"""Prices that hold under a condition: a long context, a service tier, a time of day."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from billing.errors import PriceError

MOST_TIERS = 32
LONGEST_NAME = 60
DAY_MINUTES = 24 * 60

STANDARD_SERVICE = frozenset({"", "auto", "default", "standard", "standard_only"})
"""What vendors call the service that is no special one: it costs the base rates."""
UNKNOWN_SERVICE = frozenset({"", "auto"})
"""Asked like this, a provider chooses itself."""

_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Window:
    """A time of day in UTC, in minutes since midnight, the end excluded; it may cross midnight."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return (self.end - self.start) % DAY_MINUTES

    def holds(self, moment: dt.datetime) -> bool:
        """Whether a moment, with its time zone, lies within."""
        moment = moment.astimezone(dt.UTC)
        return (moment.hour * 60 + moment.minute - self.start) % DAY_MINUTES < self.length

    def contains(self, other: Window) -> bool:
        return (other.start - self.start) % DAY_MINUTES + other.length <= self.length

    def __str__(self) -> str:
        return f"{self.start // 60:02}:{self.start % 60:02}-{self.end // 60:02}:{self.end % 60:02}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Rates (pico-USD by unit) that replace the base rates of a whole call when every condition given holds."""

    name: str
    rates: Mapping[str, int]
    above_input_tokens: int | None = None
    """More tokens in than this, cached ones included."""
    service_tier: str = ""
    utc: Window | None = None

    def applies(self, input_tokens: int, *, service_tier: str, moment: dt.datetime) -> bool:
        """Whether a call meets it that has read so much, was served so (in lower case), and began then."""
        return (
            (self.above_input_tokens is None or input_tokens > self.above_input_tokens)
            and (not self.service_tier or self.service_tier == service_tier)
            and (self.utc is None or self.utc.holds(moment))
        )

    def may_apply(self, input_bound: int, *, asked: str, moment: dt.datetime) -> bool:
        """Whether a call may come to meet it that reads at most so much and asked for this service tier."""
        served = self.service_tier if asked in UNKNOWN_SERVICE else asked
        return self.applies(input_bound, service_tier=served, moment=moment)

    @property
    def is_certain(self) -> bool:
        """Whether nothing but the time decides, so that it is known beforehand whether it applies."""
        return self.above_input_tokens is None and not self.service_tier

    def covers(self, other: Tier) -> bool:
        """Whether this one applies wherever the other does."""
        least, others_least = self.above_input_tokens, other.above_input_tokens
        return (
            (least is None or (others_least is not None and others_least >= least))
            and (not self.service_tier or self.service_tier == other.service_tier)
            and (self.utc is None or (other.utc is not None and self.utc.contains(other.utc)))
        )

    def conditions(self) -> dict[str, Any]:
        """What must hold, as it is stored and quoted."""
        found = {
            "above_input_tokens": self.above_input_tokens,
            "service_tier": self.service_tier or None,
            "utc": str(self.utc) if self.utc else None,
        }
        return {key: value for key, value in found.items() if value is not None}

    def condition(self) -> str:
        """The same in words."""
        tokens = f"above {self.above_input_tokens:,} input tokens" if self.above_input_tokens is not None else ""
        service = f"service tier {self.service_tier}" if self.service_tier else ""
        return ", ".join(filter(None, (tokens, service, f"{self.utc} UTC" if self.utc else "")))

    def as_json(self) -> dict[str, Any]:
        """As it is stored with its price."""
        return {"name": self.name, **self.conditions(), "rates": dict(self.rates)}


def stored_tiers(rows: Sequence[Mapping[str, Any]]) -> tuple[Tier, ...]:
    """The tiers of a price as they are stored: what was checked when it was written."""
    return tuple(
        Tier(
            name=row["name"],
            rates=row["rates"],
            above_input_tokens=row.get("above_input_tokens"),
            service_tier=row.get("service_tier", ""),
            utc=_window(row["utc"]) if row.get("utc") else None,
        )
        for row in rows
    )


def make_tier(
    name: str, *, rates: Mapping[str, int], above_input_tokens: int | None, service_tier: str, utc: str
) -> Tier:
    """A tier from what an operator wrote. Raises `PriceError`."""
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise PriceError(f"a tier needs a name of at most {LONGEST_NAME} characters.")
    if not rates:
        raise PriceError(f"tier {name}: name at least one price; those it does not name are the base prices.")
    if above_input_tokens is not None and not 0 < above_input_tokens <= 1_000_000_000:
        raise PriceError(f"tier {name}: above_input_tokens is a number of tokens, such as 200000.")
    served = service_tier.strip().lower()
    if service_tier and served in STANDARD_SERVICE:
        raise PriceError(f"tier {name}: the service tier {service_tier!r} is charged at the base prices.")
    tier = Tier(
        name=name.strip(),
        rates=rates,
        above_input_tokens=above_input_tokens,
        service_tier=served,
        utc=_window(utc) if utc else None,
    )
    if not tier.conditions():
        raise PriceError(f"tier {name}: give a condition: above_input_tokens, service_tier or utc.")
    return tier


def check_tiers(tiers: Sequence[Tier]) -> None:
    """Refuse what cannot be meant: too many, two of one name, one that can never win. Raises `PriceError`."""
    if len(tiers) > MOST_TIERS:
        raise PriceError(f"A price has at most {MOST_TIERS} tiers.")
    for place, tier in enumerate(tiers):
        for earlier in tiers[:place]:
            if earlier.name == tier.name:
                raise PriceError(f"tier {tier.name}: another tier has this name.")
            if earlier.covers(tier):
                raise PriceError(
                    f"tier {tier.name}: it can never win, because {earlier.name} stands before it and applies "
                    "whenever it does. The first tier that applies wins: put the narrower one first."
                )


def _window(text: str) -> Window:
    found = _WINDOW.fullmatch(text.replace(" ", ""))
    if found is None:
        raise PriceError(f"{text!r} is not a time of day; write it in UTC, such as 16:30-00:30.")
    start_hour, start_minute, end_hour, end_minute = map(int, found.groups())
    window = Window(start_hour * 60 + start_minute, end_hour * 60 + end_minute)
    if not window.length:
        raise PriceError(f"{text!r} begins where it ends; leave it out where all day is meant.")
    return window
