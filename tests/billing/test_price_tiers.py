"""Tiers: which one wins, what a call then costs, and that no call exceeds what is held for it."""

from __future__ import annotations

import datetime as dt
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from billing.counting import charged_units
from billing.errors import PriceError
from billing.estimates import estimate
from billing.pricing import INPUT_TOKENS, OUTPUT_TOKENS, PRICED_AS, TIER, PriceVersion
from billing.tiers import DAY_MINUTES, Tier, Window, check_tiers, make_tier, stored_tiers
from providers.types import Usage

NOON = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
MIDNIGHT = NOON.replace(hour=0)
PRICED = (*INPUT_TOKENS, *OUTPUT_TOKENS, "requests")


def at(clock: str) -> dt.datetime:
    hour, minute = map(int, clock.split(":"))
    return NOON.replace(hour=hour, minute=minute)


def tier(name: str = "a", *, rates: dict[str, int] | None = None, **conditions: object) -> Tier:
    given_conditions = {"above_input_tokens": None, "service_tier": "", "utc": "", **conditions}
    return make_tier(name, rates=rates or {"input": 5}, **given_conditions)  # type: ignore[arg-type]


def price(*tiers: Tier, **rates: int) -> PriceVersion:
    return PriceVersion(1, NOON, rates or {"input": 1, "output": 2}, tiers)


def winner(version: PriceVersion, tokens: int = 1, service_tier: str = "", clock: str = "12:00") -> int:
    return version.tier_for(tokens, service_tier=service_tier, moment=at(clock))


# Which tier wins ---------------------------------------------------------------------------------------------------
def test_a_long_context_is_longer_than_its_threshold() -> None:
    version = price(tier(above_input_tokens=200_000))
    assert [winner(version, tokens) for tokens in (0, 200_000, 200_001)] == [0, 0, 1]


def test_a_service_tier_is_the_one_that_served() -> None:
    version = price(tier(service_tier="Flex"))
    assert [winner(version, service_tier=name) for name in ("", "auto", "default", "priority", "flex", "FLEX")] == [
        0, 0, 0, 0, 1, 1,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("clock", "wins"),
    [("16:29", 0), ("16:30", 1), ("23:59", 1), ("00:00", 1), ("00:29", 1), ("00:30", 0), ("12:00", 0)],
)
def test_a_window_may_cross_midnight(clock: str, wins: int) -> None:
    assert winner(price(tier(utc="16:30-00:30")), clock=clock) == wins


def test_a_window_is_in_utc_whatever_zone_the_moment_is_in() -> None:
    window = Window(16 * 60 + 30, 30)
    moment = dt.datetime(2026, 11, 22, 1, 0, tzinfo=dt.timezone(dt.timedelta(hours=8)))  # 17:00 UTC
    assert window.holds(moment)
    assert not window.holds(moment.replace(tzinfo=dt.UTC))


def test_all_conditions_of_a_tier_must_hold_and_the_first_tier_that_applies_wins() -> None:
    both = tier("both", above_input_tokens=100, service_tier="flex", rates={"input": 3})
    version = price(both, tier("long", above_input_tokens=100), tier("flex", service_tier="flex", rates={"output": 1}))
    assert winner(version, 101, "flex") == 1
    assert winner(version, 101) == 2
    assert winner(version, 100, "flex") == 3
    assert winner(version, 100) == 0
    assert version.cost_nano_usd({"input": 100_000, "output": 1_000, TIER: 1}) == 300 + 2, "output is the base's"
    assert version.cost_nano_usd({"input": 100_000, "output": 1_000, TIER: 3}) == 100 + 1, "input is the base's"


@given(st.integers(0, DAY_MINUTES - 1), st.integers(0, DAY_MINUTES - 1), st.integers(0, DAY_MINUTES - 1))
def test_a_window_is_its_minutes(start: int, end: int, minute: int) -> None:
    assume(start != end)
    inside = start <= minute < end if start < end else minute >= start or minute < end
    assert Window(start, end).holds(MIDNIGHT + dt.timedelta(minutes=minute, seconds=59)) == inside


