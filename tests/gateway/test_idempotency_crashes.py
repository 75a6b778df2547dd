"""Processes killed with -9 while they make a call with an idempotency key: never paid twice, never stuck."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import threading
from collections import Counter
from collections.abc import Iterator
from uuid import UUID, uuid4

import httpx
import msgspec
import psycopg
import pytest
from django.conf import settings
from django.utils.timezone import now

from billing.models import Attempt, GatewayProcess
from billing.money import usd
from gateway.claims import Claim, Claims
from gateway.models import CallState, IdempotentCall
from tenants.models import ApiKey
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform
from tests.gateway.test_idempotency import ask_all, assert_conflict, is_replay, post
from tests.gateway.test_recovery import RESOLVED_WITHIN_SECONDS, Payer, Start, kill, payer, start
from tests.live import LiveServer, until

__all__ = ["payer", "start"]

PARALLEL = 20


@pytest.fixture
def key() -> str:
    return f"key-{uuid4()}"


@contextlib.contextmanager
def asked(server: LiveServer, payer: Payer, body: dict[str, object], key: str) -> Iterator[None]:
    """A call in a thread of its own, whose server dies before its answer."""

    def ask() -> None:
        with server.client(payer.key) as client, contextlib.suppress(httpx.TransportError):
            post(client, key, body)

    thread = threading.Thread(target=ask)
    thread.start()
    yield
    thread.join(timeout=10)
    assert not thread.is_alive()


def settled_answer(server: LiveServer, payer: Payer, body: dict[str, object], key: str) -> httpx.Response:
    """What a client is told in the end that does as it is told: it waits and asks again."""
    with server.client(payer.key) as client:
        first = post(client, key, body)
        assert_conflict(first, 409)
        assert "retry-after" in first.headers, "it is not resolved yet"
        return until(
            lambda: answer if "retry-after" not in (answer := post(client, key, body)).headers else None,
            seconds=RESOLVED_WITHIN_SECONDS,
            what="the call being resolved",
        )


def test_killed_while_the_provider_works(start: Start, payer: Payer, upstream: FakeOpenAI, key: str) -> None:
    """It may have cost something, so it is not made again: the client is told so, and how much."""
    victim, other = start(), start()
    body = payer.ask(victim)
    payer.ask(other)
    upstream.script(Script(hold_before_headers=True))
    with asked(victim, payer, body, key):
        upstream.wait_until(lambda records: any(record.held for record in records))
        kill(victim)
    answer = settled_answer(other, payer, body, key)
    error = assert_conflict(answer, 409)
    assert answer.headers["x-should-retry"] == "false" and "broken off" in error["message"]
    charge = payer.charge()
    assert charge.request_id == error["original_request_id"] and charge.usage_source == "unknown"
    assert error["cost_usd"] == usd(charge.cost_nano_usd)
    assert len(upstream.records) == 1, "the provider's own log"


@contextlib.contextmanager
def attempts_locked() -> Iterator[None]:
    """No attempt can be committed; what waits for it is cut off at the end."""
    with psycopg.connect(settings.DATABASE_CONNINFO) as blocker:
        blocker.execute("LOCK TABLE billing_attempt IN SHARE MODE")
        yield


def test_killed_before_anything_was_dispatched(start: Start, payer: Payer, upstream: FakeOpenAI, key: str) -> None:
    """It cost nothing: one of those who ask again makes it, and only one."""
    victim, other, third = start(), start(), start()
    body = {"model": payer.model.name, "messages": [{"role": "user", "content": "say it once"}]}
    for server in (victim, other, third):
        payer.ask(server)
    with attempts_locked():
        with asked(victim, payer, body, key):
            claims = IdempotentCall.objects.filter(tenant=payer.budget.tenant, state="running")
            row = until(claims.first, what="the claim")
            until(reservation_waits, what="the reservation waiting")
            kill(victim)
        with other.client(payer.key) as client:
            assert_conflict(post(client, key, body), 409)
        until(lambda: not reservation_waits(), what="the victim's statement being over")
    assert not Attempt.objects.filter(tenant=payer.budget.tenant).exists()
    assert upstream.records == []
    until(
        lambda: not GatewayProcess.objects.filter(pk=row.process).exists(),
        seconds=RESOLVED_WITHIN_SECONDS,
        what="the death being known",
    )
    upstream.script(Script(delay_seconds=0.3), times=None)
    statuses = asyncio.run(ask_all([other, third], payer.key, [key] * PARALLEL, body))
    assert statuses[200, False] == 1 and {status for status, _ in statuses} <= {200, 409}, statuses
    assert len(upstream.all_ended()) == 1, "the provider's own log"
    with other.client(payer.key) as client:
        assert is_replay(post(client, key, body))
    assert IdempotentCall.objects.get(tenant=payer.budget.tenant).state == "answered"


def reservation_waits() -> bool:
    with psycopg.connect(settings.DATABASE_CONNINFO) as connection:
        found = connection.execute(
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%ledger_reserve%' "
            "AND wait_event_type = 'Lock' AND datname = current_database()"
        ).fetchone()
        return found is not None


def test_a_process_that_others_may_take_for_dead_makes_no_such_call(
    start: Start, payer: Payer, upstream: FakeOpenAI, key: str
) -> None:
    """Its beats cannot be written, so its claims may be another's any moment. Control: calls without a key go on."""
    server = start()
    body = payer.ask(server)
    with psycopg.connect(settings.DATABASE_CONNINFO) as blocker:
        blocker.execute("LOCK TABLE billing_gatewayprocess IN SHARE MODE")
        with server.client(payer.key) as client:
            refused = until(
                lambda: answer if (answer := post(client, f"{key}-{uuid4()}", body)).status_code != 200 else None,
                seconds=RESOLVED_WITHIN_SECONDS,
                what="its silence",
            )
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
            assert client.post("/chat/completions", json=body).status_code == 200


