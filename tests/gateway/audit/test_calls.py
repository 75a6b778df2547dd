"""What the audit log has of calls through the public door, whose it is, and what it never has."""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db import connection
from django.utils import timezone

from billing.models import Budget
from gateway.audit.kept_texts import purge_texts, read, seal_texts_anew
from gateway.audit.sending import audit_sinks, send_events
from gateway.audit.sinks import OpenTelemetry, Webhook
from gateway.audit.verification import verify
from gateway.models import KeptText, SinkCursor
from providers.transport import Transport
from tenants.models import PLATFORM, AuditChain, AuditEvent, Tenant
from tests import factories
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.webhook_receiver import WebhookReceiver
from tests.forked import ForkedServer, Forkery
from tests.gateway.conftest import Platform
from tests.live import LiveServer, until

CANARY = "a canary in the prompt"
ASK = [{"role": "user", "content": CANARY}]
SECRET = "whsec_" + "c2VjcmV0LW9mLTI0LWJ5dGVzLWxvbmchIQ=="


@pytest.fixture
def client(uvicorn: LiveServer, platform: Platform) -> Iterator[httpx.Client]:
    platform.known_to(uvicorn)
    with uvicorn.client(platform.key) as client:
        yield client


def story(request_id: str, *, ends: str) -> list[AuditEvent]:
    """A call's events in the order of its chain, once its end is written."""
    events = AuditEvent.objects.filter(object_type="request", object_id=request_id).order_by("sequence")
    until(lambda: events.filter(event=f"request.{ends}").exists(), what=f"request.{ends}")
    return list(events)


def names(events: list[AuditEvent]) -> list[str]:
    return [event.event.removeprefix("request.") for event in events]


def chat(client: httpx.Client, model: str = "fake-chat", **members: Any) -> httpx.Response:
    return client.post("/chat/completions", json={"model": model, "messages": ASK, **members})


def test_a_call_that_is_answered(client: httpx.Client, platform: Platform) -> None:
    for members in ({}, {"stream": True}):
        answer = chat(client, user="ada", **members)
        begun, ended = story(answer.headers["x-request-id"], ends="completed")
        assert begun.event == "request.started" and begun.details["user"] == "ada"
        assert (ended.tenant_id, ended.actor_kind, ended.object_name) == (platform.tenant.pk, "key", "fake-chat")
        told = ended.details
        assert (told["status"], told["error_code"], told["model"], told["provider"]) == (200, "", "fake-chat", "fake")
        assert told["attempts"] == 1 and told["input_tokens"] > 0 and told["text_sha256"] == ""
        assert told["cost_nano_usd"] == platform.settled(ended.object_id).cost_nano_usd
        assert begun.happened_at <= ended.happened_at <= timezone.now()
    assert CANARY not in str(list(AuditEvent.objects.values_list("data", flat=True)))


def test_calls_that_fail_or_are_blocked(client: httpx.Client, platform: Platform, upstream: FakeOpenAI) -> None:
    upstream.script(Script(status=500), times=3)
    failed = story(chat(client).headers["x-request-id"], ends="failed")
    assert names(failed)[0] == "started" and "retried" in names(failed)
    unknown = story(chat(client, "nobody-has-it").headers["x-request-id"], ends="failed")
    assert names(unknown) == ["started", "failed"] and unknown[-1].details["error_code"] == "model_not_found"
    poor = factories.make_tenant()
    factories.approve(poor, platform.chat)
    Budget.objects.create(tenant=poor, limit_nano_usd=1, hard=True)
    key = factories.make_key(poor)[1]
    with httpx.Client(base_url=client.base_url, headers={"authorization": f"Bearer {key}"}) as other:
        answer = until(lambda: one if (one := chat(other)).status_code == 402 else None, what="a budget's refusal")
    blocked = story(answer.headers["x-request-id"], ends="blocked")
    assert names(blocked) == ["started", "blocked"] and blocked[-1].details["error_code"] == "budget_exceeded"
    assert {event.tenant_id for event in blocked} == {poor.pk}, "each tenant has a chain of its own"


