"""M6: sets of windows that cross are locked in one order, so no two batches ever wait for each other."""

from __future__ import annotations

import random
import threading

import psycopg
import pytest
from django.conf import settings

from billing import sql
from billing.budgets import Hold
from billing.entries import Void, new_attempt_id
from billing.models import Budget, BudgetWindow
from billing.verification import verify
from tests import factories
from tests.billing.guards import ORDER, without
from tests.billing.test_ledger import NOW, reservation, settlement
from tests.billing.test_one_end import execute

pytestmark = pytest.mark.django_db(transaction=True)

WINDOWS, SIDES, BATCHES, CALLS = 12, 4, 60, 8


@pytest.fixture
def windows() -> list[BudgetWindow]:
    """Of many users each."""
    budget = Budget.objects.create(tenant=factories.make_tenant(), scope="user", limit_nano_usd=10**12)
    return [BudgetWindow.objects.create(budget=budget, subject=f"u{n}", starts_at=NOW) for n in range(WINDOWS)]


def sessions() -> list[psycopg.Connection]:
    """Half of them odd and half even: their number is what the control orders by."""
    opened: list[psycopg.Connection] = []
    kept: list[psycopg.Connection] = []
    while len(kept) < SIDES:
        opened.append(psycopg.connect(settings.DATABASE_CONNINFO, autocommit=True))
        if opened[-1].info.backend_pid % 2 == len(kept) % 2:
            kept.append(opened[-1])
    for connection in opened:
        if connection not in kept:
            connection.close()
    return kept


def drive(windows: list[BudgetWindow]) -> int:
    """Reserve, settle and void calls held in windows drawn at random, from all sides; how often one was a victim of a
    deadlock."""
    victims: list[psycopg.Error] = []
    stop = threading.Event()

    def side(connection: psycopg.Connection, rng: random.Random) -> None:
        with connection, connection.cursor() as cursor:
            cursor.execute("SET deadlock_timeout = '20ms'")
            for _ in range(BATCHES):
                if stop.is_set():
                    return
                rows = []
                for _ in range(CALLS):
                    held = rng.sample(windows, 3)
                    holds = [Hold(budget_id=w.budget_id, subject=w.subject, starts_at=NOW, ends_at=None) for w in held]
                    rows.append(reservation(new_attempt_id(), fixed_nano_usd=7, max_output_tokens=0, holds=holds))
                try:
                    execute(cursor, sql.reserve(None), rows)
                    half = CALLS // 2
                    execute(cursor, sql.SETTLE, [settlement(row.id, cost_nano_usd=5) for row in rows[:half]])
                    execute(cursor, sql.VOID, [Void(attempt_id=row.id, failure="broken") for row in rows[half:]])
                except psycopg.errors.DeadlockDetected as error:
                    victims.append(error)
                    stop.set()

    threads = [
        threading.Thread(target=side, args=(connection, random.Random(number)))
        for number, connection in enumerate(sessions())
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(victims)


def test_crossing_sets_of_windows_never_deadlock(windows: list[BudgetWindow]) -> None:
    assert drive(windows) == 0
    charged = SIDES * BATCHES * CALLS // 2
    assert sum(BudgetWindow.objects.values_list("spent_nano_usd", flat=True)) == charged * 3 * 5, "no increment is lost"
    assert set(BudgetWindow.objects.values_list("reserved_nano_usd", flat=True)) == {0}
    assert [finding for finding in verify() if finding.breaches] == []


@pytest.mark.parametrize("function", ["ledger_reserve", "ledger_release"])
def test_control_in_no_order_they_do(windows: list[BudgetWindow], function: str) -> None:
    with without(function, *ORDER):
        assert drive(windows) > 0
    assert [finding for finding in verify() if finding.breaches] == [], "a victim's batch has left no trace"
