"""How a budget stands, and when its money ends at the pace so far."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from billing.money import NANO_PER_USD, nano_from_usd
from billing.standings import Standing

MONDAY = dt.datetime(2026, 11, 2, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def standing(**changed: Any) -> Standing:
    given = {
        "subject": "",
        "limit_nano_usd": 100 * NANO_PER_USD,
        "spent_nano_usd": 0,
        "reserved_nano_usd": 0,
        "starts_at": MONDAY,
        "ends_at": MONDAY + 10 * DAY,
        "counted_from": MONDAY,
    }
    return Standing(**{**given, **changed})


def test_a_pace_that_lasts_and_one_that_does_not() -> None:
    after_two_days = MONDAY + 2 * DAY
    assert standing(spent_nano_usd=40 * NANO_PER_USD).exhausted_at(after_two_days) == MONDAY + 5 * DAY
    assert standing(spent_nano_usd=20 * NANO_PER_USD).exhausted_at(after_two_days) is None, "just lasts"
    assert standing(spent_nano_usd=20 * NANO_PER_USD + 1).exhausted_at(after_two_days) is not None
    assert standing().exhausted_at(after_two_days) is None
    assert standing(spent_nano_usd=100 * NANO_PER_USD).exhausted_at(after_two_days) == after_two_days


def test_the_pace_is_that_of_the_time_a_budget_has_counted() -> None:
    made_late = standing(spent_nano_usd=40 * NANO_PER_USD, counted_from=MONDAY + DAY)
    assert made_late.exhausted_at(MONDAY + 2 * DAY) == MONDAY + 3 * DAY + DAY / 2
    assert made_late.exhausted_at(MONDAY + DAY) is not None, "all at once is still a pace"


@pytest.mark.parametrize("limit", [1, 10_000_000 * NANO_PER_USD])
def test_no_amount_overflows(limit: int) -> None:
    for spent in (0, 1, limit // 2, limit - 1, limit, 2 * limit):
        for ends_at in (None, MONDAY + DAY):
            now = MONDAY + dt.timedelta(microseconds=1)
            found = standing(limit_nano_usd=limit, spent_nano_usd=spent, ends_at=ends_at).exhausted_at(now)
            assert found is None or found >= now


def test_a_limit_below_its_use_leaves_nothing() -> None:
    lowered = standing(limit_nano_usd=NANO_PER_USD, spent_nano_usd=3 * NANO_PER_USD, reserved_nano_usd=NANO_PER_USD)
    assert (lowered.remaining_nano_usd, lowered.percent) == (0, 300)
    assert standing(limit_nano_usd=0).percent == 100
    assert standing(spent_nano_usd=100 * NANO_PER_USD - 1).percent == 99, "100 says that it is all gone"


@pytest.mark.parametrize(
    "text", ["-1", "NaN", "sNaN", "Infinity", "", "ten", "1,5", "10000000.01", "0.0000000001", "1e400"]
)
def test_amounts_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"amount|beyond|finer"):
        nano_from_usd(text)


def test_amounts_are_exact() -> None:
    assert nano_from_usd("0.000000001") == 1
    assert nano_from_usd("9999999.999999999") == 9_999_999_999_999_999
    with pytest.raises(ValueError, match="finer"):
        nano_from_usd("0.10000000000000000000000000000000000001")
