"""One process's limits against a Redis that stalls, forgets the script, or loses everything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from zoneinfo import ZoneInfo

import pytest
import redis.asyncio

from gateway.context import Call, Caller, Trace
from gateway.embedded import start_engines
from gateway.errors import RateLimitedError
from gateway.limits import Limits
from providers.types import WireRequest
from tenants.selectors import Principal, RateLimitRule

PRINCIPAL = Principal(
    key_id=1, key_name="ci", tenant_id=7, tenant_name="acme", tenant_active=True, timezone="UTC", project_id=None,
    project_name="", user="", scopes=frozenset(), networks=(), expires_at=None,
)  # fmt: skip
RULE = RateLimitRule(
    id=1, scope="tenant", subject="", requests_per_minute=None, requests_per_day=None, tokens_per_minute=None,
    tokens_per_day=None, concurrency=1,
)  # fmt: skip
CALL = Call(
    caller=Caller(PRINCIPAL, frozenset(), (), (RULE,), ZoneInfo("UTC")),
    request_id="r",
    operation="chat",
    requested_model="m",
    needs=frozenset(),
    wire=WireRequest(operation="chat", members={}),
    input_bytes=4,
)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of these tests alone: they stall it."""
    with start_engines(tmp_path_factory.mktemp("redis"), postgres=False, durable=False) as engines:
        assert engines.redis_url is not None
        yield engines.redis_url


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    client = redis.asyncio.Redis.from_url(redis_url)
    yield client
    await client.flushdb()
    await client.aclose()


@pytest.fixture
async def limits(client: redis.asyncio.Redis, redis_url: str) -> AsyncIterator[Limits]:
    limits = Limits(redis_url, timeout_seconds=0.1)
    await limits.start()
    yield limits
    await limits.close()


async def admitted(limits: Limits) -> Trace:
    trace = Trace("r")
    await limits.admit(CALL, trace, targets=())
    return trace


async def test_a_stalled_redis_delays_one_call_and_frees_what_it_held(
    limits: Limits, client: redis.asyncio.Redis
) -> None:
    before = await admitted(limits)
    await client.execute_command("CLIENT", "PAUSE", 400)
    limits.finish(before)
    begun = time.monotonic()
    during = await admitted(limits)
    assert time.monotonic() - begun < 0.4, "not as long as Redis stalls"
    assert during.limit_headers["x-gateway-ratelimit"] == "degraded"
    begun = time.monotonic()
    with pytest.raises(RateLimitedError):
        await admitted(limits)
    assert time.monotonic() - begun < 0.05, "nobody asks a Redis that has just failed"
    limits.finish(during)
    key = "{t:7}:limit:1:concurrency:"
    deadline = time.monotonic() + 8
    while await client.zcard(key):
        assert time.monotonic() < deadline, "what the stall swallowed is given back"
        await asyncio.sleep(0.05)
    after = await admitted(limits)
    assert "x-gateway-ratelimit" not in after.limit_headers
    limits.finish(after)


async def test_an_emptied_script_cache_is_filled_again(limits: Limits, client: redis.asyncio.Redis) -> None:
    limits.finish(await admitted(limits))
    await client.script_flush()
    await client.flushall()
    trace = await admitted(limits)
    assert "x-gateway-ratelimit" not in trace.limit_headers
    with pytest.raises(RateLimitedError):
        await admitted(limits)
    limits.finish(trace)


async def test_a_client_that_leaves_while_asking_holds_nothing(limits: Limits, client: redis.asyncio.Redis) -> None:
    asking = asyncio.create_task(admitted(limits))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    trace = await admitted(limits)
    limits.finish(trace)
    assert trace.lease is None
