"""Rate limits over several processes and through the public door, with Redis and without."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import redis
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from gateway.embedded import start_engines
from gateway.limits import PROCESSES_KEY
from tenants.models import LIMIT_FIELDS, RateLimit, Tenant
from tests import factories
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform, wait_for_models
from tests.live import CHANGES_SEEN_SECONDS, LiveServer, until

CLIENTS, LIMIT, PROCESSES = 400, 100, 4
BODY = {"messages": [{"role": "user", "content": "x"}]}


def limited(platform: Platform, **fields: Any) -> tuple[Tenant, str]:
    """A tenant of its own with a key, and a rate limit if one is given."""
    tenant = factories.make_tenant()
    factories.approve(tenant, platform.chat, platform.mock_chat)
    if fields:
        RateLimit.objects.create(tenant=tenant, **fields)
    return tenant, factories.make_key(tenant)[1]


@pytest.fixture(scope="module")
def start_four(tmp_path_factory: pytest.TempPathFactory, committed: None) -> Iterator[Callable[..., list[LiveServer]]]:
    started: list[LiveServer] = []

    def start(**environment: str) -> list[LiveServer]:
        folder = tmp_path_factory.mktemp("four")
        servers = []
        for _ in range(PROCESSES):
            servers.append(LiveServer("uvicorn", folder, **environment))
            started.append(servers[-1])
        return servers

    yield start
    for server in started:
        server.stop()


async def ask_all(servers: list[LiveServer], key: str, model: str) -> tuple[Counter[int], set[str | None]]:
    """`CLIENTS` calls at once, spread over the servers; how many of each status, and what the header says."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers={"authorization": f"Bearer {key}"}) as session:

        async def ask(number: int) -> tuple[int, str | None]:
            url = f"{servers[number % len(servers)].base_url}/chat/completions"
            async with session.post(url, json={"model": model, **BODY}) as answer:
                await answer.read()
                return answer.status, answer.headers.get("x-gateway-ratelimit")

        answers = await asyncio.gather(*(ask(number) for number in range(CLIENTS)))
    return Counter(status for status, _ in answers), {header for _, header in answers}


def run_race(servers: list[LiveServer], key: str, platform: Platform) -> tuple[Counter[int], set[str | None]]:
    for server in servers:
        wait_for_models(server, key, platform.chat.name)
    return asyncio.run(ask_all(servers, key, platform.chat.name))


def test_exactly_the_limit_over_four_processes(
    start_four: Callable[..., list[LiveServer]], platform: Platform, upstream: FakeOpenAI, tmp_path: Path
) -> None:
    with start_engines(tmp_path, postgres=False, durable=False) as engines:
        assert engines.redis_url is not None
        # The limit is exact as long as Redis answers: a busy machine must not look like a Redis that is away.
        servers = start_four(REDIS_URL=engines.redis_url, REDIS_TIMEOUT_MS="5000")
        _, key = limited(platform, requests_per_minute=LIMIT)
        statuses, degraded = run_race(servers, key, platform)
        assert degraded == {None}, [server.log.read_text()[-2000:] for server in servers]
        assert statuses == {200: LIMIT, 429: CLIENTS - LIMIT}
        assert len(upstream.all_ended()) == LIMIT, "the provider's own log"

        _, free = limited(platform, requests_per_minute=LIMIT, enabled=False)
        statuses, _ = run_race(servers, free, platform)
        assert statuses == {200: CLIENTS}, "control: without the rule the same clients all pass"

        _, other = limited(platform, requests_per_minute=LIMIT)
        for server in servers:
            wait_for_models(server, other, platform.chat.name)
        everybody_knows_four(engines.redis_url)
    statuses, degraded = run_race(servers, other, platform)
    assert set(statuses) == {200, 429} and LIMIT // 2 <= statuses[200] <= LIMIT, "Redis is gone"
    assert degraded == {"degraded"}


