"""Public prices in our units: for every model of the package, our formula gives the package's own figure."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, Provider, Usage

from billing.pricing import TIER, PriceVersion
from billing.public_prices import Place, _service_tiers, _translate, public_price
from billing.tiers import check_tiers

DAY = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
PROVIDERS = [provider for provider in get_snapshot().providers if provider.models]


def their_cost(
    provider: Provider, model: ModelInfo, *, moment: dt.datetime, service: str, tokens: tuple[int, int, int]
) -> Decimal:
    read, cached, written = tokens
    contexts = [{"service_tier": service}, {"processing": service}] if service else [None]
    usage = Usage(input_tokens=read + cached, cache_read_tokens=cached, output_tokens=written)
    costs = [
        model.calc_price(usage, provider, genai_request_timestamp=moment, price_context=context).total_price
        for context in contexts
    ]
    standard = model.calc_price(usage, provider, genai_request_timestamp=moment).total_price
    return next((cost for cost in costs if cost != standard), standard)


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.id)
def test_our_formula_gives_their_figure(provider: Provider) -> None:
    for model in provider.models:
        public = _translate(model.id, model, moment=DAY)
        check_tiers(public.tiers)
        if public.left_out or not public.rates:
            continue
        price = PriceVersion(1, DAY, public.rates, public.tiers)
        is_plain = not (public.tiers or _service_tiers(model))
        for hour in (12,) if is_plain else (2, 12):
            moment = DAY.replace(hour=hour)
            for service in ("", *_service_tiers(model)):
                for tokens in ((50_000, 7_000, 10), (150_000, 150_000, 1000)):
                    read, cached, written = tokens
                    units = {"input": read, "cache_read": cached, "output": written}
                    units[TIER] = price.tier_for(read + cached, service_tier=service, moment=moment)
                    if price.rate("requests", units[TIER]):
                        units["requests"] = 1
                    theirs = their_cost(provider, model, moment=moment, service=service, tokens=tokens)
                    ours = price.cost_nano_usd(units)
                    assert abs(Decimal(ours) - theirs * 10**9) <= 1, (model.id, service, hour, tokens)


def at(kind: str, url: str, model: str) -> str | None:
    found = public_price([Place(kind, url, model)], DAY)
    return found.name if found else None


def test_a_provider_is_known_by_its_address_then_by_its_kind() -> None:
    assert at("openai", "https://api.openai.com/v1", "gpt-4o-mini") == "openai/gpt-4o-mini"
    assert at("openai_compatible", "https://api.groq.com/openai/v1", "llama-3.3-70b-versatile") is not None
    assert at("anthropic", "http://127.0.0.1:9/v1", "claude-sonnet-4-5") == "anthropic/claude-sonnet-4-5"
    assert at("openai_compatible", "http://127.0.0.1:9/v1", "gpt-4o-mini") is None, "a server of one's own is no vendor"
    assert at("mock", "mock://local", "gpt-4o-mini") is None
    assert at("openai", "https://api.openai.com/v1", "no-such-model-77") is None


def test_the_first_place_that_is_known_counts() -> None:
    own, vendor = Place("mock", "mock://local", "m"), Place("openai", "https://api.openai.com/v1", "gpt-4o-mini")
    found = public_price([own, vendor], DAY)
    assert found is not None and found.name == "openai/gpt-4o-mini"
    assert public_price([], DAY) is None


def test_prices_per_thousand_and_per_hour_are_brought_to_millions() -> None:
    speech = public_price([Place("", "https://api.groq.com/openai/v1", "whisper-large-v3")], DAY)
    assert speech is not None and speech.rates["seconds"] == 30_833_333, "0.111 USD an hour"
    search = public_price([Place("openai", "https://api.openai.com/v1", "gpt-4o-mini")], DAY)
    assert search is not None and search.rates["searches"] == 10_000_000_000, "10 USD for a thousand"
