"""The ledger against a real PostgreSQL: what is committed when, and that an attempt ends once."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Any

import msgspec
import psycopg
import pytest
from django.conf import settings
from django.db import ProgrammingError, transaction

from billing.budgets import Hold
from billing.entries import Reservation, Settlement, Void, new_attempt_id
from billing.errors import BudgetExceededError, LedgerUnavailableError
from billing.ledger import Ledger
from billing.models import Attempt, Budget, UsageRecord
from billing.verification import verify
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)

NOW = dt.datetime(2026, 11, 21, 9, 30, tzinfo=dt.UTC)


def reservation(attempt_id: str, **changes: Any) -> Reservation:
    row = Reservation(
        id=attempt_id,
        request_id="r-1",
        tenant_id=1,
        api_key_id=2,
        deployment_id=3,
        operation="chat",
        model_name="m",
        provider_name="p",
        created_at=NOW,
    )
    return msgspec.structs.replace(row, **changes)


def settlement(attempt_id: str, **changes: Any) -> Settlement:
    row = Settlement(
        attempt_id=attempt_id,
        started_at=NOW,
        request_id="r-1",
        tenant_id=1,
        project_id=None,
        api_key_id=2,
        user="",
        conversation="",
        agent="",
        agent_type="",
        operation="chat",
        requested_model="m",
        model_name="m",
        provider_name="p",
        upstream_model="u",
        stream=False,
        ending="completed",
        input_tokens=10,
        output_tokens=5,
        cache_read_tokens=0,
        cache_write_tokens=0,
        reasoning_tokens=0,
        units={"input": 10, "output": 5},
        provider_usage=msgspec.Raw(b'{"prompt_tokens": 10}'),
        usage_source="provider_final",
        price_id=None,
        cost_nano_usd=4_500,
        latency_ms=12,
        first_content_ms=None,
    )
    return msgspec.structs.replace(row, **changes)


def states() -> list[str]:
    return list(Attempt.objects.order_by("id").values_list("state", flat=True))


def drive(work: Callable[[Ledger], Any]) -> None:
    """Run a coroutine with a ledger of its own, then look at the rows from outside."""

    async def main() -> None:
        ledger = Ledger(settings.DATABASE_CONNINFO)
        try:
            await work(ledger)
        finally:
            await ledger.close()

    asyncio.run(main())


def test_reserve_is_committed_when_it_returns() -> None:
    async def work(ledger: Ledger) -> None:
        attempt_id = new_attempt_id()
        await ledger.reserve(reservation(attempt_id))
        with psycopg.connect(settings.DATABASE_CONNINFO) as other:
            assert other.execute("SELECT state FROM billing_attempt").fetchall() == [("open",)]

    drive(work)


def test_what_a_charge_frees_is_there_for_the_next_call() -> None:
    """Though charges wait for company: a call that a budget refuses waits for those before it."""
    budget = Budget.objects.create(tenant=factories.make_tenant(), limit_nano_usd=10_000, hard=True)
    holds = [Hold(budget_id=budget.pk, subject="", starts_at=NOW, ends_at=None)]

    async def work(ledger: Ledger) -> None:
        for _ in range(20):
            row = reservation(new_attempt_id(), fixed_nano_usd=9_000, max_output_tokens=0, holds=holds)
            assert await ledger.reserve(row) == 0
            ledger.settle(settlement(row.id, cost_nano_usd=50))
        with pytest.raises(BudgetExceededError):
            await ledger.reserve(reservation(new_attempt_id(), fixed_nano_usd=9_001, max_output_tokens=0, holds=holds))

    drive(work)
    assert UsageRecord.objects.count() == 20


def test_what_returns_is_on_its_way_to_the_disk() -> None:
    """The locks go before the disk is waited for; the caller still waits for it."""

    async def work(ledger: Ledger) -> None:
        with psycopg.connect(settings.DATABASE_CONNINFO, autocommit=True) as other:

            def log_ends() -> str:
                return str(other.execute("SELECT pg_current_wal_insert_lsn()").fetchone()[0])  # type: ignore[index]

            def is_beyond(place: str) -> bool:
                return other.execute("SELECT pg_current_wal_flush_lsn() > %s::pg_lsn", [place]).fetchone() == (True,)

            for _ in range(20):
                row, before = reservation(new_attempt_id()), log_ends()
                await ledger.reserve(row)
                assert is_beyond(before)
                before = log_ends()
                await ledger.settle(settlement(row.id))
                assert is_beyond(before)

    drive(work)


def test_an_attempt_ends_once_however_often_it_is_tried() -> None:
    """A thousand attempts, each settled twice and voided once at the same time."""
    ids = [new_attempt_id() for _ in range(1000)]

    async def work(ledger: Ledger) -> None:
        await asyncio.gather(*(ledger.reserve(reservation(attempt_id)) for attempt_id in ids))
        endings = []
        for attempt_id in ids:
            endings += [ledger.settle(settlement(attempt_id)), ledger.settle(settlement(attempt_id))]
            endings.append(ledger.void(Void(attempt_id=attempt_id, failure="broken")))
        await asyncio.gather(*endings)

    drive(work)
    settled = set(Attempt.objects.filter(state="settled").values_list("id", flat=True))
    voided = set(Attempt.objects.filter(state="voided").values_list("id", flat=True))
    assert len(settled) + len(voided) == 1000
    assert set(UsageRecord.objects.values_list("attempt_id", flat=True)) == settled


def test_a_charge_for_no_attempt_changes_nothing() -> None:
    async def work(ledger: Ledger) -> None:
        await ledger.settle(settlement(new_attempt_id()))

    drive(work)
    assert UsageRecord.objects.count() == 0


def test_a_row_that_cannot_be_stored_does_not_take_its_batch_along() -> None:
    """PostgreSQL refuses NUL in jsonb text; the rows beside it must pass, and what a provider said costs no charge."""
    good, bad, worse = (new_attempt_id() for _ in range(3))

    async def work(ledger: Ledger) -> None:
        outcomes = await asyncio.gather(
            ledger.reserve(reservation(good)),
            ledger.reserve(reservation(bad, request_id="a\0b")),
            return_exceptions=True,
        )
        assert outcomes[0] is None and isinstance(outcomes[1], LedgerUnavailableError)
        await ledger.reserve(reservation(bad))
        await ledger.reserve(reservation(worse))
        poisoned = settlement(bad, provider_usage=msgspec.Raw(b'{"x": "\\u0000"}'))
        hopeless = settlement(worse, user="a\0b")
        outcomes = await asyncio.gather(
            *(ledger.settle(row) for row in (settlement(good), poisoned, hopeless)), return_exceptions=True
        )
        assert outcomes[:2] == [None, None] and outcomes[2] is not None

    drive(work)
    kept = {record.attempt_id.hex: record.provider_usage for record in UsageRecord.objects.all()}
    assert kept == {good: {"prompt_tokens": 10}, bad: {"unstorable": True}}


def test_connections_that_are_cut_are_opened_again() -> None:
    ids = [new_attempt_id() for _ in range(5)]

    async def work(ledger: Ledger) -> None:
        for attempt_id in ids:
            await ledger.reserve(reservation(attempt_id))
            settled = ledger.settle(settlement(attempt_id))
            with psycopg.connect(settings.DATABASE_CONNINFO, autocommit=True) as killer:
                killer.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'bursar-ledger' AND datname = current_database()"
                )
            await settled

    drive(work)
    assert states() == ["settled"] * 5
    assert UsageRecord.objects.count() == 5


def test_without_a_database_nothing_may_be_spent() -> None:
    async def main() -> None:
        ledger = Ledger("postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=1")
        with pytest.raises(LedgerUnavailableError):
            await ledger.reserve(reservation(new_attempt_id()))
        await ledger.close()

    asyncio.run(main())


def test_charges_only_grow() -> None:
    attempt_id = new_attempt_id()

    async def work(ledger: Ledger) -> None:
        await ledger.reserve(reservation(attempt_id))
        await ledger.settle(settlement(attempt_id))

    drive(work)
    for change in (lambda: UsageRecord.objects.update(cost_nano_usd=0), lambda: UsageRecord.objects.all().delete()):
        with pytest.raises(ProgrammingError, match="only grows"), transaction.atomic():
            change()


def test_attempt_ids_are_uuids_in_order_of_time() -> None:
    ids = [new_attempt_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(text[12] == "7" and text[16] in "89ab" and len(text) == 32 for text in ids)
    assert [text[:12] for text in ids] == sorted(text[:12] for text in ids)


def test_a_soft_budget_made_hard_still_balances() -> None:
    """What went over it while it was soft is no breach of the cap it is now."""
    budget = Budget.objects.create(tenant=factories.make_tenant(), limit_nano_usd=10, hard=False)
    hold = Hold(budget_id=budget.pk, subject="", starts_at=NOW, ends_at=None)

    async def work(ledger: Ledger) -> None:
        await ledger.reserve(reservation(new_attempt_id(), fixed_nano_usd=50, max_output_tokens=0, holds=[hold]))

    drive(work)
    Budget.objects.filter(pk=budget.pk).update(hard=True)
    assert [finding for finding in verify() if finding.breaches] == []
