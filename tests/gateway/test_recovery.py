"""Processes killed with -9 in the middle of a call: what they held is resolved by another, from the flight recorder."""

from __future__ import annotations

import datetime as dt
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db.models.functions import Now

from billing.entries import new_attempt_id
from billing.models import Attempt, Budget, BudgetWindow, GatewayProcess, UsageRecord
from billing.money import NANO_PER_USD
from billing.verification import exposures
from providers.models import Model
from tests import factories
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform, wait_for_models
from tests.live import LiveServer, until

BEAT_SECONDS, DEAD_SECONDS = 1, 3
RESOLVED_WITHIN_SECONDS = 45
INPUT_NANO_USD, OUTPUT_NANO_USD = 150, 600
"""What `factories.PRICES` come to for one token."""

Start = Callable[[], LiveServer]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers that notice a death within seconds; all are gone after the test."""
    running: list[LiveServer] = []

    def start() -> LiveServer:
        intervals = {"HEARTBEAT_SECONDS": str(BEAT_SECONDS), "PROCESS_DEAD_SECONDS": str(DEAD_SECONDS)}
        running.append(LiveServer("uvicorn", tmp_path, **intervals))
        return running[-1]

    yield start
    for server in running:
        server.stop()


@dataclass
class Payer:
    """A tenant with a hard budget, and what one call of it is."""

    key: str
    model: Model
    budget: Budget

    def ask(self, server: LiveServer, **more: Any) -> dict[str, Any]:
        wait_for_models(server, self.key, self.model.name)
        return {"model": self.model.name, "messages": [{"role": "user", "content": "hello"}], **more}

    @property
    def window(self) -> BudgetWindow:
        return BudgetWindow.objects.get(budget=self.budget)

    def open(self) -> int:
        return Attempt.objects.filter(tenant=self.budget.tenant, state="open").count()

    def charge(self) -> UsageRecord:
        return UsageRecord.objects.get(tenant=self.budget.tenant)


@pytest.fixture
def payer(platform: Platform) -> Payer:
    model = factories.make_model(platform.chat.deployments.get().provider, upstream_model="gpt-5.2")
    tenant = factories.make_tenant()
    factories.approve(tenant, model)
    budget = Budget.objects.create(tenant=tenant, limit_nano_usd=NANO_PER_USD)
    return Payer(factories.make_key(tenant)[1], model, budget)


@contextmanager
def call_broken_off(server: LiveServer, payer: Payer, body: dict[str, Any]) -> Iterator[None]:
    """A call in a thread of its own, whose server dies before its answer."""
    failures: list[Exception] = []

    def post() -> None:
        with server.client(payer.key) as client, pytest.raises(httpx.TransportError):
            client.post("/chat/completions", json=body)
            failures.append(AssertionError("answered"))

    thread = threading.Thread(target=post)
    thread.start()
    yield
    thread.join(timeout=10)
    assert not thread.is_alive() and failures == []


def process_of(server: LiveServer) -> GatewayProcess:
    return GatewayProcess.objects.get(pid=server.process.pid)


def kill(server: LiveServer) -> float:
    """Kill it with -9; returns when."""
    server.process.kill()
    server.process.wait()
    return time.monotonic()


def resolved_by_another(payer: Payer, victim: LiveServer, start: Start, *, killed_at: float) -> UsageRecord:
    """Control: by itself the hold stays, however long its process is dead. Then a second process resolves it."""
    silent = GatewayProcess.objects.filter(
        pid=victim.process.pid, beat_at__lt=Now() - dt.timedelta(seconds=DEAD_SECONDS)
    )
    until(silent.exists, what="the victim's silence")
    assert payer.open() == 1 and payer.window.reserved_nano_usd > 0, "nothing but a sweep frees it"
    start()
    until(lambda: not payer.open(), seconds=RESOLVED_WITHIN_SECONDS, what="the end of the attempt")
    assert time.monotonic() - killed_at < RESOLVED_WITHIN_SECONDS
    charge = payer.charge()
    assert payer.window.reserved_nano_usd == 0
    assert payer.window.spent_nano_usd == charge.cost_nano_usd
    until(lambda: not Attempt.objects.filter(state="open").exists(), what="the end of every attempt")
    call_command("verify_money", stdout=StringIO())
    return charge


def test_killed_while_the_provider_is_silent(start: Start, payer: Payer, upstream: FakeOpenAI) -> None:
    victim = start()
    body = payer.ask(victim, user="u-1")
    upstream.script(Script(hold_before_headers=True))
    with call_broken_off(victim, payer, body):
        upstream.wait_until(lambda records: any(record.held for record in records))
        killed_at = kill(victim)
    charge = resolved_by_another(payer, victim, start, killed_at=killed_at)
    assert (charge.ending, charge.usage_source, charge.user) == ("failed", "unknown", "u-1")
    assert charge.cost_nano_usd == 0, "nobody knows whether the request arrived"
    (exposure,) = [row for row in exposures() if row.provider_name == "fake"]
    assert exposure.bound_nano_usd == charge.attempt.reserved_nano_usd > 0


def test_killed_in_the_middle_of_a_stream(start: Start, payer: Payer, upstream: FakeOpenAI) -> None:
    victim = start()
    body = payer.ask(victim, stream=True)
    upstream.script(Script(pieces=("one ", "two ", "three "), fault="hold", fault_after_events=3))
    with victim.client(payer.key) as client, client.stream("POST", "/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        assert any("two " in line for line in lines)
        killed_at = kill(victim)
        with pytest.raises(httpx.TransportError):
            list(lines)
    charge = resolved_by_another(payer, victim, start, killed_at=killed_at)
    assert (charge.ending, charge.usage_source, charge.stream) == ("failed", "local_count", True)
    assert charge.output_tokens in (1, 2), "four bytes at the first mark, eight if both came at once"
    assert charge.cost_nano_usd == charge.input_tokens * INPUT_NANO_USD + charge.output_tokens * OUTPUT_NANO_USD


def ledger_sessions() -> set[int]:
    """The ledgers' connections, by the process id of their backend."""
    with psycopg.connect(settings.DATABASE_CONNINFO) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'bursar-ledger' AND datname = current_database()"
        )
        return {pid for (pid,) in rows}


