"""What the gateway writes down against what the provider itself saw, and what becomes of clients that leave."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import orjson
import pytest
from django.db import connection

from billing.models import Attempt, Price, UsageRecord
from billing.money import usd
from providers.models import Credential, Deployment, Model, ModelGroup, Provider, TenantApproval
from tenants.keys import generate_key
from tenants.models import ApiKey, Tenant
from tests import factories
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import DEFAULT_API_KEY, FakeOpenAI, openai_process
from tests.gateway.conftest import Platform, wait_for_models
from tests.live import LiveServer, until

CALLS = 2_000
LEAVING = 200
AT_ONCE = 40
PRICES = {"input": "0.15", "cache_read": "0.075", "output": "0.60"}


def oracle_nano_usd(units: dict[str, int]) -> int:
    """The price of a call, computed another way: exact fractions of a USD, rounded half up at the end."""
    usd_exact = sum(
        (Fraction(PRICES.get(unit, PRICES["output"])) * count / 1_000_000 for unit, count in units.items()), Fraction()
    )
    return int(usd_exact * 1_000_000_000 + Fraction(1, 2))


def test_two_thousand_mixed_calls(uvicorn: LiveServer, committed: None, tmp_path: Path) -> None:
    log = tmp_path / "provider.jsonl"
    with openai_process(log=log) as base_url:
        endless = {"script": {"fault": "hold", "fault_after_events": 3}, "marker": "forever", "times": None}
        httpx.post(f"{base_url.removesuffix('/v1')}/_fake/script", json=endless, trust_env=False).raise_for_status()
        tenant = factories.make_tenant()
        _, key = factories.make_key(tenant)
        provider = factories.make_provider(base_url, secret=DEFAULT_API_KEY)
        chat = factories.make_model(provider, upstream_model="gpt-5.2", prices=PRICES)
        embed = factories.make_model(
            provider, capabilities=("embeddings",), upstream_model="text-embedding-3-small", prices=PRICES
        )
        factories.approve(tenant, chat, embed)
        wait_for_models(uvicorn, key, chat.name, embed.name)
        ids = asyncio.run(_drive(uvicorn, key, chat=chat.name, embed=embed.name))
        until(lambda: not Attempt.objects.filter(tenant=tenant, state="open").exists(), what="the end of every attempt")
    seen = [orjson.loads(line) for line in log.read_bytes().splitlines()]
    seen = [record for record in seen if record["method"] == "POST"]

    attempts = Counter(Attempt.objects.filter(tenant=tenant).values_list("state", flat=True))
    charges = {record.request_id: record for record in UsageRecord.objects.filter(tenant=tenant)}
    assert len(seen) == CALLS, "the provider's own log"
    assert attempts == {"settled": CALLS}
    assert set(charges) == set(ids)

    completed = [charge for charge in charges.values() if charge.ending == "completed"]
    left = [charge for charge in charges.values() if charge.ending == "client_left"]
    assert len(left) == LEAVING and len(completed) == CALLS - LEAVING
    assert {charge.usage_source for charge in completed} == {"provider_final"}
    whole = [record for record in seen if record["completed"]]
    told = Counter((r["usage_sent"]["prompt_tokens"], r["usage_sent"].get("completion_tokens", 0)) for r in whole)
    written = Counter((charge.input_tokens, charge.output_tokens) for charge in completed)
    assert written == told, "token for token what the provider reported"
    assert all(charge.usage_source == "local_count" for charge in left)
    assert sum(charge.cost_nano_usd for charge in charges.values()) == sum(
        oracle_nano_usd(charge.units) for charge in charges.values()
    )
    logged = {line["request_id"]: line for line in uvicorn.call_lines() if line["tenant"] == tenant.name}
    assert set(ids) <= set(logged)
    assert all(logged[name]["cost_usd"] == usd(charge.cost_nano_usd) for name, charge in charges.items())


async def _drive(server: LiveServer, key: str, *, chat: str, embed: str) -> list[str]:
    """Send the calls, `AT_ONCE` at a time; returns the request ids as the client was told them."""
    kinds = ["leave"] * LEAVING + ["chat", "stream", "usage", "embed"] * ((CALLS - LEAVING) // 4)
    random.Random(7).shuffle(kinds)
    queue = iter(enumerate(kinds))
    ids: list[str] = []
    words = "one two three four five six seven eight nine ten"

    async def client() -> None:
        headers = {"authorization": f"Bearer {key}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            for _, kind in queue:
                if kind == "embed":
                    body: dict[str, Any] = {"model": embed, "input": ["a b c", "d"]}
                else:
                    text = f"{words} forever" if kind == "leave" else words
                    body = {
                        "model": chat,
                        "messages": [{"role": "user", "content": text}],
                        "stream": kind != "chat",
                    }
                if kind == "usage":
                    body["stream_options"] = {"include_usage": True}
                path = "embeddings" if kind == "embed" else "chat/completions"
                alone = {"x-gateway-batch": "off"}  # call for call: each is a line in the provider's log
                async with session.post(f"{server.base_url}/{path}", json=body, headers=alone) as answer:
                    assert answer.status == 200, await answer.text()
                    ids.append(answer.headers["x-request-id"])
                    if kind == "leave":
                        await answer.content.readany()
                        answer.close()
                    else:
                        await answer.read()

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    return ids


def test_a_client_that_leaves_a_stream_cancels_the_provider(
    server: LiveServer, platform: Platform, upstream: FakeOpenAI
) -> None:
    platform.known_to(server, "fake-chat")
    upstream.script(Script(pieces=("word ",) * 1000, chunk_pause_seconds=0.02))
    body = {"model": "fake-chat", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    with server.client(platform.key) as client, client.stream("POST", "/chat/completions", json=body) as answer:
        request_id = answer.headers["x-request-id"]
        next(answer.iter_raw())
    record = upstream.wait_until(lambda records: all(record.ended_at for record in records))[-1]
    assert record.client_left and record.events_sent < 200
    charge = platform.settled(request_id)
    assert (charge.ending, charge.usage_source) == ("client_left", "local_count")
    assert 0 < charge.output_tokens <= 2 * record.produced["completion_tokens"] + 8


def test_a_client_that_does_not_wait_for_an_answer_cancels_the_provider(
    server: LiveServer, platform: Platform, upstream: FakeOpenAI
) -> None:
    platform.known_to(server, "fake-chat")
    upstream.script(Script(hold_before_headers=True))
    body = {"model": "fake-chat", "messages": [{"role": "user", "content": "hi"}]}

    async def ask_and_leave() -> None:
        headers = {"authorization": f"Bearer {platform.key}", "x-request-id": "left-early"}
        async with aiohttp.ClientSession(headers=headers) as session:
            asking = asyncio.create_task(session.post(f"{server.base_url}/chat/completions", json=body))
            await asyncio.to_thread(upstream.wait_until, lambda records: upstream.counters.held == 1)
            asking.cancel()

    asyncio.run(ask_and_leave())
    record = upstream.wait_until(lambda records: bool(records) and records[-1].ended_at is not None)[-1]
    assert record.client_left
    charges = until(lambda: platform.usage(request_id="left-early"), what="the charge")
    assert charges[-1].ending == "client_left" and charges[-1].output_tokens == 0


def test_attribution_lands_on_the_charge(server: LiveServer, platform: Platform, upstream: FakeOpenAI) -> None:
    platform.known_to(server, "fake-chat")
    body = {
        "model": "fake-chat",
        "messages": [{"role": "user", "content": "hi"}],
        "user": "u" * 256,
        "metadata": {"conversation_id": "c-1"},
    }
    headers = {"x-agent-id": "agent-7", "x-agent-type": "qa-engineer", "x-user-id": "ignored: the body goes first"}
    with server.client(platform.key) as client:
        answer = client.post("/chat/completions", json=body, headers=headers)
    charge = platform.settled(answer.headers["x-request-id"])
    assert (charge.user, charge.conversation, charge.agent, charge.agent_type) == (
        "u" * 256,
        "c-1",
        "agent-7",
        "qa-engineer",
    )
    assert answer.headers["x-gateway-provider"] == "fake"
    assert answer.headers["x-gateway-model"] == "fake-chat"
    assert answer.headers["x-gateway-attempts"] == "1" and answer.headers["x-gateway-fallback"] == "false"
    assert answer.headers["x-gateway-cost-usd"] == usd(charge.cost_nano_usd)
    assert float(answer.headers["x-gateway-overhead-ms"]) >= 0
    assert charge.provider_usage == answer.json()["usage"]


def test_cached_and_reasoning_tokens_have_prices_of_their_own(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI
) -> None:
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 300,
        "total_tokens": 1300,
        "prompt_tokens_details": {"cached_tokens": 400, "cache_write_tokens": 100},
        "completion_tokens_details": {"reasoning_tokens": 200},
    }
    upstream.script(Script(text="x", usage=usage))
    with uvicorn.client(platform.key) as client:
        answer = client.post(
            "/chat/completions", json={"model": "fake-chat", "messages": [{"role": "user", "content": "x"}]}
        )
    charge = platform.settled(answer.headers["x-request-id"])
    assert charge.units == {"input": 500, "cache_read": 400, "cache_write_5m": 100, "output": 100, "reasoning": 200}
    # 600 x 0.15 + 400 x 0.075 + 300 x 0.60, USD per million
    assert charge.cost_nano_usd == 90_000 + 30_000 + 180_000


def test_a_model_without_a_price_costs_nothing_known(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI
) -> None:
    model = factories.make_model(platform.chat.deployments.get().provider, upstream_model="gpt-5.2", prices=None)
    factories.approve(platform.tenant, model)
    platform.known_to(uvicorn, model.name)
    with uvicorn.client(platform.key) as client:
        answer = client.post(
            "/chat/completions", json={"model": model.name, "messages": [{"role": "user", "content": "x"}]}
        )
    assert "x-gateway-cost-usd" not in answer.headers, "unknown is not 0"
    assert platform.settled(answer.headers["x-request-id"]).price_id is None


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -5, "completion_tokens": 1},
        {"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 11}},
        {"prompt_tokens": 10**18, "completion_tokens": 1},
        {"prompt_tokens": "12", "completion_tokens": 1},
        {"prompt_tokens": 1.5, "completion_tokens": 1},
        {"total_tokens": 5},
        {"prompt_tokens": 10, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 2}},
        {"prompt_tokens": 10, "completion_tokens": 5 * 2 + 17},
        {"prompt_tokens": 100_000, "completion_tokens": 1},
        {"prompt_tokens": 10, "completion_tokens": 10**6, "completion_tokens_details": {"reasoning_tokens": 10**6}},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_usage_that_cannot_be_true_is_charged_by_the_bound(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI, usage: dict[str, Any], stream: bool
) -> None:
    upstream.script(Script(text="a short answer", usage=usage))
    platform.known_to(uvicorn, "fake-chat")
    messages = [{"role": "user", "content": "x"}]
    with uvicorn.client(platform.key) as client:
        body = {"model": "fake-chat", "messages": messages, "stream": stream, "max_tokens": 10}
        answer = client.post("/chat/completions", json=body)
    charge = platform.settled(answer.headers["x-request-id"])
    assert (charge.usage_source, charge.ending) == ("reserve_bound", "completed")
    assert (charge.input_tokens, charge.output_tokens) == (len(json.dumps(messages, separators=(",", ":"))), 10)
    assert charge.cost_nano_usd == oracle_nano_usd(charge.units) > 0
    assert charge.provider_usage["quarantined"] and json.loads(charge.provider_usage["reported"]) == usage


def test_a_stream_whose_provider_reports_nothing_still_ends_with_usage_when_asked(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI
) -> None:
    upstream.script(Script(text="some words", omit_usage=True))
    body = {
        "model": "fake-chat",
        "messages": [{"role": "user", "content": "x"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    with uvicorn.client(platform.key) as client:
        answer = client.post("/chat/completions", json=body)
    events = [line.removeprefix("data: ") for line in answer.text.split("\n") if line]
    assert events[-1] == "[DONE]"
    closing = orjson.loads(events[-2])
    assert closing["choices"] == []
    charge = platform.settled(answer.headers["x-request-id"])
    assert closing["usage"]["completion_tokens"] == charge.output_tokens > 0


def test_a_warm_call_asks_the_database_nothing_but_the_ledger(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI
) -> None:
    """With every table of configuration out of reach, a query for any of them would fail."""
    tables = [Tenant, ApiKey, Provider, Credential, Model, Deployment, ModelGroup, TenantApproval, Price]
    names = [table._meta.db_table for table in tables]
    body = {"model": "fake-chat", "messages": [{"role": "user", "content": "x"}]}
    with uvicorn.client(platform.key) as client, connection.cursor() as cursor:
        assert client.post("/chat/completions", json=body).status_code == 200
        for name in names:
            cursor.execute(f"ALTER TABLE {name} RENAME TO {name}_away")
        try:
            statuses = {client.post("/chat/completions", json=body).status_code for _ in range(100)}
            unknown = {"authorization": f"Bearer {generate_key()}"}
            assert client.get("/models", headers=unknown).status_code == 500, "the control: a cold key needs a query"
        finally:
            for name in names:
                cursor.execute(f"ALTER TABLE {name}_away RENAME TO {name}")
    assert statuses == {200}
