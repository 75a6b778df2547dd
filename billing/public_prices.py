"""What the `genai-prices` package says models cost, in this catalogue's units. It has its data inside: no network."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

import genai_prices
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices, TimeOfDateConstraint

from billing.money import PICO_PER_USD_PER_MILLION
from billing.tiers import DAY_MINUTES, STANDARD_SERVICE, Tier, Window

SOURCE = "genai-prices"
VERSION = genai_prices.__version__

MILLION = 1_000_000
CARRIED = {
    "input_mtok": ("input", MILLION),
    "output_mtok": ("output", MILLION),
    "cache_read_mtok": ("cache_read", MILLION),
    "cache_write_mtok": ("cache_write_5m", MILLION),
    "cache_write_5m_mtok": ("cache_write_5m", MILLION),
    "cache_write_1h_mtok": ("cache_write_1h", MILLION),
    "output_reasoning_mtok": ("reasoning", MILLION),
    "input_audio_mtok": ("audio_input", MILLION),
    "output_audio_mtok": ("audio_output", MILLION),
    "cache_audio_read_mtok": ("audio_cache_read", MILLION),
    "input_image_mtok": ("image_input", MILLION),
    "output_image_mtok": ("image_output", MILLION),
    "input_mchars": ("characters", MILLION),
    "audio_hours": ("seconds", 3600),
    "input_audio_hours": ("seconds", 3600),
    "input_document_kpages": ("pages", 1000),
    "web_searches_kcount": ("searches", 1000),
    "requests_kcount": ("requests", 1000),
}
"""Their price keys as our units, with how many units their price is for: mind the thousands and the hours."""

TimeOfDay = Window | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model is served: a provider's kind, its base URL, and what it calls the model."""

    kind: str
    base_url: str
    upstream_model: str


@dataclass(frozen=True, slots=True)
class PublicPrice:
    """A public price: pico-USD by unit and tiers as ours, whose it is, and the keys we have no unit for."""

    name: str
    rates: Mapping[str, int]
    tiers: tuple[Tier, ...]
    left_out: tuple[str, ...]


def public_price(places: Iterable[Place], moment: dt.datetime) -> PublicPrice | None:
    """The price at the first of these places that the package knows; None when it knows none."""
    for place in places:
        provider = _provider(place)
        model = provider.find_model(place.upstream_model, all_providers=get_snapshot().providers) if provider else None
        if provider is not None and model is not None:
            found = _translate(f"{provider.id}/{model.id}", model, moment=moment)
            if found.rates:
                return found
    return None


def _provider(place: Place) -> Provider | None:
    """By address, then by kind. A server of one's own that speaks a vendor's protocol is not that vendor."""
    providers = get_snapshot().providers
    by_address = (provider for provider in providers if re.match(provider.api_pattern, place.base_url))
    return next(by_address, None) or next((provider for provider in providers if provider.id == place.kind), None)


def _translate(name: str, model: ModelInfo, *, moment: dt.datetime) -> PublicPrice:
    by_time = _by_time_of_day(model, moment)
    base = _rates(by_time[None], input_tokens=0)
    left_out = {key for key, price in by_time[None].__dict__.items() if price is not None and key not in CARRIED}
    tiers = [
        tier
        for window, standard in by_time.items()
        for service in (*_service_tiers(model), "")
        for tier in _tiers_of(model, standard, base=base, window=window, service=service, moment=moment)
    ]
    tiers.sort(key=lambda tier: (tier.utc is None, not tier.service_tier))
    return PublicPrice(name, base, tuple(tiers), tuple(sorted(left_out)))


def _by_time_of_day(model: ModelInfo, moment: dt.datetime) -> dict[TimeOfDay, ModelPrice]:
    """The prices that hold now by time of day, None for the rest of the day. Of those active the last counts."""
    if isinstance(model.prices, ModelPrice):
        return {None: model.prices}
    found: dict[TimeOfDay, ModelPrice] = {}
    for conditional in reversed(model.prices):
        constraint = conditional.constraint
        if isinstance(constraint, TimeOfDateConstraint):
            found.setdefault(_window(constraint), conditional.prices)
        elif constraint is None or constraint.active(moment):
            return {**found, None: conditional.prices}
    return {**found, None: model.prices[0].prices}


