"""Which calls are the same question, and what its second asking comes to."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import redis
from django.conf import settings

from billing.models import Attempt, UsageRecord
from gateway.models import CacheDay, RequestRecord
from tests import factories
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.caching.conftest import Keeper, MakeKeeper, kept_keys
from tests.gateway.conftest import Platform
from tests.gateway.money import MILLI_USD, books_balance, make_payer
from tests.live import LiveServer, until


def state(answer: Any) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.headers.get("x-gateway-cache", ""))


def test_the_second_asking_costs_nothing_and_is_on_record(keeper: Keeper, upstream: FakeOpenAI) -> None:
    keeper.payer.budget(limit_nano_usd=1000 * MILLI_USD)
    with keeper.server.client(keeper.payer.key) as client:
        until(lambda: client.get("/budgets").json()["data"], what="the budget being known")
    first = keeper.ask(headers={"x-user-id": "ann"})
    until(lambda: kept_keys(keeper), what="the answer being kept")
    second = keeper.ask(headers={"x-user-id": "bob"})
    assert (state(first), state(second)) == ("miss", "hit")
    assert second.content == first.content and len(upstream.records) == 1
    assert second.headers["x-gateway-cost-usd"] == "0" and int(second.headers["age"]) >= 0
    assert second.headers["x-gateway-provider"] == first.headers["x-gateway-provider"]
    assert "x-gateway-attempts" not in second.headers

    books_balance()
    paid, free = (UsageRecord.objects.get(request_id=one.headers["x-request-id"]) for one in (first, second))
    assert (paid.cost_nano_usd, paid.usage_source) == (MILLI_USD, "provider_final")
    assert (free.cost_nano_usd, free.usage_source, free.units, free.user) == (0, "cache", {}, "bob")
    assert free.provider_usage == {"cached_answer_of": paid.request_id, "saved_nano_usd": MILLI_USD}
    assert Attempt.objects.get(pk=free.pk).windows == [], "no budget was asked"
    assert keeper.payer.windows() == {("tenant", ""): (MILLI_USD, 0)}
    row = until(lambda: RequestRecord.objects.filter(request_id=free.request_id).first(), what="its row")
    assert row.replay_of == paid.request_id
    day = until(lambda: CacheDay.objects.filter(rule=keeper.rule, hits=1, misses=1).first(), what="the day's counts")
    assert day.saved_nano_usd == MILLI_USD


SAME: dict[str, Any] = {
    "members in another order": {"seed": 4, "temperature": 0, "top_p": 1},
    "another user": {"user": "somebody"},
    "metadata": {"metadata": {"conversation_id": "c"}},
    "null": {"stop": None},
}
OTHER: dict[str, Any] = {
    "another word": {"text": "y"},
    "a space": {"text": "x "},
    "a seed": {"seed": 5},
    "a limit": {"max_tokens": 5},
    "two answers": {"n": 2},
    "another role": {"messages": [{"role": "system", "content": "x"}]},
}


def test_what_is_the_same_and_what_is_not(keeper: Keeper, upstream: FakeOpenAI) -> None:
    assert state(keeper.ask(top_p=1, seed=4)) == "miss"
    assert state(keeper.ask()) == "miss"
    until(lambda: len(kept_keys(keeper)) == 2, what="both being kept")
    assert {name: state(keeper.ask(**more)) for name, more in SAME.items()} == dict.fromkeys(SAME, "hit")
    assert {name: state(keeper.ask(**more)) for name, more in OTHER.items()} == dict.fromkeys(OTHER, "miss")
    assert len(upstream.records) == 2 + len(OTHER)


SKIPPED: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "no temperature": ({"temperature": None}, {}),
    "a temperature": ({"temperature": 0.2}, {}),
    "tools": ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]}, {}),
    "a picture": (
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]}
            ]
        },
        {},
    ),
    "no-store": ({}, {"cache-control": "no-store"}),
    "context": ({}, {"x-gateway-cache": "context-dependent"}),
}


@pytest.mark.parametrize("what", SKIPPED)
def test_what_is_neither_kept_nor_looked_up(what: str, keeper: Keeper, upstream: FakeOpenAI) -> None:
    more, headers = SKIPPED[what]
    assert [state(keeper.ask(headers=headers, **more)) for _ in range(2)] == ["skip", "skip"]
    assert len(upstream.records) == 2 and kept_keys(keeper) == []


def test_a_temperature_when_it_is_asked_for(keeper: Keeper, make_keeper: MakeKeeper) -> None:
    asked = {"x-gateway-cache": "any-temperature"}
    assert state(keeper.ask(temperature=0.7, headers=asked)) == "miss"
    until(lambda: kept_keys(keeper), what="the answer being kept")
    assert state(keeper.ask(temperature=0.7, headers=asked)) == "hit"
    assert state(keeper.ask(temperature=0.7)) == "skip"
    generous = make_keeper(any_temperature=True)
    assert state(generous.ask(temperature=None)) == "miss"


def test_cache_control(keeper: Keeper, upstream: FakeOpenAI) -> None:
    upstream.script(Script(text="old"))
    upstream.script(Script(text="new"))
    assert state(keeper.ask()) == "miss"
    until(lambda: kept_keys(keeper), what="the answer being kept")
    fresh = keeper.ask(headers={"cache-control": "no-cache"})
    assert state(fresh) == "miss" and "new" in fresh.text
    until(lambda: "new" in keeper.ask().text, what="the new answer in the place of the old one")
    assert state(keeper.ask(headers={"cache-control": "max-age=60, must-revalidate"})) == "hit"
    assert state(keeper.ask(headers={"cache-control": "max-age=0"})) == "miss"


@pytest.mark.parametrize(
    ("headers", "param"),
    [({"cache-control": "max-age=soon"}, "Cache-Control"), ({"x-gateway-cache": "yes"}, "X-Gateway-Cache")],
)
def test_headers_that_cannot_be_meant(keeper: Keeper, headers: dict[str, str], param: str) -> None:
    refused = keeper.ask(headers=headers)
    assert refused.status_code == 400 and refused.json()["error"]["param"] == param


def test_an_answer_ages(make_keeper: MakeKeeper) -> None:
    keeper = make_keeper(ttl_seconds=1)
    assert state(keeper.ask()) == "miss"
    until(lambda: kept_keys(keeper), what="the answer being kept")
    until(lambda: not kept_keys(keeper), what="its second being over")
    assert state(keeper.ask()) == "miss"


def test_two_tenants_never_share(
    keeper: Keeper, make_keeper: MakeKeeper, uvicorn: LiveServer, upstream: FakeOpenAI
) -> None:
    other = make_keeper(model=keeper.payer.model)
    factories.approve(other.payer.tenant, keeper.payer.model)
    other.payer.model = keeper.payer.model
    other.payer.known_to(uvicorn)
    assert state(keeper.ask()) == "miss"
    until(lambda: kept_keys(keeper), what="the answer being kept")
    assert state(other.ask()) == "miss" and len(upstream.records) == 2
    until(lambda: kept_keys(other), what="the other's answer being kept")

    (theirs,), (ours,) = kept_keys(keeper), kept_keys(other)
    with redis.Redis.from_url(settings.REDIS_CONNECTION) as client:
        client.set(ours, client.get(theirs))
    assert state(other.ask()) == "miss", "what was kept for one is damaged goods under another's key"


def test_without_a_rule_nothing_is_kept(platform: Platform, uvicorn: LiveServer, upstream: FakeOpenAI) -> None:
    payer = make_payer(platform)
    payer.known_to(uvicorn)
    assert [state(payer.ask(uvicorn, temperature=0)) for _ in range(2)] == ["", ""]
    assert len(upstream.records) == 2


def test_a_damaged_entry_is_none(keeper: Keeper, upstream: FakeOpenAI) -> None:
    keeper.ask()
    (key,) = until(lambda: kept_keys(keeper), what="the answer being kept")
    with redis.Redis.from_url(settings.REDIS_CONNECTION) as client:
        whole = client.get(key)
        for damaged in (b"", b"rubbish", whole[:-5], whole[:40] + b"A" + whole[41:], b"\xff\xfe", whole.split(b".")[0]):
            client.set(key, damaged)
            again = keeper.ask()
            assert state(again) == "miss" and "You said: x" in again.text, damaged
            until(lambda damaged=damaged: client.get(key) != damaged, what="a whole entry in its place")
    assert len(upstream.records) == 7 and state(keeper.ask()) == "hit"


def test_what_failed_is_not_kept(keeper: Keeper, upstream: FakeOpenAI) -> None:
    upstream.script(Script(status=400, error={"message": "no"}))
    assert keeper.ask().status_code == 400
    assert state(keeper.ask()) == "miss"


def test_a_long_answer_is_not_kept(keeper: Keeper, upstream: FakeOpenAI) -> None:
    upstream.script(Script(text="long " * 250_000), times=2)
    assert [state(keeper.ask()) for _ in range(2)] == ["miss", "miss"]


def test_the_model_is_what_the_registry_says(keeper: Keeper, uvicorn: LiveServer, upstream: FakeOpenAI) -> None:
    keeper.ask()
    until(lambda: kept_keys(keeper), what="the answer being kept")
    assert state(keeper.ask()) == "hit"
    keeper.payer.model.deployments.update(upstream_model="gpt-4o-mini")
    until(lambda: state(keeper.ask()) == "miss", what="the model being another one")
    assert upstream.records[-1].model == "gpt-4o-mini"


def test_embeddings(platform: Platform, keeper: Keeper, uvicorn: LiveServer, upstream: FakeOpenAI) -> None:
    factories.approve(keeper.payer.tenant, platform.embed)
    keeper.payer.known_to(uvicorn)
    with uvicorn.client(keeper.payer.key) as client:

        def embed(**more: Any) -> Any:
            return client.post("/embeddings", json={"model": platform.embed.name, "input": "words", **more})

        until(lambda: embed().status_code == 200, what="the approval being seen")
        until(lambda: kept_keys(keeper), what="the answer being kept")
        again = embed(user="else")
        assert state(again) == "hit" and len(orjson.loads(again.content)["data"][0]["embedding"]) == 1536
        assert state(embed(dimensions=8)) == state(embed(encoding_format="base64")) == "miss"