def test_a_fallback(client: httpx.Client, platform: Platform, upstream: FakeOpenAI, uvicorn: LiveServer) -> None:
    broken = factories.make_provider(upstream.base_url, secret="wrong key", name="broken")
    fake = platform.chat.deployments.get().provider
    group = factories.make_group(
        factories.make_model(broken, name="breaks", upstream_model="gpt-5.2"),
        factories.make_model(fake, name="serves", upstream_model="gpt-5.2"),
    )
    factories.approve(platform.tenant, group)
    platform.known_to(uvicorn, group.name)
    events = story(chat(client, group.name).headers["x-request-id"], ends="completed")
    assert names(events) == ["started", "fallback", "completed"]
    told = events[1].details
    assert (told["left_provider"], told["provider"], told["model"]) == ("broken", "fake", "serves") and told["failure"]
    assert events[0].happened_at <= events[1].happened_at <= events[2].happened_at


def test_a_client_that_leaves(uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI) -> None:
    upstream.script(Script(hold_before_headers=True))
    request_id = factories.unique("left")
    body = {"model": "fake-chat", "messages": ASK}
    with uvicorn.asked("/chat/completions", body, key=platform.key, headers={"x-request-id": request_id}):
        upstream.wait_until(lambda records: any(record.held for record in records))
    assert story(request_id, ends="cancelled")[-1].details["error_code"] == "client_left"


def test_the_chains_of_all_of_them_hold(client: httpx.Client, platform: Platform) -> None:
    for _ in range(30):
        last = chat(client, "mock-chat")
    story(last.headers["x-request-id"], ends="completed")
    found = verify()
    assert found.breaks == [] and found.events >= 60
    head = AuditChain.objects.get(chain=platform.tenant.pk)
    assert head.sequence == AuditEvent.objects.filter(tenant=platform.tenant).count()


# Texts ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def keeper(platform: Platform) -> tuple[Tenant, str]:
    """A tenant that keeps prompts and answers for a week, and its key."""
    tenant = factories.make_tenant(keep_text_days=7)
    factories.approve(tenant, platform.chat)
    return tenant, factories.make_key(tenant)[1]


def test_texts_are_kept_sealed_and_for_their_days(
    uvicorn: LiveServer, platform: Platform, keeper: tuple[Tenant, str], upstream: FakeOpenAI, settings: Any
) -> None:
    tenant, key = keeper
    platform.known_to(uvicorn)
    for stream in (False, True):
        upstream.script(Script(text="a canary in the answer"))
        with uvicorn.client(key) as client:
            until(lambda client=client: client.get("/models").json()["data"], what="its model")
            answer = chat(client, stream=stream)
        ended = story(answer.headers["x-request-id"], ends="completed")[-1]
        kept: KeptText = until(
            KeptText.objects.filter(tenant=tenant, request_id=ended.object_id).first, what="its text"
        )
        with connection.cursor() as cursor:
            cursor.execute("SELECT row::text FROM gateway_kepttext row")
            assert "canary" not in str(cursor.fetchall())
        opened = read(kept)
        assert json.loads(opened.request)["messages"] == ASK and "canary" in opened.answer
        assert ended.details["text_sha256"] == opened.digest
        assert kept.expires_at - kept.created_at == dt.timedelta(days=7)
    settings.ENCRYPTION_KEYS = [new := os.urandom(32), *settings.ENCRYPTION_KEYS]
    assert seal_texts_anew(batch=1) == (2, 0) and seal_texts_anew() == (0, 0)
    settings.ENCRYPTION_KEYS = [new]
    kept.refresh_from_db()
    assert read(kept) == opened and opened.digest == ended.details["text_sha256"], "still the one of its event"
    settings.ENCRYPTION_KEYS = [os.urandom(32)]
    assert seal_texts_anew() == (0, 2)
    assert purge_texts() == 0
    KeptText.objects.filter(pk=kept.pk).update(expires_at=timezone.now() - dt.timedelta(seconds=1))
    assert purge_texts(batch=1) == 1 and not KeptText.objects.filter(pk=kept.pk).exists()
    assert [found for found in verify().breaks if found.chain == tenant.pk] == [], "its going breaks no chain"


def test_texts_of_others_are_not_kept(client: httpx.Client) -> None:
    answer = chat(client)
    story(answer.headers["x-request-id"], ends="completed")
    assert not KeptText.objects.filter(request_id=answer.headers["x-request-id"]).exists()


# Elsewhere ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as receiver:
        yield receiver