def test_a_process_that_ends_in_order_says_what_it_broke_off(
    start: Start, payer: Payer, upstream: FakeOpenAI, key: str
) -> None:
    server, other = start(), start()
    body = payer.ask(server)
    payer.ask(other)
    upstream.script(Script(hold_before_headers=True))
    with server.asked("/chat/completions", body, key=payer.key, headers={"idempotency-key": key}):
        upstream.wait_until(lambda records: any(record.held for record in records))
    server.stop()
    with other.client(payer.key) as client:
        error = assert_conflict(post(client, key, body), 409)
    assert error["cost_usd"] == usd(payer.charge().cost_nano_usd)
    assert IdempotentCall.objects.get(tenant=payer.budget.tenant).state == "broken_off"


def claim_of(platform: Platform, digest: str) -> Claim:
    return Claim(
        tenant_id=platform.tenant.pk,
        api_key_id=ApiKey.objects.filter(tenant=platform.tenant).values_list("pk", flat=True)[0],
        key_digest=digest,
        request_digest="the same request",
        request_id=f"req-{uuid4()}",
        started_at=dt.datetime.now(dt.UTC),
    )


async def claim_at_once(process_ids: list[UUID], claims: list[Claim]) -> Counter[str]:
    """Each claim from a process of its own; how many were told what. All wait before one goes on."""
    doors = [Claims(settings.DATABASE_CONNINFO, process_id, dead_after_seconds=60) for process_id in process_ids]
    try:
        for door, claim in zip(doors, claims, strict=True):  # opens the connection
            await door.claim(msgspec.structs.replace(claim, id=uuid4(), key_digest=f"warm-{uuid4()}"))
        async with await psycopg.AsyncConnection.connect(settings.DATABASE_CONNINFO) as holder:
            await holder.execute("SELECT FROM gateway_idempotentcall WHERE state = 'running' FOR UPDATE")
            asking = [asyncio.create_task(door.claim(claim)) for door, claim in zip(doors, claims, strict=True)]
            await asyncio.to_thread(until, lambda: waiting_claims() == len(doors), what="all waiting")
        return Counter(standing.state for standing in await asyncio.gather(*asking))
    finally:
        for door in doors:
            await door.close()


def waiting_claims() -> int:
    with psycopg.connect(settings.DATABASE_CONNINFO) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bursar-claims' "
            "AND wait_event_type = 'Lock' AND datname = current_database()"
        ).fetchone()
        assert row is not None
        return int(row[0])


@pytest.mark.parametrize("same", [True, False], ids=["one key", "control: as many keys"])
def test_one_of_many_takes_over_from_the_dead(platform: Platform, key: str, same: bool) -> None:
    """Twenty processes, each over a connection of its own, ask at once for what a dead one left."""
    keys = [key if same else f"{key}-{number}" for number in range(PARALLEL)]
    living = [
        GatewayProcess.objects.create(id=uuid4(), host="h", pid=1, started_at=now(), beat_at=now(), recorder="r").pk
        for _ in range(PARALLEL)
    ]
    for digest in set(keys):
        left = claim_of(platform, digest)
        IdempotentCall.objects.create(
            **msgspec.structs.asdict(left), process=uuid4(), created_at=now(), state=CallState.RUNNING
        )
    told = asyncio.run(claim_at_once(living, [claim_of(platform, digest) for digest in keys]))
    assert told == ({"claimed": 1, "running": PARALLEL - 1} if same else {"claimed": PARALLEL})
    GatewayProcess.objects.filter(pk__in=living).delete()
