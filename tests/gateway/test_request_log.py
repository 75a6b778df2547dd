"""Why a call went where it went: one row for each call of a tenant's, and `GET /v1/requests/{id}`."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterable, Iterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from django.utils import timezone

from billing.adjustments import adjust_charge
from billing.models import UsageRecord
from gateway import request_log
from gateway.batched_rows import Bounds
from gateway.context import AttemptNote, Trace
from gateway.models import RequestRecord
from gateway.request_log import RequestLog, purge_requests
from gateway.runtime import GatewayConfig
from gateway.tasks import purge_request_log
from providers.services import move_model
from tenants.models import Operator
from tests import factories
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.forked import Forkery
from tests.gateway.conftest import Platform
from tests.gateway.money import Payer, make_payer
from tests.live import LiveServer, until

ASK = [{"role": "user", "content": "a canary in the prompt"}]


@pytest.fixture
def client(uvicorn: LiveServer, platform: Platform) -> Iterator[httpx.Client]:
    platform.known_to(uvicorn)
    with uvicorn.client(platform.key) as client:
        yield client


def row_of(request_id: str) -> RequestRecord:
    row: RequestRecord = until(RequestRecord.objects.filter(request_id=request_id).first, what="its row")
    return row


def told(client: httpx.Client, answer: httpx.Response, *, attempts: int = 0) -> dict[str, Any]:
    """What the API tells of an answered request, once its row is written and so many of its charges."""
    row_of(answer.headers["x-request-id"])

    def whole() -> dict[str, Any] | None:
        found = client.get(f"/requests/{answer.headers['x-request-id']}")
        assert found.status_code == 200, found.text
        ended = [attempt for attempt in found.json()["attempts"] if attempt["state"] not in (None, "open")]
        return dict(found.json()) if len(ended) == attempts else None

    return dict(until(whole, what="its attempts' ends"))


def test_a_chat(client: httpx.Client, platform: Platform, upstream: FakeOpenAI) -> None:
    answer = client.post("/chat/completions", json={"model": "fake-chat", "messages": ASK})
    request = told(client, answer, attempts=1)
    assert request["id"] == answer.headers["x-request-id"] and request["object"] == "request"
    assert (request["status"], request["error_code"], request["operation"]) == (200, None, "chat")
    assert (request["requested_model"], request["stream"], request["skipped"]) == ("fake-chat", False, [])
    assert request["latency_ms"] >= request["upstream_ms"] >= 0 and request["first_content_ms"] is None
    (attempt,) = request["attempts"]
    assert (attempt["model"], attempt["provider"], attempt["outcome"]) == ("fake-chat", "fake", "answered")
    assert attempt["state"] == "settled" and attempt["elapsed_ms"] >= 0
    charge = attempt["charge"]
    assert request["cost_usd"] == charge["cost_usd"] == answer.headers["x-gateway-cost-usd"]
    assert sum(Decimal(line["usd"]) for line in charge["formula"]) == Decimal(charge["cost_usd"])
    assert {line["unit"]: line["amount"] for line in charge["formula"]} == charge["units"]
    assert (charge["rates"], charge["usage_source"], charge["ending"]) == ("base prices", "provider_final", "completed")


def test_a_stream(client: httpx.Client, platform: Platform, upstream: FakeOpenAI) -> None:
    answer = client.post("/chat/completions", json={"model": "fake-chat", "messages": ASK, "stream": True})
    request = told(client, answer, attempts=1)
    assert request["stream"] and request["first_content_ms"] >= 0


@pytest.fixture(scope="module")
def fallback(seeded: Platform, upstream: FakeOpenAI) -> Platform:
    """A group of a retired model, one that cannot see, one that breaks and one that answers."""
    broken = factories.make_provider(upstream.base_url, secret="wrong key", name="broken")
    fake = seeded.chat.deployments.get().provider
    retired = factories.make_model(fake, name="retired-one")
    factories.approve(seeded.tenant, retired)
    move_model(retired, "retired", by=None)
    members = (
        retired,
        factories.make_model(fake, name="blind", capabilities=("chat", "stream")),
        factories.make_model(broken, name="breaks", upstream_model="gpt-5.2"),
        factories.make_model(fake, name="serves", upstream_model="gpt-5.2"),
    )
    group = factories.make_group(*members, name="seeing")
    factories.approve(seeded.tenant, group)
    return seeded


def test_what_was_skipped_and_what_failed(
    client: httpx.Client, platform: Platform, fallback: Platform, uvicorn: LiveServer
) -> None:
    fallback.known_to(uvicorn, "seeing")
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    body = {"model": "seeing", "messages": [{"role": "user", "content": [picture]}]}
    answer = client.post("/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    request = told(client, answer, attempts=2)
    assert request["skipped"] == [
        {"candidate": "retired-one", "reason": "the model is retired"},
        {"candidate": "blind", "reason": "cannot do vision"},
    ]
    first, second = request["attempts"]
    assert (first["model"], first["provider"], first["state"]) == ("breaks", "broken", "voided")
    assert first["outcome"] == first["failure"] and first["message"] and first["charge"] is None
    assert (second["model"], second["outcome"]) == ("serves", "answered")
    assert second["started_ms"] >= first["started_ms"]
    row = row_of(answer.headers["x-request-id"])
    assert (row.model_name, row.provider_name, row.fallback, row.cache) == ("serves", "fake", True, "")
    assert (row.decision["name"], row.decision["strategy"]) == ("seeing", "priority")
    assert [model for _, model, _ in row.decision["order"]] == ["breaks", "serves"]
    assert row.decision["needs"] == ["chat", "vision"] and row.decision["input_bytes"] > 0
    assert "data:" not in str(row.decision), "no text of a call"


def test_refusals_are_on_the_log(
    client: httpx.Client, uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI
) -> None:
    """Those of a tenant's keys: nobody is to be told of the others."""
    asked = {
        "nobody-has-it": ("nothing", 404, "model_not_found"),
        "wrong": ("fake-embed", 400, "capability_not_supported"),
    }
    for request_id, (model, status, code) in asked.items():
        headers = {"x-request-id": request_id}
        answer = client.post("/chat/completions", json={"model": model, "messages": ASK}, headers=headers)
        row = row_of(request_id)
        assert (row.status, row.error_code) == (answer.status_code, answer.json()["error"]["code"])
        assert (row.status, row.error_code) == (status, code)
        assert row.attempts == [] and row.requested_model == model
    answer = client.post("/chat/completions", content=b"{", headers={"x-request-id": "no-json"})
    assert (row_of("no-json").status, row_of("no-json").requested_model) == (400, "")
    scoped = factories.make_key(platform.tenant, scopes=["models"])[1]
    with uvicorn.client(scoped) as other:
        other.post("/chat/completions", json={}, headers={"x-request-id": "no-scope"})
        other.get("/models", headers={"x-request-id": "a-list"})
        client.post("/chat/completions", json={}, headers={"authorization": "Bearer no", "x-request-id": "no-key"})
    client.post("/chat/completions", content=b"{", headers={"x-request-id": "the-last"})
    row_of("the-last")
    assert not RequestRecord.objects.filter(request_id__in=["a-list", "no-key"]).exists()


