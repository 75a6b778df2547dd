"""Embeddings calls that leave together: fewer calls to the provider, and nothing else is different."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from billing.models import Attempt, UsageRecord
from billing.splits import split
from providers.models import Model
from tenants.models import Tenant
from tests import factories
from tests.fakes.openai.embeddings import embeddings_body
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform, wait_for_models
from tests.gateway.money import books_balance
from tests.live import LiveServer, until

CALLS, SECONDS = 500, 0.2
PRICE = {"input": "0.0137"}
"""USD per million tokens: 13.7 nano-USD for one, so that every charge is rounded."""

UPSTREAM = "text-embedding-3-small"


class Embedder:
    """A tenant with an embeddings model of its own."""

    def __init__(self, platform: Platform, server: LiveServer, *, model: Model | None = None) -> None:
        self.server = server
        provider = platform.embed.deployments.get().provider
        self.model = model or factories.make_model(
            provider, capabilities=("embeddings",), prices=PRICE, upstream_model=UPSTREAM
        )
        self.tenant: Tenant = factories.make_tenant()
        factories.approve(self.tenant, self.model)
        self.key = factories.make_key(self.tenant)[1]
        wait_for_models(server, self.key, self.model.name)

    async def ask(self, session: aiohttp.ClientSession, given: Any, *, after: float = 0, **more: Any) -> Any:
        await asyncio.sleep(after)
        headers = {"authorization": f"Bearer {self.key}", **more.pop("headers", {})}
        body = {"model": self.model.name, "input": given, **more}
        async with session.post(f"{self.server.base_url}/embeddings", json=body, headers=headers) as answer:
            return answer.status, orjson.loads(await answer.read())

    def charges(self) -> list[UsageRecord]:
        return list(UsageRecord.objects.filter(tenant=self.tenant))


@pytest.fixture
def patient(tmp_path: Path, platform: Platform) -> Iterator[LiveServer]:
    """A server with a window of half a second: in 5 ms a busy machine takes in only few of the calls of a moment."""
    server = LiveServer("uvicorn", tmp_path, EMBEDDINGS_WINDOW_MS="500")
    yield server
    server.stop()


@pytest.fixture
def embedder(platform: Platform, uvicorn: LiveServer) -> Embedder:
    return Embedder(platform, uvicorn)


def unbatched(given: Any, **more: Any) -> Any:
    """The vectors the provider gives for this alone."""
    return embeddings_body({"model": UPSTREAM, "input": given, **more})["data"]


async def together(embedder: Embedder, upstream: FakeOpenAI, asked: list[dict[str, Any]]) -> list[Any]:
    """These calls, all waiting while one before them is held by the provider; what each was answered."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        upstream.script(Script(hold_before_headers=True), marker="the first", times=2)
        first = [asyncio.create_task(embedder.ask(session, "the first"))]
        await asyncio.to_thread(upstream.wait_until, lambda _: upstream.counters.held == 1)
        answers = await asyncio.gather(*(embedder.ask(session, **one) for one in asked))
        upstream.release()
        await asyncio.gather(*first)
        return answers


async def storm(embedders: list[Embedder]) -> list[Any]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        return await asyncio.gather(
            *(
                embedders[number % len(embedders)].ask(
                    session, f"text {number} of {number % 3}", after=SECONDS * number / CALLS, dimensions=8
                )
                for number in range(CALLS)
            )
        )


