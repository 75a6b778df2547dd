"""The spool's file: what is on disk when, and what is made of what a crash leaves."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command

from billing import ledger as ledger_module
from billing import spool as spool_module
from billing import sweeper
from billing.budgets import Hold
from billing.entries import new_attempt_id
from billing.errors import LedgerUnavailableError
from billing.flight_recorder import FlightRecorder
from billing.ledger import Ledger
from billing.models import Attempt, Budget, UsageRecord
from billing.replay import replay_leftovers
from billing.spool import Spool, SpoolError, leftovers, spool_path
from tests import factories
from tests.billing.test_ledger import NOW, reservation, settlement

AWAY = "postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return spool_path(tmp_path, uuid.uuid4())


def drive(path: Path, work: Callable[[Spool], Any]) -> None:
    async def main() -> None:
        spool = Spool(path)
        try:
            await work(spool)
        finally:
            await spool.close()

    asyncio.run(main())


def test_what_is_added_is_on_disk(path: Path) -> None:
    ids = [new_attempt_id() for _ in range(50)]

    async def work(spool: Spool) -> None:
        await asyncio.gather(*(spool.add(reservation(attempt_id)) for attempt_id in ids))
        assert path.read_bytes().count(b"\n") == 50
        assert leftovers(path.parent) == [], "its owner lives"

    drive(path, work)
    (leftover,) = leftovers(path.parent)
    assert [row.id for row in leftover.reservations] == ids and spool_path(path.parent, leftover.process_id) == path
    assert leftovers(path.parent) == [], "whoever is at it has the lock"
    leftover.close(remove=True)
    assert not path.exists()


def test_with_the_last_one_replayed_it_is_empty_and_then_gone(path: Path) -> None:
    one, other = new_attempt_id(), new_attempt_id()

    async def work(spool: Spool) -> None:
        for attempt_id in (one, other):
            await spool.add(reservation(attempt_id))
        spool.replayed(one)
        assert one not in spool and other in spool and path.stat().st_size > 0
        spool.replayed(other)
        assert path.stat().st_size == 0
        await spool.add(reservation(one))
        assert path.read_bytes().count(b"\n") == 1
        spool.replayed(one)

    drive(path, work)
    assert not path.exists()


@pytest.mark.parametrize("taken", [0, 1, 100, None])
def test_a_full_disk_refuses_and_leaves_no_half_line(
    path: Path, monkeypatch: pytest.MonkeyPatch, taken: int | None
) -> None:
    """`taken` is how much of a line fits; None: the write succeeds and the disk refuses to keep it."""
    write, fsync = os.write, os.fsync
    before, refused, after = (new_attempt_id() for _ in range(3))

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    async def work(spool: Spool) -> None:
        await spool.add(reservation(before))
        whole = path.read_bytes()
        with monkeypatch.context() as patch:
            if taken is None:
                patch.setattr(spool_module.os, "fsync", refuse)
            else:
                patch.setattr(spool_module.os, "write", lambda descriptor, data: write(descriptor, data[:taken]))
            with pytest.raises(SpoolError):
                await spool.add(reservation(refused))
        assert path.read_bytes() == whole and refused not in spool
        await spool.add(reservation(after))

    drive(path, work)
    assert os.fsync is fsync
    (leftover,) = leftovers(path.parent)
    leftover.close(remove=False)
    assert [row.id for row in leftover.reservations] == [before, after]


def test_a_line_cut_short_by_a_crash_is_skipped(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole, torn = new_attempt_id(), new_attempt_id()

    async def work(spool: Spool) -> None:
        for attempt_id in (whole, torn):
            await spool.add(reservation(attempt_id))

    drive(path, work)
    content = path.read_bytes()
    for cut in (1, 2, 30, 200):
        path.write_bytes(content[:-cut])
        (leftover,) = leftovers(path.parent)
        leftover.close(remove=False)
        assert [row.id for row in leftover.reservations] == [whole], f"cut by {cut}"
    assert "spool.line_torn" in caplog.messages


@pytest.mark.django_db(transaction=True)
class TestReplay:
    def test_a_dead_process_leaves_open_attempts_that_the_sweep_ends(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One that ended and one that did not; replaying twice changes nothing."""
        monkeypatch.setattr(ledger_module, "CLOSE_SECONDS", 0.3)
        budget = Budget.objects.create(tenant=factories.make_tenant(), limit_nano_usd=10_000, hard=False)
        hold = Hold(budget_id=budget.pk, subject="", starts_at=NOW, ends_at=None)
        ended, begun = new_attempt_id(), new_attempt_id()
        recorder = FlightRecorder(tmp_path, uuid.uuid4())

        async def main() -> None:
            away = Ledger(AWAY, recorder)
            for attempt_id in (ended, begun):
                row = reservation(attempt_id, fixed_nano_usd=500, max_output_tokens=7, holds=[hold])
                assert await away.put_aside(row) == 7
            away.settle(settlement(ended))
            with pytest.raises(LedgerUnavailableError):
                await away.reserve(reservation(new_attempt_id()))
            await away.close()

        asyncio.run(main())
        recorder.close(keep=True)
        content = spool_path(tmp_path, recorder.process_id).read_bytes()
        for _ in range(2):
            spool_path(tmp_path, recorder.process_id).write_bytes(content)
            assert replay_leftovers(tmp_path) == 2
        assert leftovers(tmp_path) == []
        assert set(Attempt.objects.values_list("state", "process")) == {("open", recorder.process_id)}
        Attempt.objects.update(created_at="2026-01-01T00:00Z")
        assert dict(sweeper.sweep(tmp_path, 15)) == {"provider_final": 1, "voided": 1}
        assert UsageRecord.objects.get().cost_nano_usd == 4_500
        call_command("verify_money", stdout=StringIO())

    def test_a_budget_that_is_gone_does_not_keep_the_attempt_out(self, tmp_path: Path, path: Path) -> None:
        hold = Hold(budget_id=999_999, subject="", starts_at=NOW, ends_at=None)

        async def work(spool: Spool) -> None:
            await spool.add(reservation(new_attempt_id(), holds=[hold], max_output_tokens=1))

        drive(path, work)
        assert replay_leftovers(tmp_path) == 1
        assert Attempt.objects.get().windows == []

    def test_the_process_itself_commits_before_it_settles(self, tmp_path: Path) -> None:
        """Its database was away for the reservation only."""
        attempt_id = new_attempt_id()
        recorder = FlightRecorder(tmp_path, uuid.uuid4())

        async def main() -> None:
            ledger = Ledger(settings.DATABASE_CONNINFO, recorder)
            assert await ledger.put_aside(reservation(attempt_id)) is None
            with psycopg.connect(settings.DATABASE_CONNINFO) as other:
                assert other.execute("SELECT count(*) FROM billing_attempt").fetchone() == (0,)
            await ledger.settle(settlement(attempt_id))
            await ledger.close()

        asyncio.run(main())
        assert Attempt.objects.get().state == "settled"
        assert not spool_path(tmp_path, recorder.process_id).exists() and not recorder.open_attempts
        recorder.close(keep=False)