def test_a_call_that_a_budget_refuses(uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI) -> None:
    poor: Payer = make_payer(platform)
    poor.budget(scope="tenant", period="day", limit_nano_usd=1)
    poor.known_to(uvicorn)
    answer = poor.ask(uvicorn)
    row = row_of(answer.headers["x-request-id"])
    assert (answer.status_code, row.status, row.error_code, row.attempts) == (402, 402, "budget_exceeded", [])


def test_a_replay_names_the_request_that_was_charged(
    client: httpx.Client, platform: Platform, upstream: FakeOpenAI
) -> None:
    headers = {"idempotency-key": factories.unique("key")}
    body = {"model": "fake-chat", "messages": ASK}
    first = client.post("/chat/completions", json=body, headers=headers)
    second = client.post("/chat/completions", json=body, headers=headers)
    request = told(client, second)
    assert request["replay_of"] == first.headers["x-request-id"]
    assert (request["attempts"], request["cost_usd"], request["status"]) == ([], "0", 200)


def test_while_it_is_under_way_the_ledger_tells(
    client: httpx.Client, uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI
) -> None:
    upstream.script(Script(pieces=("word ",) * 3, fault="hold", fault_after_events=3))
    body = {"model": "fake-chat", "messages": ASK, "stream": True}
    with client.stream("POST", "/chat/completions", json=body) as answer:
        request_id = answer.headers["x-request-id"]
        with uvicorn.client(platform.key) as other:
            request = until(lambda: _found(other.get(f"/requests/{request_id}")), what="the ledger's row")
        assert (request["status"], request["cost_usd"]) == (None, "0")
        assert [(one["state"], one["charge"]) for one in request["attempts"]] == [("open", None)]
        upstream.release()
        answer.read()
    assert told(client, answer, attempts=1)["status"] == 200