def test_five_hundred_from_three_tenants(platform: Platform, patient: LiveServer, upstream: FakeOpenAI) -> None:
    first = Embedder(platform, patient)
    embedders = [first, *(Embedder(platform, patient, model=first.model) for _ in range(2))]
    upstream.script(Script(delay_seconds=0.05), times=None)
    answers = asyncio.run(storm(embedders))
    for number, (status, answer) in enumerate(answers):
        assert status == 200, answer
        assert answer["data"] == unbatched(f"text {number} of {number % 3}", dimensions=8)
    records = upstream.all_ended()
    assert len(records) <= CALLS // 10
    given = [[item] if isinstance(item, str) else item for item in (record.body["input"] for record in records)]
    assert sum(map(len, given)) == CALLS
    assert all(len({text[-1] for text in texts}) == 1 for texts in given), "tenants are not mixed"
    books_balance()
    for place, embedder in enumerate(embedders):
        charges = embedder.charges()
        own = [record for record, texts in zip(records, given, strict=True) if texts[0].endswith(str(place))]
        used = [record.usage_sent["prompt_tokens"] for record in own if record.usage_sent]
        assert sum(charge.input_tokens for charge in charges) == sum(used)
        assert sum(charge.cost_nano_usd for charge in charges) == sum((tokens * 137 + 5) // 10 for tokens in used)
        assert len({charge.request_id for charge in charges}) == len(charges)


def test_a_call_alone_leaves_as_it_came(embedder: Embedder, upstream: FakeOpenAI) -> None:
    with embedder.server.client(embedder.key) as client:
        answer = client.post("/embeddings", json={"model": embedder.model.name, "input": "alone", "user": "ann"})
    assert answer.status_code == 200
    (record,) = upstream.records
    assert record.body == {"model": UPSTREAM, "input": "alone", "user": "ann"}


def test_what_is_asked_for_differently_leaves_apart(embedder: Embedder, upstream: FakeOpenAI) -> None:
    kinds = [
        {"given": "text", "dimensions": 8},
        {"given": ["two", "texts"], "dimensions": 8},
        {"given": "text", "dimensions": 9},
        {"given": "text", "dimensions": 8, "encoding_format": "base64"},
        {"given": [1, 2, 3], "dimensions": 8},
        {"given": [[4], [5, 6]], "dimensions": 8},
        {"given": "off", "dimensions": 8, "headers": {"x-gateway-batch": "off"}},
    ]
    answers = asyncio.run(together(embedder, upstream, kinds))
    for kind, (status, answer) in zip(kinds, answers, strict=True):
        shape = {name: value for name, value in kind.items() if name in ("dimensions", "encoding_format")}
        assert status == 200 and answer["data"] == unbatched(kind["given"], **shape)
    for record in upstream.all_ended():
        given = record.body["input"]
        assert given == "off" or not (isinstance(given, list) and "off" in given), "what is off is alone"
    books_balance()


def test_one_bad_item_fails_alone(embedder: Embedder, upstream: FakeOpenAI) -> None:
    asked: list[dict[str, Any]] = [{"given": [f"good {number}"], "dimensions": 4} for number in range(7)]
    asked.insert(3, {"given": [""], "dimensions": 4})
    upstream.script(Script(hold_before_headers=True), marker='"dimensions":4', times=2)

    async def at_once() -> list[Any]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            leading = asyncio.create_task(embedder.ask(session, ["lead"], dimensions=4))
            await asyncio.to_thread(upstream.wait_until, lambda _: upstream.counters.held == 1)
            asking = [asyncio.create_task(embedder.ask(session, **one)) for one in asked]
            await asyncio.to_thread(upstream.wait_until, lambda records: len(records) >= 2)
            upstream.release()
            await leading
            while not all(task.done() for task in asking):
                upstream.release()
                await asyncio.sleep(0.02)
            return [task.result() for task in asking]

    answers = asyncio.run(at_once())
    assert [status for status, _ in answers] == [200] * 3 + [400] + [200] * 4
    assert any(len(record.body["input"]) > 1 for record in upstream.records), "they were together"
    books_balance()
    assert len(embedder.charges()) == 8
    states = Counter(Attempt.objects.filter(tenant=embedder.tenant).values_list("state", flat=True))
    assert states == Counter(settled=8, voided=1)


def test_whoever_leaves_takes_nobody_along(embedder: Embedder, upstream: FakeOpenAI) -> None:
    upstream.script(Script(hold_before_headers=True), times=3)

    async def leave() -> list[Any]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            asking = [asyncio.create_task(embedder.ask(session, "lead", dimensions=4))]
            await asyncio.to_thread(upstream.wait_until, lambda _: upstream.counters.held == 1)
            asking += [
                asyncio.create_task(embedder.ask(session, f"text {number}", dimensions=4)) for number in range(4)
            ]
            await asyncio.to_thread(upstream.wait_until, lambda _: upstream.counters.held >= 2)
            asking[1].cancel()
            await asyncio.sleep(0.05)
            while not all(task.done() for task in asking):
                upstream.release()
                await asyncio.sleep(0.02)
            return await asyncio.gather(*asking, return_exceptions=True)

    lead, left, *others = asyncio.run(leave())
    assert isinstance(left, asyncio.CancelledError) and lead[0] == 200
    assert [status for status, _ in others] == [200] * 3
    until(lambda: len(embedder.charges()) >= 4, what="the charges")
    books_balance()


def test_a_header_that_cannot_be_meant(embedder: Embedder) -> None:
    with embedder.server.client(embedder.key) as client:
        refused = client.post(
            "/embeddings", json={"model": embedder.model.name, "input": "x"}, headers={"x-gateway-batch": "maybe"}
        )
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "X-Gateway-Batch"


@pytest.mark.parametrize(
    ("total", "weights", "shares"),
    [
        (10, [1, 1, 1], [4, 3, 3]),
        (7, [3, 1], [5, 2]),
        (0, [1, 2], [0, 0]),
        (5, [0, 0], [3, 2]),
        (1, [10**18, 1], [1, 0]),
    ],
)
def test_shares_add_up(total: int, weights: list[int], shares: list[int]) -> None:
    assert split(total, weights) == shares and sum(shares) == total