def everybody_knows_four(redis_url: str) -> None:
    """Wait until each process has said that it lives since all four did, and so was told of all four."""
    with redis.Redis.from_url(redis_url) as client:
        until(lambda: client.zcard(PROCESSES_KEY) == PROCESSES, what="four processes")
        before = dict(client.zrange(PROCESSES_KEY, 0, -1, withscores=True))

        def all_again() -> bool:
            now = dict(client.zrange(PROCESSES_KEY, 0, -1, withscores=True))
            return all(now[process] > score for process, score in before.items())

        until(all_again, what="a beat of each process")


@pytest.fixture
def ask(uvicorn: LiveServer, platform: Platform) -> Callable[..., httpx.Response]:
    def ask(key: str, **more: Any) -> httpx.Response:
        platform.known_to(uvicorn)
        wait_for_models(uvicorn, key, platform.chat.name)
        with uvicorn.client(key) as client:
            return client.post("/chat/completions", json={"model": platform.chat.name, **BODY, **more})

    return ask


def test_answers_say_how_the_limit_stands(ask: Any, platform: Platform, upstream: FakeOpenAI) -> None:
    _, key = limited(platform, requests_per_minute=2, requests_per_day=100, tokens_per_minute=100_000)
    for stream, remaining in ((False, "1"), (True, "0")):
        answer = ask(key, stream=stream)
        assert answer.status_code == 200 and "x-gateway-ratelimit" not in answer.headers
        assert answer.headers["x-ratelimit-limit-requests"] == "2"
        assert answer.headers["x-ratelimit-remaining-requests"] == remaining
        assert answer.headers["x-ratelimit-limit-tokens"] == "100000"
        assert 99_000 < int(answer.headers["x-ratelimit-remaining-tokens"]) < 100_000
        for what in ("requests", "tokens"):
            assert re.fullmatch(r"(\d+h)?(\d+m)?\d+m?s", answer.headers[f"x-ratelimit-reset-{what}"])
    refused = ask(key)
    error = refused.json()["error"]
    assert refused.status_code == 429 and 1 <= int(refused.headers["retry-after"]) <= 61
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert error["type"] == "rate_limit_error" and error["code"] == "rate_limited"
    told = {name: error[name] for name in ("scope", "subject", "what", "limit", "window")}
    assert told == {"scope": "tenant", "subject": "", "what": "requests", "limit": 2, "window": "minute"}


def test_a_day_is_waited_for_in_steps(ask: Any, platform: Platform) -> None:
    _, key = limited(platform, requests_per_day=1)
    assert ask(key).status_code == 200
    refused = ask(key)
    assert refused.status_code == 429 and refused.headers["retry-after"] == "120"
    assert refused.json()["error"]["window"] == "day"


def test_no_rule_no_header_and_tenants_apart(ask: Any, platform: Platform) -> None:
    _, limited_key = limited(platform, requests_per_minute=1)
    _, other_key = limited(platform, requests_per_minute=1)
    _, free_key = limited(platform)
    assert [ask(limited_key).status_code for _ in range(2)] == [200, 429]
    assert ask(other_key).status_code == 200
    free = ask(free_key)
    assert free.status_code == 200 and not [name for name in free.headers if "ratelimit" in name]


def test_a_changed_limit_is_seen(ask: Any, platform: Platform) -> None:
    tenant, key = limited(platform)
    assert "x-ratelimit-limit-requests" not in ask(key).headers
    rule = RateLimit.objects.create(tenant=tenant, requests_per_minute=50)
    for limit in (50, 60):
        RateLimit.objects.filter(pk=rule.pk).update(requests_per_minute=limit)
        until(
            lambda limit=limit: ask(key).headers.get("x-ratelimit-limit-requests") == str(limit),
            seconds=CHANGES_SEEN_SECONDS,
            what="the limit",
        )
    rule.delete()
    until(lambda: "x-ratelimit-limit-requests" not in ask(key).headers, seconds=CHANGES_SEEN_SECONDS, what="none")


def test_each_user_has_a_bucket(ask: Any, platform: Platform) -> None:
    tenant, key = limited(platform, scope="user", requests_per_minute=1)
    RateLimit.objects.create(tenant=tenant, scope="tenant", requests_per_minute=4)
    asked = ["ann", "bob", "ann", "bob", ""]
    answers = [ask(key, user=user) for user in asked]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429, 200]
    assert answers[2].json()["error"]["scope"] == "user" and answers[2].json()["error"]["subject"] == "ann"
    assert answers[4].headers["x-ratelimit-remaining-requests"] == "1", "what users were refused took nothing of it"


