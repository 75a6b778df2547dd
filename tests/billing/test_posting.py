"""When a charge is posted, and what becomes of one that comes after a sweep."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest
from django.conf import settings
from django.core.management import CommandError
from django.db import connection

from billing.entries import Void
from billing.ledger import Ledger
from billing.models import Adjustment, Attempt, Budget, UsageRecord
from billing.recovery import unknown_charge
from billing.usage_sums import Stretch, sum_usage
from tests.billing.books import charge, reserve, spent, verified, write
from tests.billing.test_ledger import NOW, settlement
from tests.factories import make_tenant

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def budget(db: None) -> Budget:
    return Budget.objects.create(tenant=make_tenant(), limit_nano_usd=10_000_000, alert_at=[50])


def partition_of(row: UsageRecord) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM billing_usagerecord WHERE attempt_id = %s", [row.pk])
        return str(cursor.fetchone()[0])


def test_a_charge_bears_the_moment_it_was_posted_and_when_it_was_asked_for(budget: Budget) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        before = cursor.fetchone()[0]
    charge(budget)
    row = UsageRecord.objects.get()
    assert row.started_at == NOW
    assert before <= row.created_at <= before + dt.timedelta(minutes=1)
    assert row.attempt.ended_at == row.created_at
    assert partition_of(row) == f"billing_usagerecord_{row.created_at:%Y_%m}"


def test_a_charge_of_a_month_nobody_made_is_kept_and_moved_when_it_is_made(budget: Budget) -> None:
    charge(budget)
    row = UsageRecord.objects.get()
    month = partition_of(row)
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE billing_usagerecord DETACH PARTITION {month}")
        cursor.execute(f"DROP TABLE {month}")
        Attempt.objects.update(state="open")
        Attempt.objects.update(reserved_nano_usd=0)
        write("ledger_settle", settlement(row.pk.hex, cost_nano_usd=1))
        assert partition_of(UsageRecord.objects.get()) == "billing_usagerecord_default"
        cursor.execute("SELECT ledger_make_partitions(now(), 1)")
        assert cursor.fetchone()[0] == 1
    assert partition_of(UsageRecord.objects.get()) == month


class TestAfterASweep:
    """The sweep has ended the attempt, then its own call says what it was."""

    @pytest.fixture
    def attempt(self, budget: Budget) -> Attempt:
        return Attempt.objects.get(pk=reserve(budget, tenant_id=budget.tenant_id))

    def test_a_larger_charge_is_made_up_for_once(self, budget: Budget, attempt: Attempt) -> None:
        write("ledger_settle", settlement(attempt.pk.hex, cost_nano_usd=1_000), sweeping=True)
        late = settlement(attempt.pk.hex, cost_nano_usd=4_500, project_id=7, user="u-1")
        for _ in range(3):
            write("ledger_settle", late)
        correction = Adjustment.objects.get()
        assert (correction.kind, correction.amount_nano_usd, correction.attempt_id) == ("correction", 3_500, attempt.pk)
        assert (correction.project_id, correction.user, correction.model_name) == (7, "u-1", "m")
        assert "4500 nano-USD, not 1000" in correction.reason and correction.windows == attempt.windows
        assert spent(budget) == 4_500 and UsageRecord.objects.get().cost_nano_usd == 1_000
        verified()

    def test_what_was_voided_is_charged(self, budget: Budget, attempt: Attempt) -> None:
        write("ledger_void", Void(attempt_id=attempt.pk.hex, failure="process_died"), sweeping=True)
        write("ledger_settle", settlement(attempt.pk.hex, cost_nano_usd=4_500))
        assert Adjustment.objects.get().amount_nano_usd == spent(budget) == 4_500
        verified()

    def test_what_was_unknown_is_no_exposure_any_more(self, budget: Budget, attempt: Attempt) -> None:
        write("ledger_settle", unknown_charge(attempt), sweeping=True)
        assert "exposure" in verified()
        write("ledger_settle", settlement(attempt.pk.hex, cost_nano_usd=4_500))
        assert spent(budget) == 4_500 and "exposure" not in verified()

    def test_a_smaller_charge_is_given_back(self, budget: Budget, attempt: Attempt) -> None:
        write("ledger_settle", settlement(attempt.pk.hex, cost_nano_usd=4_500), sweeping=True)
        write("ledger_settle", settlement(attempt.pk.hex, cost_nano_usd=4_000))
        assert Adjustment.objects.get().amount_nano_usd == -500 and spent(budget) == 4_000
        verified()

    def test_a_void_gives_all_of_it_back(self, budget: Budget, attempt: Attempt) -> None:
        write("ledger_settle", settlement(attempt.pk.hex, cost_nano_usd=4_500), sweeping=True)
        for _ in range(2):
            write("ledger_void", Void(attempt_id=attempt.pk.hex, failure="upstream"))
        assert Adjustment.objects.get().amount_nano_usd == -4_500 and spent(budget) == 0
        verified()

    def test_the_same_charge_needs_no_correction(self, budget: Budget, attempt: Attempt) -> None:
        for sweeping in (True, None):
            write("ledger_settle", settlement(attempt.pk.hex), sweeping=sweeping)
        assert not Adjustment.objects.exists() and spent(budget) == 4_500

    def test_the_correction_is_added_up_with_the_rest(self, budget: Budget, attempt: Attempt) -> None:
        write("ledger_settle", settlement(attempt.pk.hex, cost_nano_usd=1_000), sweeping=True)
        write("ledger_settle", settlement(attempt.pk.hex, cost_nano_usd=4_500))
        sums = sum_usage(Stretch(start=NOW - dt.timedelta(days=3650)))
        assert (sums.calls, sums.cost_nano_usd) == (1, 4_500)

    def test_however_many_say_so_at_once_it_is_posted_once(self, budget: Budget, attempt: Attempt) -> None:
        write("ledger_settle", settlement(attempt.pk.hex, cost_nano_usd=0), sweeping=True)

        async def race() -> None:
            ledgers = [Ledger(settings.DATABASE_CONNINFO) for _ in range(8)]
            await asyncio.gather(*(ledger.settle(settlement(attempt.pk.hex)) for ledger in ledgers))
            await asyncio.gather(*(ledger.close() for ledger in ledgers))

        asyncio.run(race())
        assert Adjustment.objects.get().amount_nano_usd == spent(budget) == 4_500
        verified()


def test_without_a_sweep_a_second_end_changes_nothing(budget: Budget) -> None:
    attempt_id = charge(budget)
    write("ledger_settle", settlement(attempt_id, cost_nano_usd=9_000))
    write("ledger_void", Void(attempt_id=attempt_id, failure="late"))
    assert not Adjustment.objects.exists() and spent(budget) == 4_500
    verified()


def test_a_bucket_that_is_wrong_is_found(budget: Budget) -> None:
    charge(budget)
    with connection.cursor() as cursor:
        for table, check in (
            ("usageday", "rollup days"), ("usagehour", "rollup hours"), ("userday", "rollup users"),
        ):  # fmt: skip
            cursor.execute(f"UPDATE billing_{table} SET cost_nano_usd = cost_nano_usd + 1")
            with pytest.raises(CommandError):
                verified()
            cursor.execute("SELECT findings::text FROM billing_bookscheck ORDER BY id DESC LIMIT 1")
            assert check in cursor.fetchone()[0]
            cursor.execute(f"UPDATE billing_{table} SET cost_nano_usd = cost_nano_usd - 1")
    verified()