def _window(constraint: TimeOfDateConstraint) -> Window:
    start, end = (
        int((time.hour * 60 + time.minute) - _offset_minutes(time)) % DAY_MINUTES
        for time in (constraint.start_time, constraint.end_time)
    )
    return Window(start, end)


def _offset_minutes(time: dt.time) -> float:
    offset = time.utcoffset()
    return offset.total_seconds() / 60 if offset is not None else 0


def _service_tiers(model: ModelInfo) -> list[str]:
    """The service tiers with prices of their own; a batch is one of them here."""
    names = (_service_of(variant.when) for variant in model.price_variants or ())
    return list(dict.fromkeys(name for name in names if name not in STANDARD_SERVICE))


def _service_of(when: Mapping[str, str]) -> str:
    """The service tier that a variant is for; empty for variants by something else, which we do not tell apart."""
    [(key, value), *others] = when.items()
    return value if not others and key in ("service_tier", "processing") else ""


def _tiers_of(
    model: ModelInfo, standard: ModelPrice, *, base: Mapping[str, int], window: TimeOfDay, service: str,
    moment: dt.datetime,
) -> list[Tier]:  # fmt: skip
    """The tiers of a time of day and a service tier, the longest context first; none where nothing differs."""
    resolved = _with_variants(model, standard, service=service, moment=moment)
    starts = {
        tier.start for price in resolved.__dict__.values() if isinstance(price, TieredPrices) for tier in price.tiers
    }
    is_base = window is None and not service
    tiers: list[Tier] = []
    below: Mapping[str, int] = base if is_base else {}
    for start in sorted(starts) if is_base else (None, *sorted(starts)):
        rates = _rates(resolved, input_tokens=0 if start is None else start + 1)
        if rates != below:
            changed = {unit: rate for unit, rate in rates.items() if base.get(unit) != rate}
            tiers.insert(0, _tier(changed or rates, above=start, service=service, window=window))
        below = rates
    return tiers


def _with_variants(model: ModelInfo, standard: ModelPrice, *, service: str, moment: dt.datetime) -> ModelPrice:
    """The standard prices with those of a service tier over them; of its variants the first that names a key wins."""
    special: dict[str, Decimal | TieredPrices | None] = {}
    for variant in model.price_variants or () if service else ():
        if _service_of(variant.when) == service and (variant.constraint is None or variant.constraint.active(moment)):
            for key, price in variant.prices.__dict__.items():
                if price is not None:
                    special.setdefault(key, price)
    return ModelPrice(**{**standard.__dict__, **special})


def _tier(rates: Mapping[str, int], *, above: int | None, service: str, window: TimeOfDay) -> Tier:
    words = (str(window) if window else "", service, f"above {above:,}" if above is not None else "")
    return Tier(
        name=" ".join(filter(None, words)),
        rates=rates,
        above_input_tokens=above,
        service_tier=service.lower(),
        utc=window,
    )


def _rates(price: ModelPrice, *, input_tokens: int) -> dict[str, int]:
    """Pico-USD by unit for a call that reads so many tokens."""
    rates: dict[str, int] = {}
    for key, value in price.__dict__.items():
        if value is not None and key in CARRIED:
            unit, per = CARRIED[key]
            usd = _at(value, input_tokens) if isinstance(value, TieredPrices) else value
            rates[unit] = int((usd * MILLION / per * PICO_PER_USD_PER_MILLION).to_integral_value())
    return rates


def _at(price: TieredPrices, input_tokens: int) -> Decimal:
    """The whole call is charged at the rate of the last threshold that it is above."""
    crossed = [tier.price for tier in price.tiers if input_tokens > tier.start]
    return crossed[-1] if crossed else price.base