def _found(answer: httpx.Response) -> dict[str, Any] | None:
    return dict(answer.json()) if answer.status_code == 200 else None


def test_an_id_that_was_used_twice_tells_of_the_last(
    client: httpx.Client, platform: Platform, upstream: FakeOpenAI
) -> None:
    body = {"model": "fake-chat", "messages": ASK}
    request_id = factories.unique("again")
    for number in (1, 2):
        upstream.script(Script(text="word " * number))
        answer = client.post("/chat/completions", json=body, headers={"x-request-id": request_id})
        until(lambda: RequestRecord.objects.filter(request_id=request_id).count() == number, what="its row")  # noqa: B023
        until(lambda: UsageRecord.objects.filter(request_id=request_id).count() == number, what="its charge")  # noqa: B023
        request = told(client, answer, attempts=1)
        assert request["cost_usd"] == answer.headers["x-gateway-cost-usd"]


def test_an_adjustment_is_part_of_the_cost(client: httpx.Client, platform: Platform, upstream: FakeOpenAI) -> None:
    answer = client.post("/chat/completions", json={"model": "fake-chat", "messages": ASK})
    charge = platform.settled(answer.headers["x-request-id"])
    adjust_charge(charge, 5, reason="too little", by=Operator.objects.create(username=factories.unique("owner")))
    request = told(client, answer, attempts=1)
    assert request["attempts"][0]["charge"]["adjusted_usd"] == "0.000000005"
    assert Decimal(request["cost_usd"]) == Decimal(answer.headers["x-gateway-cost-usd"]) + Decimal("0.000000005")