def test_killed_after_the_answer_and_before_its_charge(start: Start, payer: Payer) -> None:
    """What the client was told is what is charged, to the last nano-USD, though the database had not heard of it."""
    others = ledger_sessions()
    victim = start()
    body = payer.ask(victim)
    with psycopg.connect(settings.DATABASE_CONNINFO) as blocker:
        blocker.execute("LOCK TABLE billing_usagerecord IN SHARE MODE")
        with victim.client(payer.key) as client:
            answer = client.post("/chat/completions", json=body)
        assert answer.status_code == 200 and payer.open() == 1
        killed_at = kill(victim)
        until(lambda: ledger_sessions() <= others, what="the victim's statements being over")
    charge = resolved_by_another(payer, victim, start, killed_at=killed_at)
    usage = answer.json()["usage"]
    assert (charge.ending, charge.usage_source) == ("completed", "provider_final")
    assert (charge.input_tokens, charge.output_tokens) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert charge.provider_usage == usage
    assert Decimal(charge.cost_nano_usd) / NANO_PER_USD == Decimal(answer.headers["x-gateway-cost-usd"])


def test_the_living_are_left_alone(start: Start, payer: Payer, upstream: FakeOpenAI) -> None:
    """A call that takes longer than it takes to be dead, while another process sweeps."""
    slow, sweeper = start(), start()
    body = payer.ask(slow)
    upstream.script(Script(hold_before_headers=True))
    answers: list[httpx.Response] = []

    def post() -> None:
        with slow.client(payer.key) as client:
            answers.append(client.post("/chat/completions", json=body))

    thread = threading.Thread(target=post)
    thread.start()
    upstream.wait_until(lambda records: any(record.held for record in records))
    begun = Attempt.objects.get(tenant=payer.budget.tenant).created_at
    long_after = begun + dt.timedelta(seconds=DEAD_SECONDS + 2 * BEAT_SECONDS)
    both = GatewayProcess.objects.filter(pid__in=[slow.process.pid, sweeper.process.pid], beat_at__gt=long_after)
    until(lambda: both.count() == 2, what="time passing for both")
    assert payer.open() == 1
    upstream.release()
    thread.join(timeout=10)
    assert [answer.status_code for answer in answers] == [200]
    until(lambda: not payer.open(), what="the charge")
    assert payer.charge().usage_source == "provider_final"


def test_a_process_voids_what_it_does_not_know_of(start: Start, payer: Payer) -> None:
    """A reservation that was committed, though its process was told that it was not."""
    owner = process_of(start())
    now = dt.datetime.now(dt.UTC)
    old, young = (
        Attempt.objects.create(
            id=uuid.UUID(new_attempt_id()), tenant=payer.budget.tenant, process=owner.pk, created_at=created_at,
            api_key_id=1, deployment_id=1, operation="chat",
        )
        for created_at in (now - dt.timedelta(seconds=4 * DEAD_SECONDS + 1), now + dt.timedelta(hours=1))
    )  # fmt: skip
    until(lambda: Attempt.objects.filter(pk=old.pk, state="voided", failure="reservation_unheard"), what="the void")
    young.refresh_from_db()
    assert young.state == "open"
    young.delete()


def test_a_process_that_ends_in_order_leaves_nothing(start: Start, payer: Payer) -> None:
    server = start()
    with server.client(payer.key) as client:
        assert client.post("/chat/completions", json=payer.ask(server)).status_code == 200
    row = process_of(server)
    recorder = Path(row.recorder)
    assert recorder.parent == settings.FLIGHT_DIR and recorder.exists()
    server.stop()
    assert server.process.returncode in (0, -15)
    assert not GatewayProcess.objects.filter(pk=row.pk).exists() and not recorder.exists()
    assert payer.charge().usage_source == "provider_final"