minutes = st.integers(0, DAY_MINUTES - 1)
windows = st.builds(Window, minutes, minutes).filter(lambda window: window.length)


@given(windows, windows)
def test_a_window_contains_another_when_all_its_minutes_do(one: Window, other: Window) -> None:
    moments = [MIDNIGHT + dt.timedelta(minutes=minute) for minute in range(DAY_MINUTES)]
    assert one.contains(other) == all(one.holds(moment) for moment in moments if other.holds(moment))


# What is refused ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "give a condition"),
        ({"above_input_tokens": 0}, "number of tokens"),
        ({"above_input_tokens": -5}, "number of tokens"),
        ({"service_tier": "default"}, "charged at the base prices"),
        ({"service_tier": "auto"}, "charged at the base prices"),
        ({"utc": "16:30"}, "not a time of day"),
        ({"utc": "24:00-01:00"}, "not a time of day"),
        ({"utc": "08:00-08:00"}, "begins where it ends"),
        ({"name": " ", "utc": "08:00-09:00"}, "needs a name"),
        ({"name": "x" * 61, "utc": "08:00-09:00"}, "needs a name"),
    ],
)
def test_tiers_that_cannot_be_meant(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(PriceError, match=problem):
        tier(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"above_input_tokens": 100}, {"above_input_tokens": 200}),
        ({"above_input_tokens": 100}, {"above_input_tokens": 100, "service_tier": "flex"}),
        ({"utc": "16:30-00:30"}, {"utc": "23:00-00:10"}),
        ({"service_tier": "flex"}, {"service_tier": "FLEX", "utc": "01:00-02:00"}),
    ],
)
def test_a_tier_that_never_wins_is_refused_and_the_other_order_is_fine(
    first: dict[str, object], second: dict[str, object]
) -> None:
    one, other = tier("one", **first), tier("other", **second)  # type: ignore[arg-type]
    with pytest.raises(PriceError, match="can never win, because one stands before it"):
        check_tiers([one, other])
    check_tiers([other, one])
    with pytest.raises(PriceError, match="another tier has this name"):
        check_tiers([tier(utc="01:00-02:00"), tier(utc="03:00-04:00")])
    with pytest.raises(PriceError, match="at most 32"):
        check_tiers([tier(str(number), service_tier=f"s{number}") for number in range(33)])


def test_tiers_survive_being_stored() -> None:
    every = (
        tier("a", above_input_tokens=5, service_tier="flex", utc="16:30-00:30"), tier("b", utc="01:00-02:00"),
    )  # fmt: skip
    assert stored_tiers([one.as_json() for one in every]) == every
    assert every[0].condition() == "above 5 input tokens, service tier flex, 16:30-00:30 UTC"


# The formula against exact fractions, and the bound ----------------------------------------------------------------
rates = st.dictionaries(st.sampled_from(PRICED), st.integers(0, 10**9), min_size=1)
services = st.sampled_from(["flex", "priority", "batch"])
tiers = st.builds(
    Tier,
    name=st.just("t"),
    rates=rates,
    above_input_tokens=st.none() | st.integers(1, 3000),
    service_tier=st.just("") | services,
    utc=st.none() | windows,
)
versions = st.builds(PriceVersion, st.just(1), st.just(NOON), rates, st.lists(tiers, max_size=4).map(tuple))
moments = minutes.map(lambda minute: MIDNIGHT + dt.timedelta(minutes=minute))


def looked_up(unit: str, known: dict[str, int]) -> int:
    while unit not in known and unit in PRICED_AS:
        unit = PRICED_AS[unit]
    return known.get(unit, 0)


@st.composite
def usages(draw: st.DrawFn, *, most_input: int, most_output: int) -> Usage:
    """Any split of some tokens over the units they may be."""
    units: dict[str, int] = {}
    totals = []
    for names, most in ((INPUT_TOKENS, most_input), (OUTPUT_TOKENS, most_output)):
        total = left = draw(st.integers(0, most))
        for name in draw(st.permutations(names)):
            units[name] = draw(st.integers(0, left))
            left -= units[name]
        totals.append(total - left)
    return Usage(units=units, input_tokens=totals[0], output_tokens=totals[1])


