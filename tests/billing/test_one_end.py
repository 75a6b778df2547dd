"""M3: an attempt ends once, whoever tries to end it and however often, at the same time and from several processes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg
import pytest
from django.conf import settings
from django.db import IntegrityError, connection, transaction

from billing import sql
from billing.budgets import Hold
from billing.entries import Void, new_attempt_id
from billing.models import Attempt, Budget, BudgetWindow, UsageRecord
from billing.verification import verify
from tests import factories
from tests.billing.guards import ONE_END, without
from tests.billing.test_ledger import NOW, reservation, settlement

pytestmark = pytest.mark.django_db(transaction=True)

ATTEMPTS, BATCH, HELD, COST = 1000, 50, 100, 70


def execute(cursor: Any, statement: str, rows: Sequence[Any]) -> None:
    cursor.execute(statement.replace("$1", "%s"), [msgspec.json.encode(rows).decode()])


@pytest.fixture
def window() -> BudgetWindow:
    """The window that all attempts of a test are held in."""
    budget = Budget.objects.create(tenant=factories.make_tenant(), limit_nano_usd=ATTEMPTS * HELD)
    return BudgetWindow.objects.create(budget=budget, starts_at=NOW)


def reserved(window: BudgetWindow, count: int) -> list[str]:
    """So many open attempts."""
    hold = Hold(budget_id=window.budget_id, subject="", starts_at=NOW, ends_at=None)
    ids = [new_attempt_id() for _ in range(count)]
    rows = [reservation(name, fixed_nano_usd=HELD, max_output_tokens=0, holds=[hold]) for name in ids]
    with connection.cursor() as cursor:
        execute(cursor, sql.reserve(None), rows)
    return ids


def end_from_four_sides(ids: list[str]) -> None:
    """Settle each twice, with two costs, and void it once, and settle it as a sweep would: all at the same time."""
    barrier = threading.Barrier(4)
    failures: list[Exception] = []

    def end(statement: str, rows: list[Any]) -> None:
        with psycopg.connect(settings.DATABASE_CONNINFO, autocommit=True) as mine, mine.cursor() as cursor:
            barrier.wait()
            try:
                for start in range(0, len(rows), BATCH):
                    execute(cursor, statement, rows[start : start + BATCH])
            except psycopg.Error as error:
                failures.append(error)

    settled = [[settlement(name, cost_nano_usd=COST + side) for name in ids] for side in range(3)]
    voided = [Void(attempt_id=name, failure="broken") for name in ids]
    sides = [(sql.SETTLE, settled[0]), (sql.SETTLE, settled[1]), (sql.SETTLE, settled[2]), (sql.VOID, voided)]
    threads = [threading.Thread(target=end, args=side) for side in sides]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_thousand_attempts_ended_from_four_sides_at_once(window: BudgetWindow) -> None:
    ids = reserved(window, ATTEMPTS)
    end_from_four_sides(ids)
    window.refresh_from_db()
    states = list(Attempt.objects.values_list("state", flat=True))
    charges = list(UsageRecord.objects.values_list("cost_nano_usd", flat=True))
    assert len(states) == ATTEMPTS and set(states) <= {"settled", "voided"}
    assert len(charges) == states.count("settled")
    assert (window.spent_nano_usd, window.reserved_nano_usd) == (sum(charges), 0)
    assert [finding for finding in verify() if finding.breaches] == []


def test_control_without_the_guard_a_second_end_is_money(window: BudgetWindow) -> None:
    first, _ = reserved(window, 2)
    with without(*ONE_END), connection.cursor() as cursor:
        for _ in range(2):
            execute(cursor, sql.SETTLE, [settlement(first, cost_nano_usd=COST)])
        window.refresh_from_db()
        assert (window.spent_nano_usd, window.reserved_nano_usd) == (2 * COST, 0), "what the other one held is gone"
        assert "M4 reserved" in {finding.check.name for finding in verify() if finding.breaches}
        with pytest.raises(IntegrityError, match="budget_window_not_negative"), transaction.atomic():
            execute(cursor, sql.SETTLE, [settlement(first, cost_nano_usd=COST)])
