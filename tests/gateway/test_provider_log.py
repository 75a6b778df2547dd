"""M2: what a provider's own log has is in the books, call for call; what more the books have is listed as unknown."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from billing.models import Attempt, GatewayProcess, UsageRecord
from billing.verification import exposures
from tests import factories
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform, wait_for_models
from tests.gateway.money import MILLI_USD, PER_CALL, Payer, books_balance, make_payer
from tests.live import LiveServer, until

CALLS, HELD = 160, 12
ASKED_AT_LEAST = 5
"""Of each way, before a breaker holds the rest back."""
WAYS = {
    "answers": Script(),
    "refuses": Script(status=500),
    "drops": Script(drop_before_headers="reset"),
    "cuts": Script(text="some words", fault="close", fault_after_events=2, cut_body_at=40),
    "nothing": Script(raw_body=b'{"choices": []}'),
}
"""What the provider does with a call that names it. Each has a model of its own: one's breaker spares the others."""


def make_models(payer: Payer, platform: Platform) -> dict[str, str]:
    """The payer's models by way."""
    provider = platform.chat.deployments.get().provider
    models = {way: factories.make_model(provider, prices=PER_CALL, upstream_model="gpt-5.2") for way in WAYS}
    factories.approve(payer.tenant, *models.values())
    return {way: model.name for way, model in models.items()}


async def ask(session: aiohttp.ClientSession, server: LiveServer, *, name: str, model: str, stream: bool) -> None:
    """One call, its name in its text and as its request id."""
    body = {"model": model, "messages": [{"role": "user", "content": name}], "stream": stream}
    with contextlib.suppress(aiohttp.ClientError):
        url = f"{server.base_url}/chat/completions"
        async with session.post(url, json=body, headers={"x-request-id": name}) as answer:
            await answer.read()


async def mixed_load(servers: list[LiveServer], payer: Payer, models: dict[str, str]) -> Counter[str]:
    """How many calls of each way were sent, half of them streams."""
    rng = random.Random(5)
    sent = [rng.choice(list(WAYS)) for _ in range(CALLS)]
    headers = {"authorization": f"Bearer {payer.key}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=30), headers=headers) as session:
        await asyncio.gather(
            *(
                ask(
                    session,
                    servers[number % 2],
                    name=f"{way}-{number}",
                    model=models[way],
                    stream=number % 4 < 2,
                )
                for number, way in enumerate(sent)
            )
        )
    return Counter(sent)


async def held_then_killed(doomed: LiveServer, payer: Payer) -> None:
    """Streams whose first words have come when their process dies."""
    url, began = f"{doomed.base_url}/chat/completions", asyncio.Barrier(HELD + 1)

    async def read(session: aiohttp.ClientSession, name: str) -> None:
        body = {**payer.body(stream=True), "messages": [{"role": "user", "content": name}]}
        async with session.post(url, json=body, headers={"x-request-id": name}) as answer:
            await answer.content.readany()
            await began.wait()
            with pytest.raises(aiohttp.ClientError):
                await answer.read()

    headers = {"authorization": f"Bearer {payer.key}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:
        reading = asyncio.gather(*(read(session, f"held-{number}") for number in range(HELD)))
        await began.wait()
        doomed.process.kill()
        await reading


def in_the_log(upstream: FakeOpenAI) -> Counter[str]:
    return Counter(record.body["messages"][0]["content"] for record in upstream.all_ended())


@pytest.mark.parametrize("recorder", ["kept", "lost"])
def test_the_providers_log_is_in_the_books(
    platform: Platform, upstream: FakeOpenAI, tmp_path: Path, recorder: str
) -> None:
    payer = make_payer(platform)
    payer.budget(limit_nano_usd=10_000 * MILLI_USD)
    models = make_models(payer, platform)
    for way, script in WAYS.items():
        upstream.script(script, marker=f'"{way}-', times=None)
    held = Script(pieces=("one ", "two "), fault="hold", fault_after_events=2)
    upstream.script(held, marker='"held-', times=None)
    known_before = {exposure.provider_name: exposure.attempts for exposure in exposures()}
    doomed, other = (LiveServer("uvicorn", tmp_path) for _ in range(2))
    try:
        for server in (doomed, other):
            wait_for_models(server, payer.key, payer.model.name, *models.values())
        sent = asyncio.run(mixed_load([doomed, other], payer, models))
        process = GatewayProcess.objects.get(pid=doomed.process.pid)
        asyncio.run(held_then_killed(doomed, payer))
        doomed.process.wait()
        if recorder == "lost":
            Path(process.recorder).unlink()
        survivor = LiveServer("uvicorn", tmp_path, HEARTBEAT_SECONDS="1", PROCESS_DEAD_SECONDS="2")
        try:
            until(lambda: not Attempt.objects.filter(state="open").exists(), seconds=45, what="the sweep")
        finally:
            survivor.stop()
    finally:
        other.stop()
    books_balance()

    seen = in_the_log(upstream)
    attempts = Attempt.objects.filter(tenant=payer.tenant)
    assert Counter(attempts.values_list("request_id", flat=True)) == seen, "an attempt for each call, and none besides"
    asked = Counter(name.partition("-")[0] for name in seen)
    assert all(asked[way] >= ASKED_AT_LEAST for way in WAYS)
    charges: dict[str, Any] = {row.request_id: row for row in UsageRecord.objects.filter(tenant=payer.tenant)}
    by_way = Counter(name.partition("-")[0] for name in charges)
    assert by_way["answers"] == sent["answers"] and by_way["held"] == HELD
    assert by_way["refuses"] == by_way["drops"] == 0, "nothing was said, nothing is charged"
    sources = {row.usage_source for name, row in charges.items() if name.startswith("held-")}
    exposed = {one.provider_name: one.attempts for one in exposures()}
    unknown = exposed.get("fake", 0) - known_before.get("fake", 0)
    if recorder == "kept":
        assert (sources, unknown) == ({"local_count"}, 0)
    else:
        assert (sources, unknown) == ({"unknown"}, HELD), "listed, and charged to nobody"
        assert all(row.cost_nano_usd == 0 for name, row in charges.items() if name.startswith("held-"))
