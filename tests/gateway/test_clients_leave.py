"""Clients that leave before their answer is over: the provider is cut off, or heard out, as its policy says."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from billing.models import Attempt, UsageRecord
from gateway.models import RequestRecord
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.forked import ForkedServer, Forkery
from tests.gateway.conftest import wait_for_models
from tests.gateway.shops import Shop
from tests.live import LiveServer, until

WORDS = tuple(f"w{number} " for number in range(30))


@pytest.fixture
def shops(committed: None, upstream: FakeOpenAI) -> dict[str, Shop]:
    upstream.reset()
    return {policy: Shop(upstream, policy) for policy in ("abort", "drain", "")}


@pytest.fixture(scope="module")
def forkery(committed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forkery]:
    with Forkery(tmp_path_factory.mktemp("forked")) as forkery:
        yield forkery


def forked(forkery: Forkery, **config: Any) -> ForkedServer:
    server = forkery.serve(**config)
    server.wait_until_ready()
    return server


@pytest.mark.parametrize("policy", ["abort", ""])
def test_abort_cuts_a_stream_off(server: LiveServer, shops: dict[str, Shop], upstream: FakeOpenAI, policy: str) -> None:
    """And is what holds for the kind. A thousand words would take the provider twenty seconds: it sees within one."""
    upstream.script(Script(pieces=("word ",) * 1000, chunk_pause_seconds=0.02))
    shops[policy].leave(server, upstream)
    (record,) = upstream.all_ended()
    assert record.client_left and record.events_sent < 60
    (charge,) = shops[policy].charges()
    assert (charge.ending, charge.usage_source) == ("client_left", "local_count")


def test_abort_counts_what_a_provider_had_reported(
    uvicorn: LiveServer, shops: dict[str, Shop], upstream: FakeOpenAI
) -> None:
    """Servers that report with every chunk: the input is theirs, the output at least what was heard."""
    usage = {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
    said = Script(pieces=("many words ",) * 40, extra={"usage": usage}, fault="hold", fault_after_events=40)
    upstream.script(said)
    shops["abort"].leave(uvicorn, upstream)
    (charge,) = shops["abort"].charges()
    assert (charge.usage_source, charge.ending, charge.input_tokens) == ("provider_partial", "client_left", 7)
    assert charge.units == {"input": 7, "output": charge.output_tokens} and charge.output_tokens >= 1
    assert charge.provider_usage == usage


def test_drain_hears_a_stream_out(server: LiveServer, shops: dict[str, Shop], upstream: FakeOpenAI) -> None:
    upstream.script(Script(pieces=WORDS, chunk_pause_seconds=0.02))
    shops["drain"].leave(server, upstream)
    (record,) = upstream.all_ended()
    assert record.completed and not record.client_left
    (charge,) = shops["drain"].charges()
    assert (charge.ending, charge.usage_source) == ("client_left", "provider_final")
    assert charge.provider_usage == record.usage_sent and charge.output_tokens == len(WORDS)


@pytest.mark.parametrize(("policy", "source"), [("abort", "local_count"), ("drain", "provider_final")])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_before_the_answer_begins(
    server: LiveServer, shops: dict[str, Shop], upstream: FakeOpenAI, policy: str, source: str, stream: bool
) -> None:
    upstream.script(Script(text="a whole answer", hold_before_headers=True))
    shop = shops[policy]
    shop.leave(server, upstream, stream=stream, waits=False)
    seen = [line for line in until(lambda: lines_of(server, shop), what="the log line") if line["status"] == 499]
    assert seen, "the gateway knows that the client left"
    upstream.release()
    (record,) = upstream.all_ended()
    assert (record.completed, record.client_left) == (policy == "drain", policy == "abort")
    (charge,) = shop.charges()
    assert (charge.ending, charge.usage_source) == ("client_left", source)
    assert charge.output_tokens == (3 if policy == "drain" else 0)


def lines_of(server: LiveServer, shop: Shop) -> list[dict[str, Any]]:
    return [line for line in server.call_lines() if line["tenant"] == shop.tenant.name]


@pytest.mark.parametrize(("policy", "source"), [("abort", "local_count"), ("drain", "provider_final")])
def test_embeddings(
    uvicorn: LiveServer, shops: dict[str, Shop], upstream: FakeOpenAI, policy: str, source: str
) -> None:
    upstream.script(Script(hold_before_headers=True))
    shop = shops[policy]
    wait_for_models(uvicorn, shop.key, shop.embed.name)
    with uvicorn.asked("/embeddings", {"model": shop.embed.name, "input": "a few words"}, key=shop.key):
        upstream.wait_until(lambda records: any(record.held for record in records))
    until(lambda: lines_of(uvicorn, shop), what="the log line")
    upstream.release()
    (record,) = upstream.all_ended()
    assert (record.completed, record.client_left) == (policy == "drain", policy == "abort")
    (charge,) = shop.charges()
    assert (charge.ending, charge.usage_source, charge.output_tokens) == ("client_left", source, 0)
    logged: RequestRecord = until(RequestRecord.objects.filter(tenant=shop.tenant).first, what="its row")
    assert (logged.status, logged.error_code, len(logged.attempts)) == (499, "client_left", 1)


def test_an_answer_that_fails_without_its_client_costs_nothing(
    uvicorn: LiveServer, shops: dict[str, Shop], upstream: FakeOpenAI
) -> None:
    upstream.script(Script(status=500, error={"message": "a long text " * 100}, hold_before_headers=True))
    shop = shops["drain"]
    shop.leave(uvicorn, upstream, stream=False, waits=False)
    until(lambda: lines_of(uvicorn, shop), what="the log line")
    upstream.release()
    voided = Attempt.objects.filter(tenant=shop.tenant, state="voided", failure="broken")
    until(voided.exists, what="the void")
    assert not UsageRecord.objects.filter(tenant=shop.tenant).exists(), "an error's text is no output"


@pytest.mark.parametrize("policy", ["abort", "drain"])
def test_two_hundred_leave_at_once(
    uvicorn: LiveServer, shops: dict[str, Shop], upstream: FakeOpenAI, policy: str
) -> None:
    upstream.script(Script(pieces=WORDS, fault="hold", fault_after_events=5), times=None)
    shop = shops[policy]
    leaving = threading.Thread(target=shop.leave, args=(uvicorn, upstream), kwargs={"clients": 200})
    leaving.start()
    leaving.join(timeout=30)
    until(lambda: len(lines_of(uvicorn, shop)) == 200, seconds=20, what="all having left")
    upstream.release()
    records = upstream.all_ended()
    assert len(records) == 200 and upstream.counters.open_streams == 0
    assert {record.client_left for record in records} == {policy == "abort"}
    charges = shop.charges(200)
    sources = Counter(charge.usage_source for charge in charges)
    assert sources == {"provider_final" if policy == "drain" else "local_count": 200}


def test_only_so_many_are_heard_out_at_once(forkery: Forkery, shops: dict[str, Shop], upstream: FakeOpenAI) -> None:
    server = forked(forkery, drains_at_once=3)
    upstream.script(Script(pieces=WORDS, fault="hold", fault_after_events=5), times=None)
    shops["drain"].leave(server, upstream, clients=10)
    upstream.wait_until(lambda records: sum(record.client_left for record in records) == 7)
    upstream.release()
    charges = shops["drain"].charges(10)
    assert Counter(charge.usage_source for charge in charges) == {"provider_final": 3, "local_count": 7}
    assert "drain.refused" in server.log.read_text()


def test_none_is_heard_for_ever(forkery: Forkery, shops: dict[str, Shop], upstream: FakeOpenAI) -> None:
    server = forked(forkery, drain_seconds=0.5)
    upstream.script(Script(pieces=WORDS, fault="hold", fault_after_events=5))
    shops["drain"].leave(server, upstream)
    (record,) = upstream.all_ended()
    assert record.client_left
    (charge,) = shops["drain"].charges()
    assert (charge.ending, charge.usage_source) == ("client_left", "local_count") and charge.output_tokens > 0
    until(lambda: "drain.cut_off" in server.log.read_text(), what="the log line")


@pytest.mark.parametrize(("patience", "source"), [(20, "provider_final"), (0.2, "local_count")])
def test_a_process_that_ends_waits_for_them(
    forkery: Forkery, shops: dict[str, Shop], upstream: FakeOpenAI, patience: float, source: str
) -> None:
    server = forked(forkery, drain_shutdown_seconds=patience)
    upstream.script(Script(pieces=WORDS, fault="hold", fault_after_events=5))
    shops["drain"].leave(server, upstream)
    until(lambda: lines_of(server, shops["drain"]), what="the client having left")
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    until(lambda: "Waiting for application shutdown" in server.log.read_text(), what="the shutdown")
    if source == "provider_final":
        upstream.release()
    stopping.join(timeout=20)
    assert not stopping.is_alive() and not server.is_alive
    (charge,) = shops["drain"].charges()
    assert (charge.ending, charge.usage_source) == ("client_left", source)