def tokens_left(answer: httpx.Response) -> int:
    return int(answer.headers["x-ratelimit-remaining-tokens"])


def test_tokens_are_put_right_after_the_call(ask: Any, platform: Platform, upstream: FakeOpenAI) -> None:
    _, key = limited(platform, tokens_per_minute=10_000)
    usage = {"prompt_tokens": 1000, "completion_tokens": 2000, "total_tokens": 3000}
    estimate = 10_000 - tokens_left(ask(key))
    own = upstream.all_ended()[-1]
    assert own.status == 200 and estimate < 20, "the input's bytes and no limit of the client's own"
    upstream.script(Script(usage=usage), times=1)
    assert ask(key, max_tokens=5000).status_code == 200
    until(lambda: 6_500 < tokens_left(ask(key)) < 7_000, what="3,000 tokens counted in place of 5,000")
    upstream.script(Script(usage=usage), times=1)
    assert ask(key).status_code == 200
    until(lambda: tokens_left(ask(key)) < 4_000, what="3,000 tokens counted in place of a few")
    refused = ask(key, max_tokens=9_000)
    assert refused.status_code == 429 and refused.json()["error"]["what"] == "tokens"
    assert "x-should-retry" not in refused.headers
    never = ask(key, max_tokens=11_000)
    assert never.status_code == 429 and never.headers["x-should-retry"] == "false"
    assert "max_tokens" in never.json()["error"]["message"]


def test_a_failed_call_gives_its_tokens_back(ask: Any, platform: Platform, upstream: FakeOpenAI) -> None:
    _, key = limited(platform, tokens_per_minute=1000)
    upstream.script(Script(status=500), times=None)
    assert ask(key, max_tokens=990).status_code == 502
    upstream.reset()
    until(lambda: ask(key, max_tokens=900).status_code == 200, what="room for the next one")


def held(tenant: Tenant) -> int:
    with redis.Redis.from_url(settings.REDIS_CONNECTION) as client:
        return sum(client.zcard(key) for key in client.keys(f"{{t:{tenant.pk}}}:*:concurrency:*"))


def test_concurrency_is_given_back(ask: Any, uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI) -> None:
    tenant, key = limited(platform, concurrency=1)
    assert ask(key).status_code == 200
    until(lambda: held(tenant) == 0, what="release after an answer")
    assert ask(key, stream=True).status_code == 200
    until(lambda: held(tenant) == 0, what="release after a stream")
    upstream.script(Script(status=500), times=None)
    assert ask(key).status_code == 502
    upstream.reset()
    until(lambda: held(tenant) == 0, what="release after a failure")
    upstream.script(Script(pieces=("a", "b"), fault="hold", fault_after_events=2), times=1)
    body = {"model": platform.chat.name, "stream": True, **BODY}
    with uvicorn.client(key) as client, client.stream("POST", "/chat/completions", json=body) as stream:
        assert stream.status_code == 200 and held(tenant) == 1
        refused = ask(key)
        assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["what"] == "concurrency"
    until(lambda: held(tenant) == 0, what="release after the client left")
    assert ask(key).status_code == 200


def test_absurd_limits_are_refused(committed: None) -> None:
    tenant = factories.make_tenant()
    for field in LIMIT_FIELDS:
        for value in (0, -1, 10**11, "NaN"):
            with pytest.raises(ValidationError) as caught:
                RateLimit(tenant=tenant, **{field: value}).full_clean()
            assert field in caught.value.message_dict
        with pytest.raises(IntegrityError), transaction.atomic():
            RateLimit.objects.create(tenant=tenant, **{field: 0})
    with pytest.raises(ValidationError, match="at least one"):
        RateLimit(tenant=tenant).full_clean()
    with pytest.raises(ValidationError, match="no subject"):
        RateLimit(tenant=tenant, subject="x", concurrency=1).full_clean()
