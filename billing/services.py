"""Changes to prices."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from django.utils import timezone

from billing.errors import PriceError
from billing.models import Price
from billing.money import pico_from_usd_per_million
from billing.pricing import UNITS
from billing.selectors import price_holding
from billing.tiers import Tier, check_tiers, stored_tiers
from providers.models import Model
from tenants.models import Operator


def read_rates(usd_per_million: Mapping[str, str]) -> dict[str, int]:
    """Turn quoted prices (USD per million units) into pico-USD by unit. Raises `PriceError` naming the unit."""
    rates = {}
    for unit, text in usd_per_million.items():
        if unit not in UNITS:
            raise PriceError(f"{unit}: there is no such unit; the units are {', '.join(UNITS)}.")
        try:
            rates[unit] = pico_from_usd_per_million(str(text))
        except ValueError as error:
            raise PriceError(f"{unit}: {error}") from error
    return rates


def set_price(
    model: Model,
    rates: Mapping[str, int],
    *,
    tiers: Sequence[Tier] = (),
    valid_from: dt.datetime | None = None,
    by: Operator | None = None,
) -> Price | None:
    """Supersede a model's prices from a moment on (now); None when these are what already holds then.

    Raises `PriceError` for tiers that cannot be meant.
    """
    check_tiers(tiers)
    moment = valid_from or timezone.now()
    if not changes_price(model, rates, tiers=tiers, moment=moment):
        return None
    stored = [tier.as_json() for tier in tiers]
    return Price.objects.create(model=model, valid_from=moment, rates=dict(rates), tiers=stored, created_by=by)


def changes_price(model: Model, rates: Mapping[str, int], *, tiers: Sequence[Tier], moment: dt.datetime) -> bool:
    """Whether these are other prices than those that hold at a moment."""
    current = price_holding(model.pk, moment)
    return current is None or current.rates != dict(rates) or stored_tiers(current.tiers) != tuple(tiers)
