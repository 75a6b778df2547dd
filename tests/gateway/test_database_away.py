"""Calls while the database is away: hard budgets refuse, others are put into the spool, and all of it is in the books
when it is back, also when the process died meanwhile."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.core.management import call_command

from billing.models import Attempt, Budget, BudgetWindow, UsageRecord
from billing.money import NANO_PER_USD
from tenants.models import Tenant
from tests import factories
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.forked import ForkedServer, Forkery
from tests.gateway.conftest import Platform
from tests.live import until
from tests.relay import DatabaseRelay

FAST = {"heartbeat_seconds": 0.5, "process_dead_seconds": 2}


@pytest.fixture
def relay() -> Iterator[DatabaseRelay]:
    with DatabaseRelay(settings.DATABASE_CONNINFO) as relay:
        yield relay


@pytest.fixture
def forkery(relay: DatabaseRelay, tmp_path: Path, committed: None) -> Iterator[Forkery]:
    environment = {
        "DATABASE_URL": relay.url,
        "DATA_DIR": str(tmp_path / "data"),
        "API_KEY_PEPPER": settings.API_KEY_PEPPER.decode(),
        "ENCRYPTION_KEYS": ",".join(base64.b64encode(key).decode() for key in settings.ENCRYPTION_KEYS),
    }
    with Forkery(tmp_path, **environment) as forkery:
        yield forkery
        relay.cut()
        relay.restore()


class Payer:
    """A tenant with a budget of one kind or none."""

    def __init__(self, platform: Platform, *, hard: bool | None) -> None:
        self.tenant: Tenant = factories.make_tenant()
        factories.approve(self.tenant, platform.chat)
        self.key = factories.make_key(self.tenant)[1]
        self.budget: Budget | None = None
        if hard is not None:
            self.budget = Budget.objects.create(tenant=self.tenant, limit_nano_usd=NANO_PER_USD, hard=hard)

    def ask(self, server: ForkedServer, **more: Any) -> httpx.Response:
        body = {"model": "fake-chat", "messages": [{"role": "user", "content": "one two"}], **more}
        with server.client(self.key) as client:
            return client.post("/chat/completions", json=body)

    def records(self) -> list[UsageRecord]:
        return list(UsageRecord.objects.filter(tenant=self.tenant).order_by("attempt_id"))

    def in_the_books(self, count: int) -> list[UsageRecord]:
        records: list[UsageRecord] = until(
            lambda: self.records() if len(self.records()) >= count else None, seconds=30, what="the charges"
        )
        open_attempts = Attempt.objects.filter(tenant=self.tenant, state="open")
        until(lambda: not open_attempts.exists(), seconds=30, what="the end of every attempt")
        if self.budget is not None:
            window = BudgetWindow.objects.get(budget=self.budget)
            spent = sum(record.cost_nano_usd for record in records)
            assert (window.spent_nano_usd, window.reserved_nano_usd) == (spent, 0)
        call_command("verify_money", stdout=StringIO())
        assert len(self.records()) == count
        return records


def ready(forkery: Forkery, **config: Any) -> ForkedServer:
    server = forkery.serve(**FAST, **config)
    server.wait_until_ready()
    return server


def spools(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "data" / "flight").glob("*.spool"))


def test_hard_budgets_fail_closed_and_others_open(
    forkery: Forkery, relay: DatabaseRelay, platform: Platform, upstream: FakeOpenAI, tmp_path: Path
) -> None:
    hard, soft, free = (Payer(platform, hard=kind) for kind in (True, False, None))
    server = ready(forkery)
    assert [payer.ask(server).status_code for payer in (hard, soft, free)] == [200] * 3, "warm"
    before = len(upstream.records)
    relay.cut()
    refused = hard.ask(server)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
    assert len(upstream.records) == before, "and the provider was not asked"
    answers = [payer.ask(server) for payer in (soft, free, soft)]
    assert [answer.status_code for answer in answers] == [200] * 3
    streamed = soft.ask(server, stream=True)
    assert streamed.status_code == 200 and "[DONE]" in streamed.text
    (spool,) = spools(tmp_path)
    assert spool.read_bytes().count(b"\n") == 4
    assert len(soft.records()) <= 1 and len(free.records()) <= 1, "nothing of it is in the books yet"
    relay.restore()
    assert len(soft.in_the_books(4)) == 4 and len(free.in_the_books(2)) == 2 and len(hard.in_the_books(1)) == 1
    assert {record.usage_source for record in soft.records() + free.records()} == {"provider_final"}
    until(lambda: spool.stat().st_size == 0, what="the spool being emptied")
    again = hard.ask(server)
    assert again.status_code == 200, again.text
    server.stop()
    assert spools(tmp_path) == []


def test_a_spool_outlives_its_process(
    forkery: Forkery, relay: DatabaseRelay, platform: Platform, upstream: FakeOpenAI, tmp_path: Path
) -> None:
    """One call was whole and one under way when it was killed. A torn line at the end is nobody's."""
    soft = Payer(platform, hard=False)
    server = ready(forkery)
    soft.ask(server)
    soft.in_the_books(1)
    relay.cut()
    whole = soft.ask(server)
    upstream.script(Script(pieces=("one ", "two ", "three "), fault="hold", fault_after_events=3))
    body = {"model": "fake-chat", "messages": [{"role": "user", "content": "x"}], "stream": True}
    with server.client(soft.key) as client, client.stream("POST", "/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        assert any("two " in line for line in lines)
        server.kill()
    with spools(tmp_path)[0].open("ab") as file:
        file.write(b'{"id": "0190')
    relay.restore()
    successor = ready(forkery)
    first, second, third = soft.in_the_books(3)
    assert (second.usage_source, second.request_id) == ("provider_final", whole.headers["x-request-id"])
    assert (third.usage_source, third.ending) == ("local_count", "failed") and third.output_tokens > 0
    assert first.usage_source == "provider_final"
    until(lambda: spools(tmp_path) == [], what="the spool being gone")
    assert "spool.line_torn" in successor.log.read_text()


def test_killed_when_the_spool_was_written(
    forkery: Forkery, relay: DatabaseRelay, platform: Platform, upstream: FakeOpenAI
) -> None:
    """On disk, and nothing dispatched: it is voided."""
    soft = Payer(platform, hard=False)
    server = ready(forkery, fault_points="spool_written:kill")
    soft.ask(server)
    soft.in_the_books(1)
    before = len(upstream.records)
    relay.cut()
    with pytest.raises(httpx.TransportError):
        soft.ask(server)
    server.wait_until_dead()
    relay.restore()
    ready(forkery)
    voided = Attempt.objects.filter(tenant=soft.tenant, state="voided", failure="process_died")
    until(voided.exists, seconds=30, what="the void")
    assert len(upstream.records) == before
    soft.in_the_books(1)


def test_what_ends_while_the_database_is_away_is_not_lost_at_shutdown(
    forkery: Forkery, relay: DatabaseRelay, platform: Platform, upstream: FakeOpenAI
) -> None:
    hard = Payer(platform, hard=True)
    server = ready(forkery)
    hard.ask(server)
    hard.in_the_books(1)
    upstream.script(Script(hold_before_headers=True, text="late"))
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(hard.ask(server)))
    asking.start()
    upstream.wait_until(lambda records: any(record.held for record in records))
    relay.cut()
    upstream.release()
    asking.join(timeout=10)
    assert [answer.status_code for answer in answers] == [200]
    server.stop()
    relay.restore()
    ready(forkery)
    assert [record.usage_source for record in hard.in_the_books(2)] == ["provider_final"] * 2


def test_a_budget_that_became_hard_meanwhile_still_gets_the_charge(
    forkery: Forkery, relay: DatabaseRelay, platform: Platform
) -> None:
    soft = Payer(platform, hard=False)
    assert soft.budget is not None
    server = ready(forkery)
    soft.ask(server)
    (first,) = soft.in_the_books(1)
    relay.cut()
    assert soft.ask(server).status_code == 200
    Budget.objects.filter(pk=soft.budget.pk).update(hard=True, limit_nano_usd=first.cost_nano_usd)
    relay.restore()
    soft.in_the_books(2)
    assert BudgetWindow.objects.get(budget=soft.budget).overrun_nano_usd > 0, "and says that it was not gated"


def test_what_is_known_is_not_believed_for_ever(forkery: Forkery, relay: DatabaseRelay, platform: Platform) -> None:
    """A key may have been revoked in a database that cannot be asked."""
    free = Payer(platform, hard=None)
    server = ready(forkery, config_stale_seconds=3)
    assert free.ask(server).status_code == 200
    relay.cut()
    assert free.ask(server).status_code == 200, "warm"
    until(lambda: free.ask(server).status_code == 503, what="the end of belief")
    relay.restore()
    until(lambda: free.ask(server).status_code == 200, what="the database being back")
