"""Prices and the formula, against exact fractions."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from fractions import Fraction

import pytest
from django.db import ProgrammingError, transaction
from hypothesis import given
from hypothesis import strategies as st

from billing.errors import PriceError
from billing.models import Price
from billing.money import pico_from_usd_per_million, usd, usd_per_million
from billing.pricing import PRICED_AS, UNITS, PriceList, PriceVersion
from billing.services import read_rates, set_price
from tests import factories

NOON = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
rates = st.dictionaries(st.sampled_from(UNITS), st.integers(0, 10**11))
amounts = st.dictionaries(st.sampled_from(UNITS), st.integers(0, 10**9))


def price_of(unit: str, known: dict[str, int]) -> int:
    while unit not in known and unit in PRICED_AS:
        unit = PRICED_AS[unit]
    return known.get(unit, 0)


@given(rates, amounts)
def test_cost_is_the_exact_sum_rounded_half_up_once(known: dict[str, int], units: dict[str, int]) -> None:
    exact = sum((Fraction(price_of(unit, known) * count, 1000) for unit, count in units.items()), Fraction())
    assert PriceVersion(1, NOON, known).cost_nano_usd(units) == int(exact + Fraction(1, 2))


@given(st.decimals(min_value=0, max_value=100_000, places=6))
def test_prices_survive_being_written_and_read(price: Decimal) -> None:
    assert Decimal(usd_per_million(pico_from_usd_per_million(str(price)))) == price


@pytest.mark.parametrize("text", ["", "free", "-1", "NaN", "Infinity", "1e9", "0.00000001", "100000.01", "0,15"])
def test_prices_that_cannot_be_meant(text: str) -> None:
    with pytest.raises(ValueError, match=r"USD|price"):
        pico_from_usd_per_million(text)


def test_a_wrong_price_names_its_unit() -> None:
    with pytest.raises(PriceError, match=r"^output: "):
        read_rates({"input": "1", "output": "-1"})
    with pytest.raises(PriceError, match=r"^tokens: there is no such unit"):
        read_rates({"tokens": "1"})


def test_usd_has_every_digit_and_no_more() -> None:
    assert [usd(nano) for nano in (0, 1, 69_750, 10**9, 1_500_000_000)] == [
        "0",
        "0.000000001",
        "0.00006975",
        "1",
        "1.5",
    ]


def test_the_price_that_holds_is_the_last_begun() -> None:
    early, late = PriceVersion(1, NOON, {"input": 1}), PriceVersion(2, NOON + HOUR, {"input": 2})
    prices = PriceList({7: [late, early]})
    assert prices.at(7, NOON - HOUR) is None
    assert prices.at(7, NOON) is early
    assert prices.at(7, NOON + HOUR - dt.timedelta.resolution) is early
    assert prices.at(7, NOON + HOUR) is late
    assert prices.at(8, NOON) is None


@pytest.mark.django_db
def test_a_price_is_superseded_never_edited() -> None:
    model = factories.make_model(prices={"input": "1"})
    assert set_price(model, read_rates({"input": "1"})) is None, "the same again is no new version"
    assert set_price(model, read_rates({"input": "2"})) is not None
    assert [price.usd_per_million() for price in model.prices.order_by("pk")] == [{"input": "1"}, {"input": "2"}]
    for change in (lambda: Price.objects.update(rates={}), lambda: Price.objects.all().delete()):
        with pytest.raises(ProgrammingError, match="only grows"), transaction.atomic():
            change()