@given(versions, usages(most_input=5000, most_output=5000), services | st.just(""), moments)
def test_a_charge_is_the_exact_sum_rounded_half_up_once(
    version: PriceVersion, usage: Usage, served: str, moment: dt.datetime
) -> None:
    units = charged_units(usage, version, service_tier=served, moment=moment)
    holding = [
        one for one in version.tiers
        if (one.above_input_tokens is None or usage.input_tokens > one.above_input_tokens)
        and one.service_tier in ("", served) and (one.utc is None or one.utc.holds(moment))
    ]  # fmt: skip
    known = {**version.rates, **(holding[0].rates if holding else {})}
    exact = sum((Fraction(looked_up(unit, known) * count, 1000) for unit, count in usage.units.items()), Fraction())
    exact += Fraction(looked_up("requests", known), 1000)
    assert version.cost_nano_usd(units) == int(exact + Fraction(1, 2))
    assert units.get("requests", 0) == (1 if looked_up("requests", known) else 0), "the call counts once"


@given(
    versions, st.data(), st.integers(0, 4000), st.integers(0, 4000), st.integers(1, 5),
    services | st.sampled_from(["", "auto", "default"]), moments,
)  # fmt: skip
def test_no_call_costs_more_than_was_held_for_it(
    version: PriceVersion, data: st.DataObject, most_input: int, most_output: int, choices: int, asked: str,
    moment: dt.datetime,
) -> None:  # fmt: skip
    bound = estimate(
        version.dearest(most_input, service_tier=asked, moment=moment),
        input_tokens=most_input,
        max_output_tokens=most_output,
        choices=choices,
        may_shrink=False,
    )
    held = bound.fixed_nano_usd - (-bound.output_pico_usd * bound.max_output_tokens // 1000)
    usage = data.draw(usages(most_input=most_input, most_output=most_output * choices))
    served = data.draw(services) if asked in ("", "auto") else data.draw(st.sampled_from(["", "default", asked]))
    usage = Usage(**{**{name: getattr(usage, name) for name in usage.__struct_fields__}, "service_tier": served})
    units = charged_units(usage, version, service_tier=asked, moment=moment)
    assert version.cost_nano_usd(units) <= held


@given(versions, usages(most_input=5000, most_output=5000), st.sampled_from(PRICED), moments)
def test_more_of_a_unit_never_costs_less(version: PriceVersion, usage: Usage, unit: str, moment: dt.datetime) -> None:
    units = charged_units(usage, version, service_tier="", moment=moment)
    assert version.cost_nano_usd({**units, unit: units.get(unit, 0) + 1}) >= version.cost_nano_usd(units)


def test_what_is_held_is_the_dearest_that_may_come() -> None:
    version = price(
        tier("long", above_input_tokens=1000, rates={"input": 4}),
        tier("priority", service_tier="priority", rates={"input": 3}),
        tier("flex", service_tier="flex", rates={"input": 2}),
        tier("night", utc="16:30-00:30", rates={"output": 1}),
        input=1,
        output=2,
    )

    def dearest(tokens: int, asked: str = "default", clock: str = "12:00") -> tuple[int, int]:
        found = version.dearest(tokens, service_tier=asked, moment=at(clock))
        return found.input, found.output

    assert dearest(1000) == (1, 2)
    assert dearest(1001) == (4, 2)
    assert dearest(1000, "flex") == (2, 2)
    assert dearest(1000, "auto") == dearest(1000, "") == (3, 2)
    assert dearest(1000, clock="20:00") == (1, 1), "the night is certain, so the day's price cannot come"


def test_a_price_without_tiers_asks_for_nothing_more() -> None:
    version = price(input=1, output=2, requests=7)
    assert version.dearest(10**6, service_tier="flex", moment=NOON) is version.dearest(1, service_tier="", moment=NOON)
    assert charged_units(
        Usage(units={}, input_tokens=9**9, output_tokens=0), version, service_tier="flex", moment=NOON
    ) == {"requests": 1}