def test_an_outsider_finds_nothing(
    client: httpx.Client, uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI
) -> None:
    answer = client.post("/chat/completions", json={"model": "fake-chat", "messages": ASK})
    told(client, answer, attempts=1)
    with uvicorn.client(factories.make_key(factories.make_tenant())[1]) as outsider:
        refused = outsider.get(f"/requests/{answer.headers['x-request-id']}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "request_not_found")
    with uvicorn.client(factories.make_key(platform.tenant, scopes=["chat"])[1]) as scoped:
        assert scoped.get(f"/requests/{answer.headers['x-request-id']}").status_code == 403


def test_no_text_of_a_call_is_kept(client: httpx.Client, platform: Platform, upstream: FakeOpenAI) -> None:
    upstream.script(Script(text="a canary in the answer"))
    answer = client.post("/chat/completions", json={"model": "fake-chat", "messages": ASK})
    row = row_of(answer.headers["x-request-id"])
    assert "canary" not in str({field.name: getattr(row, field.attname) for field in row._meta.fields})


def test_switched_off(committed: None, platform: Platform, tmp_path_factory: Any) -> None:
    with Forkery(tmp_path_factory.mktemp("forked")) as forkery:
        server = forkery.serve(request_log=False)
        server.wait_until_ready()
        platform.known_to(server)
        with server.client(platform.key) as client:
            answer = client.post("/chat/completions", json={"model": "mock-chat", "messages": ASK})
            request_id = answer.headers["x-request-id"]
            platform.settled(request_id)
            request = client.get(f"/requests/{request_id}").json()
        server.stop()
    assert request["status"] is None and request["attempts"][0]["charge"]["cost_usd"] == request["cost_usd"]
    assert not RequestRecord.objects.filter(request_id=request_id).exists()


def test_what_a_process_still_has_is_written_at_its_end(
    committed: None, platform: Platform, upstream: FakeOpenAI, tmp_path_factory: Any
) -> None:
    """A call with an idempotency key whose client has left goes on until the server stops."""
    upstream.script(Script(hold_before_headers=True))
    with Forkery(tmp_path_factory.mktemp("forked")) as forkery:
        server = forkery.serve()
        server.wait_until_ready()
        platform.known_to(server)
        headers = {"idempotency-key": factories.unique("key"), "x-request-id": "stopped"}
        body = {"model": "fake-chat", "messages": ASK}
        with server.asked("/chat/completions", body, key=platform.key, headers=headers):
            upstream.wait_until(lambda _: upstream.counters.held == 1)
        server.stop()
    row = RequestRecord.objects.get(request_id="stopped")
    assert (row.status, row.error_code) == (503, "server_stopped")


# The log by itself ---------------------------------------------------------------------------------------------------


def trace_of(tenant: int = 1, **fields: Any) -> Trace:
    principal = SimpleNamespace(tenant_id=tenant, key_id=1)
    trace = Trace(factories.unique("trace"), operation="chat", caller=SimpleNamespace(principal=principal))  # type: ignore[arg-type]
    for name, value in fields.items():
        setattr(trace, name, value)
    return trace


async def written(conninfo: str, *traces: Trace) -> None:
    log = RequestLog(conninfo, enabled=True)
    log.start()
    for trace in traces:
        log.add(trace)
    await log.close()


def test_texts_that_postgresql_does_not_take(committed: None) -> None:
    note = AttemptNote(attempt=str(uuid4()), deployment=1, model="m", provider="p", message="a\0b\\u0000")
    odd = trace_of(requested_model="x\0y" * 100, skipped=[("a\0", "é\\")], notes=[note], status=200)
    asyncio.run(written(GatewayConfig.from_settings().database_conninfo, odd))
    row = RequestRecord.objects.get(request_id=odd.request_id)
    assert row.requested_model == ("xy" * 100)[: len(row.requested_model)] and row.skipped == [["a", "é\\"]]
    assert row.attempts[0]["message"] == "ab\\u0000"


async def kept_three(traces: Iterable[Trace]) -> None:
    log = RequestLog("host=/nowhere", enabled=True, bounds=Bounds(kept=3))
    for trace in traces:
        log.add(trace)
    await log.close()


def test_rows_wait_for_the_database_up_to_a_bound(caplog: Any) -> None:
    asyncio.run(kept_three(trace_of(status=200) for _ in range(5)))
    assert [record.rows for record in caplog.records if record.message == "request_log.rows_dropped"] == [5]


def test_a_group_of_any_size(committed: None) -> None:
    wide = trace_of(skipped=[("m", "r")] * 5000, status=503)
    asyncio.run(written(GatewayConfig.from_settings().database_conninfo, wide))
    assert len(RequestRecord.objects.get(request_id=wide.request_id).skipped) == request_log.SKIPPED_KEPT


def test_purge_in_batches(committed: None, settings: Any) -> None:
    conninfo = GatewayConfig.from_settings().database_conninfo
    now = timezone.now()
    ages = {days: trace_of(started_at=now - dt.timedelta(days=days), status=200) for days in (1, 29, 31, 32, 33)}
    asyncio.run(written(conninfo, *ages.values()))
    kept = RequestRecord.objects.filter(request_id__in=[trace.request_id for trace in ages.values()])
    assert purge_requests(30, batch=2) == 3
    assert set(kept.values_list("request_id", flat=True)) == {ages[1].request_id, ages[29].request_id}
    settings.REQUEST_LOG_DAYS = 10
    purge_request_log()
    assert [row.request_id for row in kept] == [ages[1].request_id]