def test_every_sink_gets_every_event_in_order_and_again_after_a_failure(
    client: httpx.Client, platform: Platform, receiver: WebhookReceiver, settings: Any, capfd: Any
) -> None:
    story(chat(client).headers["x-request-id"], ends="completed")
    settings.AUDIT_SINKS = ("database", "json_log", "webhook", "opentelemetry")
    settings.SINK_WEBHOOK_URL, settings.SINK_WEBHOOK_SECRET = f"{receiver.url}/audit", SECRET
    settings.SINK_OTLP_URL, settings.SINK_OTLP_TOKEN = receiver.url, "a-token"
    sinks = audit_sinks()
    assert [sink.name for sink in sinks] == ["json_log", "webhook", "opentelemetry"]
    receiver.answers = [503]
    send_events(sinks)
    send_events(sinks)
    stored = [
        (event.chain, event.sequence, event.digest) for event in AuditEvent.objects.order_by("tenant_id", "sequence")
    ]
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert sorted((line["chain"], line["sequence"], line["digest"]) for line in lines) == sorted(stored)
    posts = [one for one in receiver.received if one.path.endswith("/audit")][
        1:
    ]  # the first was refused, and came again
    batches = [one.verified(SECRET, now=time.time()) for one in posts]
    got = [(one["chain"], one["sequence"], one["digest"]) for batch in batches for one in batch["data"]]
    assert sorted(got) == sorted(stored)
    mine = [sequence for chain, sequence, _ in got if chain == platform.tenant.pk]
    assert mine == list(range(1, len(mine) + 1)) and {batch["type"] for batch in batches} == {"audit.batch"}
    otlp = [one for one in receiver.received if one.path.endswith("/v1/logs")]
    assert {one.headers["authorization"] for one in otlp} == {"Bearer a-token"}
    records = [
        record for one in otlp for record in json.loads(one.body)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    ]
    assert len(records) == len(stored) and {"request.started", "request.completed"} <= {
        record["eventName"] for record in records
    }
    attributes = {attribute["key"]: attribute["value"] for attribute in records[-1]["attributes"]}
    assert attributes["bursar.chain"]["intValue"].isdigit() and len(attributes["bursar.digest"]["stringValue"]) == 64
    before = len(receiver.received)
    assert send_events(sinks) == 0 and len(receiver.received) == before, "nobody is told twice"
    assert SinkCursor.objects.filter(chain=PLATFORM).count() in (0, 3)
    assert CANARY not in str([one.body for one in receiver.received])


def test_a_sink_that_is_away(caplog: pytest.LogCaptureFixture, client: httpx.Client) -> None:
    story(chat(client).headers["x-request-id"], ends="completed")
    assert send_events([OpenTelemetry("http://127.0.0.1:9", "a-token", scope="s", name="away")]) == 0
    (record,) = [record for record in caplog.records if record.message == "audit.sink_failed"]
    assert record.sink == "away" and "a-token" not in str(vars(record))
    assert not SinkCursor.objects.filter(sink="away").exists()


@pytest.fixture
def forkery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forkery]:
    with Forkery(tmp_path_factory.mktemp("forked")) as forkery:
        yield forkery


def asked(server: ForkedServer, platform: Platform) -> str:
    server.wait_until_ready()
    platform.known_to(server)
    with server.client(platform.key) as client:
        request_id = str(chat(client, "mock-chat").headers["x-request-id"])
    platform.settled(request_id)
    server.stop()
    return request_id


def test_switched_off_nothing_is_written_and_calls_go_on(platform: Platform, forkery: Forkery) -> None:
    server = forkery.serve(audit_calls=False, usage_sinks=[])
    request_id = asked(server, platform)
    assert not AuditEvent.objects.filter(object_id=request_id).exists()
    assert '"event":"call"' not in Path(server.log).read_text()


async def test_a_signed_batch_of_usage(receiver: WebhookReceiver) -> None:
    transport = Transport()
    record = {"time": "2026-01-01T00:00:00+00:00", "time_unix_us": 1, "event": "usage", "cost_usd": "0.1", "n": 1}
    try:
        await Webhook(f"{receiver.url}/usage", SECRET, type="usage.batch").send([record], transport=transport)
    finally:
        await transport.close()
    (one,) = receiver.received
    assert one.verified(SECRET, now=time.time())["data"] == [record]
