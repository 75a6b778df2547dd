"""Prices in a configuration file: tiers come back as written, and a figure typed in another unit is questioned."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from django.core.management import CommandError

from billing.models import Price
from tests.configuration.conftest import SMALL, Apply
from tests.configuration.test_export import exported

TIERS = [
    {"name": "long flex", "above_input_tokens": 200000, "service_tier": "flex", "prices": {"input": "0.2"}},
    {"name": "long", "above_input_tokens": 200000, "prices": {"input": "0.3", "output": "0.9"}},
    {"name": "off-peak", "utc": "16:30-00:30", "prices": {"output": "0.25"}},
]


def price_of(small: dict[str, Any], **prices: str) -> dict[str, Any]:
    small["models"][0]["prices"] = prices
    return small


def test_tiers_are_part_of_the_price(apply: Apply, small: dict[str, Any]) -> None:
    apply(SMALL)
    small["models"][0]["price_tiers"] = TIERS
    assert apply(small)["changed"] == ["model small: prices"]
    assert apply(small)["changed"] == [], "the same again is no new version"
    assert yaml.safe_load(exported())["models"][0]["price_tiers"] == TIERS
    assert apply(exported())["changed"] == []
    small["models"][0]["price_tiers"] = TIERS[1:]
    assert apply(small)["changed"] == ["model small: prices"], "what is left out is gone"
    assert [len(price.tiers) for price in Price.objects.order_by("valid_from")] == [0, 3, 2]


@pytest.mark.parametrize(
    ("unit", "figure", "question"),
    [
        ("input", "0.00015", "0.00015 looks like a price per thousand: did you mean 0.15 per million?"),
        ("output", "0.000001", "0.000001 looks like a price per token or unit: did you mean 1 per million?"),
        ("input", "150", "150 is about 1,000 times too much: did you mean 0.15 per million?"),
    ],
)
def test_a_price_in_another_unit_is_questioned(
    apply: Apply, small: dict[str, Any], unit: str, figure: str, question: str
) -> None:
    apply(SMALL)
    prices = {"input": "0.15", "output": "0.60", unit: figure}
    with pytest.raises(CommandError, match=r"models\[0\]\.prices") as refused:
        apply(price_of(small, **prices))
    assert question in str(refused.value)
    assert f"add confirm_prices: [{unit}]" in str(refused.value)
    assert Price.objects.count() == 1
    other = "output" if unit == "input" else "input"
    small["models"][0]["confirm_prices"] = [other]
    with pytest.raises(CommandError, match="confirm_prices"):
        apply(small)
    small["models"][0]["confirm_prices"] = [unit]
    assert apply(small)["changed"] == ["model small: prices"]
    assert apply(small)["changed"] == [], "what holds already is not questioned"


def test_ordinary_changes_and_free_are_not_questioned(apply: Apply, small: dict[str, Any]) -> None:
    apply(SMALL)
    for figure in ("0.01", "2", "0"):
        assert apply(price_of(small, input=figure, output="0.6"))["changed"] == ["model small: prices"]


def test_tiers_are_questioned_too(apply: Apply, small: dict[str, Any]) -> None:
    small["models"][0]["price_tiers"] = [{"name": "flex", "service_tier": "flex", "prices": {"input": "0.00015"}}]
    apply(SMALL)
    with pytest.raises(CommandError, match=r"input in tier flex: 0\.00015 looks like a price per thousand"):
        apply(small)


PUBLIC = """\
providers:
  - {name: vendor, kind: openai, api_key: sk-1234567890123456, base_url: https://api.openai.com/v1}
models:
  - name: mini
    capabilities: [chat]
    prices: {input: "0.00015"}
    deployments: [{provider: vendor, upstream_model: gpt-4o-mini}]
"""


def test_a_first_price_is_held_against_the_public_one(apply: Apply) -> None:
    with pytest.raises(CommandError, match=r"did you mean 0\.15 per million\? The public price of openai/gpt-4o-mini"):
        apply(PUBLIC)
    confirmed = PUBLIC.replace("    deployments", "    confirm_prices: [input]\n    deployments")
    assert apply(confirmed)["created"]
    assert yaml.safe_load(exported())["models"][0]["confirm_prices"] == ["input"], "so that it applies elsewhere"
    assert apply(PUBLIC)["changed"] == []


def test_the_mend_of_a_mistake_is_not_questioned(apply: Apply) -> None:
    apply(PUBLIC.replace("    deployments", "    confirm_prices: [input]\n    deployments"))
    mended = PUBLIC.replace("0.00015", "0.15")
    assert apply(mended)["changed"] == ["model mini: prices"], "a thousand times the last one, and what is public"
