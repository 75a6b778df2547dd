"""Of identical calls under way one is made, whatever becomes of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
import redis
from django.conf import settings

from billing.models import UsageRecord
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.caching.conftest import Keeper, MakeKeeper, kept_keys
from tests.gateway.caching.test_answers import state
from tests.gateway.conftest import Platform
from tests.gateway.money import MILLI_USD, ask_all, books_balance, make_payer
from tests.live import LiveServer, until

CALLS = 200


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, seeded: Platform) -> Iterator[list[LiveServer]]:
    """Two that wait for Redis: after 0.1 s on a busy machine, each would make calls as if it were away."""
    folder = tmp_path_factory.mktemp("both")
    running = [LiveServer("uvicorn", folder, REDIS_TIMEOUT_MS="5000") for _ in range(2)]
    yield running
    for server in running:
        server.stop()


@pytest.fixture
def patient(platform: Platform, both: list[LiveServer]) -> Keeper:
    return Keeper(make_payer(platform), both[0])


def test_two_hundred_at_once_over_two_processes(patient: Keeper, both: list[LiveServer], upstream: FakeOpenAI) -> None:
    patient.payer.known_to(*both)
    upstream.script(Script(text="once", delay_seconds=0.3), times=None)
    asked = asyncio.run(ask_all(both, patient.payer.key, [patient.body()] * CALLS))
    assert asked == Counter({200: CALLS}) and len(upstream.records) == 1
    charges = UsageRecord.objects.filter(tenant=patient.payer.tenant)
    until(lambda: charges.count() == CALLS, what="every charge: an answer does not wait for its own")
    books_balance()
    by_source = Counter(charges.values_list("usage_source", flat=True))
    assert by_source == Counter(cache=CALLS - 1, provider_final=1)
    assert sum(charges.values_list("cost_nano_usd", flat=True)) == MILLI_USD


def test_control_without_a_rule_each_is_made(platform: Platform, both: list[LiveServer], upstream: FakeOpenAI) -> None:
    payer = make_payer(platform)
    payer.known_to(*both)
    upstream.script(Script(text="once", delay_seconds=0.3), times=None)
    asyncio.run(ask_all(both, payer.key, [payer.body(temperature=0)] * 20))
    assert len(upstream.records) == 20


async def two(keeper: Keeper, upstream: FakeOpenAI, *, leader_leaves: bool = False) -> list[Any]:
    """The status and cache header of a call, and of one that waits for it."""
    url, headers = f"{keeper.server.base_url}/chat/completions", {"authorization": f"Bearer {keeper.payer.key}"}

    async def ask() -> tuple[int, str | None]:
        async with session.post(url, json=keeper.body()) as answer:
            await answer.read()
            return answer.status, answer.headers.get("x-gateway-cache")

    async with aiohttp.ClientSession(headers=headers) as session:
        leader = asyncio.create_task(ask())
        await asyncio.to_thread(upstream.wait_until, lambda _: upstream.counters.held == 1)
        follower = asyncio.create_task(ask())
        await asyncio.sleep(0.1)  # the follower may also come later: then it is the next leader
        if leader_leaves:
            leader.cancel()
        else:
            upstream.release()
        return await asyncio.gather(leader, follower, return_exceptions=True)


def test_a_leader_that_leaves_is_replaced(keeper: Keeper, upstream: FakeOpenAI) -> None:
    upstream.script(Script(hold_before_headers=True))
    left, followed = asyncio.run(two(keeper, upstream, leader_leaves=True))
    assert isinstance(left, asyncio.CancelledError) and followed == (200, "miss")
    assert len(upstream.records) == 2


def test_a_leader_that_fails_takes_nobody_with_it(keeper: Keeper, upstream: FakeOpenAI) -> None:
    upstream.script(Script(hold_before_headers=True, status=400, error={"message": "no"}))
    assert asyncio.run(two(keeper, upstream)) == [(400, "miss"), (200, "miss")]


def test_a_leader_that_died_is_waited_for_no_longer_than_its_lease(patient: Keeper, upstream: FakeOpenAI) -> None:
    assert state(patient.ask()) == "miss"
    (key,) = until(lambda: kept_keys(patient), what="the answer being kept")
    with redis.Redis.from_url(settings.REDIS_CONNECTION) as client:
        client.delete(key)
        client.set(key + b":lead", "somebody who died", px=400)
        assert state(patient.ask()) == "miss"
        until(lambda: client.exists(key) and not client.exists(key + b":lead"), what="the lead being given back")
    assert len(upstream.records) == 2


def test_without_redis_every_call_is_made(keeper: Keeper, upstream: FakeOpenAI) -> None:
    assert state(keeper.ask()) == "miss"
    until(lambda: kept_keys(keeper), what="the answer being kept")
    with redis.Redis.from_url(settings.REDIS_CONNECTION) as client:
        client.client_pause(1000)
        assert state(keeper.ask()) == "miss"
    until(lambda: state(keeper.ask()) == "hit", what="Redis being back")


def stream(keeper: Keeper, **more: Any) -> tuple[str, str]:
    answer = keeper.ask(stream=True, **more)
    assert answer.headers["content-type"].startswith("text/event-stream")
    return state(answer), answer.text


def test_a_stream_is_given_again_as_one(keeper: Keeper, upstream: FakeOpenAI) -> None:
    first, events = stream(keeper, text="a b c")
    until(lambda: kept_keys(keeper), what="the stream being kept")
    again, same = stream(keeper, text="a b c")
    assert (first, again) == ("miss", "hit") and same == events and events.endswith("data: [DONE]\n\n")
    with_usage, counted = stream(keeper, text="a b c", stream_options={"include_usage": True})
    assert with_usage == "miss" and '"prompt_tokens"' in counted and '"prompt_tokens"' not in events
    assert state(keeper.ask("a b c")) == "miss", "a whole answer is not made of pieces"


def test_a_whole_answer_serves_streams(make_keeper: MakeKeeper, upstream: FakeOpenAI) -> None:
    keeper = make_keeper()
    whole = keeper.ask().json()
    until(lambda: kept_keys(keeper), what="the answer being kept")
    told, events = stream(keeper, stream_options={"include_usage": True})
    assert told == "hit" and len(upstream.records) == 1
    assert whole["choices"][0]["message"]["content"] in events and '"finish_reason":"stop"' in events
    assert f'"total_tokens":{whole["usage"]["total_tokens"]}' in events and events.endswith("data: [DONE]\n\n")
    assert keeper.ask("logs", logprobs=True).status_code == 200
    until(lambda: len(kept_keys(keeper)) == 2, what="the answer being kept")
    assert stream(keeper, text="logs", logprobs=True)[0] == "miss", "a stream would leave something out"


def test_a_stream_that_breaks_is_not_kept(keeper: Keeper, upstream: FakeOpenAI) -> None:
    upstream.script(Script(text="some words", fault="close", fault_after_events=2))
    broken, events = stream(keeper)
    assert broken == "miss" and "[DONE]" not in events
    assert stream(keeper)[0] == "miss" and len(upstream.records) == 2
