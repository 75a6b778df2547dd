"""M10 and M13: midnight comes, and limits, prices, extras and budgets are edited, while calls are under way."""

from __future__ import annotations

import datetime as dt
import os
import struct
import threading
import time
import zoneinfo
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from billing.models import Attempt, Budget, BudgetOverride, BudgetWindow, Price, UsageRecord
from billing.services import read_rates, set_price
from tests import factories
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform
from tests.gateway.money import MILLI_USD, Payer, books_balance, make_payer
from tests.live import CHANGES_SEEN_SECONDS, LiveServer, until


@pytest.fixture
def payer(platform: Platform) -> Payer:
    return make_payer(platform)


@contextmanager
def calls_under_way(server: LiveServer, payer: Payer, upstream: FakeOpenAI, *, count: int = 1) -> Iterator[list[Any]]:
    """Calls that the provider holds while the block runs; afterwards the list has their answers."""
    answers: list[Any] = []
    upstream.script(Script(hold_before_headers=True), times=count)
    threads = [threading.Thread(target=lambda: answers.append(payer.ask(server))) for _ in range(count)]
    for thread in threads:
        thread.start()
    upstream.wait_until(lambda records: upstream.counters.held == count)
    try:
        yield answers
    finally:
        upstream.release()
        for thread in threads:
            thread.join()


def window_of(budget: Budget) -> tuple[int, int]:
    row = BudgetWindow.objects.get(budget=budget)
    return row.spent_nano_usd, row.reserved_nano_usd


def test_a_limit_lowered_below_its_use_blocks_and_settles(
    uvicorn: LiveServer, payer: Payer, upstream: FakeOpenAI
) -> None:
    budget = payer.budget(limit_nano_usd=10 * MILLI_USD)
    payer.known_to(uvicorn)
    with calls_under_way(uvicorn, payer, upstream, count=3) as answers:
        assert window_of(budget) == (0, 3 * MILLI_USD)
        Budget.objects.filter(pk=budget.pk).update(limit_nano_usd=MILLI_USD)
        refused = payer.ask(uvicorn)
        assert refused.status_code == 402
        told = {name: refused.json()["error"][name] for name in ("limit_usd", "spent_usd", "reserved_usd")}
        assert told == {"limit_usd": "0.001", "spent_usd": "0", "reserved_usd": "0.003"}
    assert [answer.status_code for answer in answers] == [200] * 3, "what was let in is answered"
    books_balance()
    assert window_of(budget) == (3 * MILLI_USD, 0)
    assert payer.ask(uvicorn).status_code == 402, "the limit is what it says, not what it was"
    Budget.objects.filter(pk=budget.pk).update(limit_nano_usd=4 * MILLI_USD)
    until(lambda: payer.ask(uvicorn).status_code == 200, seconds=CHANGES_SEEN_SECONDS, what="the raised limit")
    assert payer.ask(uvicorn).status_code == 402
    books_balance()


def test_an_extra_that_runs_out_under_way(uvicorn: LiveServer, payer: Payer, upstream: FakeOpenAI) -> None:
    budget = payer.budget(limit_nano_usd=MILLI_USD)
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    extra = BudgetOverride.objects.create(budget=budget, extra_nano_usd=MILLI_USD, expires_at=soon, reason="x")
    payer.known_to(uvicorn)
    with calls_under_way(uvicorn, payer, upstream, count=2) as answers:
        BudgetOverride.objects.filter(pk=extra.pk).update(expires_at=dt.datetime.now(dt.UTC))
        assert payer.ask(uvicorn).status_code == 402
    assert [answer.status_code for answer in answers] == [200, 200]
    books_balance()
    assert window_of(budget) == (2 * MILLI_USD, 0)
    assert BudgetWindow.objects.get(budget=budget).ceiling_nano_usd == 2 * MILLI_USD, "what it was admitted under"


def test_a_budget_switched_off_under_way_still_gets_its_charge(
    uvicorn: LiveServer, payer: Payer, upstream: FakeOpenAI
) -> None:
    budget = payer.budget(limit_nano_usd=MILLI_USD)
    payer.known_to(uvicorn)
    with calls_under_way(uvicorn, payer, upstream):
        Budget.objects.filter(pk=budget.pk).update(enabled=False)
        until(lambda: payer.ask(uvicorn).status_code == 200, seconds=CHANGES_SEEN_SECONDS, what="the budget being off")
    books_balance()
    assert window_of(budget) == (MILLI_USD, 0), "the call that was held in it, and none that came later"


