"""A model's prices in the configuration file: `prices`, `price_tiers` and `confirm_prices`."""

from __future__ import annotations

from django.utils import timezone

from billing.errors import PriceError
from billing.models import Price
from billing.price_doubts import find_doubts
from billing.price_imports import known_prices, known_public
from billing.pricing import UNITS
from billing.services import changes_price, read_rates, set_price
from billing.tiers import Tier, check_tiers, make_tier
from gateway.configuration.document import PricesEntry
from gateway.configuration.errors import ConfigurationError
from gateway.configuration.source import Entry, Value
from providers.models import Model


def read_prices(model: Entry) -> PricesEntry | None:
    """What a model's entry says about its prices; None when it says nothing."""
    prices, tiers, confirmed = (model.get(key) for key in ("prices", "price_tiers", "confirm_prices"))
    if prices is None:
        for alone in filter(None, (tiers, confirmed)):
            raise alone.refuse("this goes with prices: give the model's base prices too.")
        return None
    return PricesEntry(
        source=model,
        rates=_rates(prices),
        tiers=_tiers(tiers) if tiers is not None else (),
        confirmed=frozenset(item.choice(UNITS) for item in confirmed.items()) if confirmed else frozenset(),
    )


def apply_prices(model: Model, entry: PricesEntry) -> bool:
    """Supersede the model's price where the file's is another; whether it was. Refuses one typed in another unit."""
    now = timezone.now()
    if not changes_price(model, entry.rates, tiers=entry.tiers, moment=now):
        return False
    for doubt in find_doubts(entry.rates, tiers=entry.tiers, known=known_prices(model, now)):
        if doubt.unit not in entry.confirmed:
            raise ConfigurationError(
                f"{doubt.question} If it is meant, add confirm_prices: [{doubt.unit}] to the model.",
                entry.source.place_of("prices"),
            )
    return set_price(model, entry.rates, tiers=entry.tiers, valid_from=now) is not None


def doubtful_units(model: Model, price: Price) -> list[str]:
    """The units that `confirm_prices` has to name for this price to be applied where nothing else is known."""
    version, known = price.version, known_public(model, timezone.now())
    return sorted({doubt.unit for doubt in find_doubts(version.rates, tiers=version.tiers, known=known)})


def _rates(prices: Value) -> dict[str, int]:
    rates: dict[str, int] = {}
    for unit, value in Entry(prices, UNITS).members.items():
        try:
            rates |= read_rates({unit: value.text()})
        except PriceError as error:
            raise value.refuse(str(error).removeprefix(f"{unit}: ")) from error
    if not rates:
        raise prices.refuse("name at least one unit, or leave the prices out.")
    return rates


def _tiers(value: Value) -> tuple[Tier, ...]:
    tiers: list[Tier] = []
    for item in value.items():
        try:
            tiers.append(_tier(item))
            check_tiers(tiers)
        except PriceError as error:
            raise item.refuse(str(error)) from error
    return tuple(tiers)


def _tier(value: Value) -> Tier:
    entry = Entry(value, ("name", "above_input_tokens", "service_tier", "utc", "prices"))
    return make_tier(
        entry.need("name").text(),
        rates=_rates(entry.need("prices")),
        above_input_tokens=entry.whole_number("above_input_tokens"),
        service_tier=entry.text("service_tier"),
        utc=entry.text("utc"),
    )