@pytest.mark.parametrize("change", ["dearer", "cheaper"])
def test_a_call_is_charged_at_the_price_of_its_start(
    uvicorn: LiveServer, payer: Payer, upstream: FakeOpenAI, change: str
) -> None:
    payer.budget(limit_nano_usd=1000 * MILLI_USD)
    payer.known_to(uvicorn)
    old = Price.objects.get(model=payer.model)
    rate = {"dearer": "3000", "cheaper": "500"}[change]
    new_cost = {"dearer": 3 * MILLI_USD, "cheaper": MILLI_USD // 2}[change]
    with calls_under_way(uvicorn, payer, upstream) as answers:
        new = set_price(payer.model, read_rates({"requests": rate}))

        def charged_anew() -> bool:
            answer = payer.ask(uvicorn)
            return charge_of(answer).price_id == new.pk

        until(charged_anew, seconds=2 * CHANGES_SEEN_SECONDS, what="the new price")
    charge = charge_of(answers[0])
    assert (charge.price_id, charge.cost_nano_usd) == (old.pk, MILLI_USD)
    after = charge_of(payer.ask(uvicorn))
    assert (after.price_id, after.cost_nano_usd) == (new.pk, new_cost)
    books_balance()


def charge_of(answer: Any) -> UsageRecord:
    found = UsageRecord.objects.filter(request_id=answer.headers["x-request-id"])
    charge: UsageRecord = until(found.first, what="the charge")
    return charge


ZONE = "Test/Soon"


def make_zone(folder: Path, *, offset_seconds: int) -> None:
    """A time zone as a file of the system's database has it (RFC 8536), with one offset for ever."""
    name = b"SOON\0"
    header = struct.pack(">4s16x6l", b"TZif", 0, 0, 0, 0, 1, len(name))
    path = folder / ZONE
    path.parent.mkdir(parents=True)
    path.write_bytes(header + struct.pack(">lbb", offset_seconds, 0, 0) + name)


def test_a_call_before_midnight_is_charged_to_the_day_it_began_in(
    committed: None, platform: Platform, upstream: FakeOpenAI, tmp_path: Path
) -> None:
    """Midnight cannot be waited for, so the tenant lives in a zone where it is about to come."""
    zones = tmp_path / "zones"
    places = os.pathsep.join([str(zones), *zoneinfo.TZPATH])
    server = LiveServer("uvicorn", tmp_path, PYTHONTZPATH=places)
    try:
        first = make_payer(platform)
        first.known_to(server)  # the model is known; a tenant is when it first calls
        midnight = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(seconds=4)
        since_midnight = (midnight - midnight.replace(hour=0, minute=0, second=0)).seconds
        make_zone(zones, offset_seconds=-since_midnight)
        tenant = factories.make_tenant(timezone=ZONE)
        factories.approve(tenant, first.model)
        payer = Payer(tenant, factories.make_key(tenant)[1], first.model)
        budget = payer.budget(limit_nano_usd=MILLI_USD, period="day")
        with calls_under_way(server, payer, upstream) as answers:
            assert Attempt.objects.get(tenant=tenant).created_at < midnight, "the machine was too slow for this test"
            assert payer.ask(server).status_code == 402, "the day's only call is under way"
            time.sleep(max(0.0, (midnight - dt.datetime.now(dt.UTC)).total_seconds()))
            assert payer.ask(server).status_code == 200, "a new day"
            refused = payer.ask(server)
        assert [answer.status_code for answer in answers] == [200]
        books_balance()
    finally:
        server.stop()
    day = dt.timedelta(days=1)
    assert refused.status_code == 402
    assert dt.datetime.fromisoformat(refused.json()["error"]["resets_at"]) == midnight + day
    old, new = BudgetWindow.objects.filter(budget=budget).order_by("starts_at")
    assert (old.starts_at, old.ends_at, old.spent_nano_usd) == (midnight - day, midnight, MILLI_USD)
    assert (new.starts_at, new.ends_at, new.spent_nano_usd) == (midnight, midnight + day, MILLI_USD)
    settled = Attempt.objects.get(tenant=tenant, windows=[old.pk])
    assert settled.created_at < midnight < settled.ended_at
