"""How the attempts of a dead process end: the rule, the file it reads, and the sweep that writes."""

from __future__ import annotations

import asyncio
import datetime as dt
import errno
import os
import uuid
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command

from billing import flight_recorder, ledger, sql, sweeper
from billing.budgets import Hold
from billing.entries import Settlement, Void, new_attempt_id
from billing.flight_recorder import Dispatch, Flight, FlightRecorder, read_flights
from billing.ledger import Ledger
from billing.models import Adjustment, Attempt, Budget, BudgetWindow, GatewayProcess, UsageRecord
from billing.pricing import PriceVersion
from billing.recovery import ending_of
from billing.tiers import make_tier
from tests import factories
from tests.billing.test_ledger import reservation, settlement

DEAD_AFTER = 15
DISPATCH = Dispatch(
    input_bytes=400,
    stream=True,
    project_id=7,
    user="u",
    conversation="c",
    agent="a",
    agent_type="t",
    requested_model="asked",
    upstream_model="up",
    price_id=3,
)
PRICES = {3: PriceVersion(3, dt.datetime(2026, 1, 1, tzinfo=dt.UTC), {"input": 1000, "output": 2000, "requests": 5000})}


def attempt(**fields: Any) -> Attempt:
    row: dict[str, Any] = {"tenant_id": 1, "api_key_id": 2, "deployment_id": 3, "operation": "chat", "model_name": "m"}
    row["created_at"] = dt.datetime.now(dt.UTC)
    return Attempt(id=uuid.UUID(new_attempt_id()), request_id="r", provider_name="p", **{**row, **fields})


# The rule ----------------------------------------------------------------------------------------------------------
def test_a_known_charge_is_written_as_it_is() -> None:
    row = attempt()
    for end in (settlement(row.id.hex), Void(attempt_id=row.id.hex, failure="timeout")):
        assert ending_of(row, Flight(DISPATCH, 99, end), prices=PRICES) is end


@pytest.mark.parametrize(("output_bytes", "output_tokens"), [(0, 0), (1, 1), (41, 11)])
def test_a_dispatched_call_pays_what_was_counted(output_bytes: int, output_tokens: int) -> None:
    row = attempt()
    end = ending_of(row, Flight(DISPATCH, output_bytes), prices=PRICES)
    assert isinstance(end, Settlement)
    assert (end.ending, end.usage_source, end.input_tokens, end.output_tokens) == (
        "failed", "local_count", 100, output_tokens,
    )  # fmt: skip
    assert end.units == {"input": 100, "requests": 1} | ({"output": output_tokens} if output_tokens else {})
    assert end.cost_nano_usd == 100 + 2 * output_tokens + 5
    assert (end.project_id, end.user, end.requested_model, end.stream) == (7, "u", "asked", True)
    assert (end.started_at, end.tenant_id, end.api_key_id) == (row.created_at, 1, 2)


def test_a_dispatched_call_pays_in_the_tier_it_asked_for_when_it_began() -> None:
    tiers = (
        make_tier("night flex", rates={"input": 10}, above_input_tokens=None, service_tier="flex", utc="22:00-02:00"),
        make_tier("long", rates={"input": 70_000}, above_input_tokens=99, service_tier="", utc=""),
    )
    prices = {3: PriceVersion(3, PRICES[3].valid_from, PRICES[3].rates, tiers)}
    night = dt.datetime(2026, 11, 21, 23, 30, tzinfo=dt.UTC)
    asked = msgspec.structs.replace(DISPATCH, service_tier="flex")
    costs = []
    for dispatch, began in ((asked, night), (asked, night.replace(hour=12)), (DISPATCH, night)):
        end = ending_of(attempt(created_at=began), Flight(dispatch, 0), prices=prices)
        assert isinstance(end, Settlement) and end.units["input"] == 100
        costs.append((end.units["tier"], end.cost_nano_usd))
    assert costs == [(1, 1 + 5), (2, 7_000 + 5), (2, 7_000 + 5)]


def test_a_call_that_was_not_dispatched_costs_nothing() -> None:
    row = attempt()
    assert ending_of(row, Flight(), prices={}) == Void(attempt_id=row.id.hex, failure="process_died")


@pytest.mark.parametrize(
    "flight",
    [None, Flight(None, 50), Flight(None, 0), Flight(DISPATCH)],
    ids=["no file", "the dispatch mark is lost", "and nothing said", "no sign of an answer"],
)
def test_without_evidence_the_tenant_pays_nothing(flight: Flight | None) -> None:
    end = ending_of(attempt(), flight, prices={})
    assert isinstance(end, Settlement) and (end.usage_source, end.cost_nano_usd, end.units) == ("unknown", 0, {})


# The file ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[FlightRecorder]:
    recorder = FlightRecorder(tmp_path / "flight", uuid.uuid4())
    yield recorder
    recorder.close(keep=False)


def flights_of(recorder: FlightRecorder, *ids: str) -> list[Flight | None]:
    log = read_flights(recorder.path, ids)
    assert log is not None
    return [log.flight(attempt_id) for attempt_id in ids]


def test_marks_are_read_back(recorder: FlightRecorder) -> None:
    asked, heard, charged, voided, _begun = ids = [new_attempt_id() for _ in range(5)]
    for attempt_id in ids:
        recorder.begin(attempt_id)
    for attempt_id in (asked, heard, charged, voided):
        recorder.dispatched(attempt_id, DISPATCH)
    recorder.progressed(heard, 5)
    recorder.progressed(heard, 50)
    charge = settlement(charged, provider_usage=msgspec.Raw(b'{\n "prompt_tokens": 10\n}'))
    recorder.settled(charge)
    recorder.voided(Void(attempt_id=voided, failure="timeout"))
    found = flights_of(recorder, *ids)
    assert found[:2] == [Flight(DISPATCH), Flight(DISPATCH, 50)] and found[4] == Flight(), "and none for one not asked"
    assert found[3] == Flight(DISPATCH, None, Void(attempt_id=voided, failure="timeout"))
    assert found[2] is not None and isinstance(found[2].end, Settlement)
    one_line = msgspec.structs.replace(charge, provider_usage=msgspec.Raw(b'{  "prompt_tokens": 10 }'))
    assert msgspec.json.encode(found[2].end) == msgspec.json.encode(one_line), "to the last field"
    assert set(recorder.open_attempts) == set(ids)


def test_a_file_that_is_not_there_is_no_evidence(tmp_path: Path) -> None:
    assert read_flights(tmp_path / "none.flight", ["x"]) is None
    (tmp_path / "other").write_bytes(b"something else\n")
    assert read_flights(tmp_path / "other", ["x"]) is None


def test_a_line_cut_short_is_skipped(recorder: FlightRecorder) -> None:
    attempt_id = new_attempt_id()
    recorder.dispatched(attempt_id, DISPATCH)
    recorder.settled(settlement(attempt_id))
    content = recorder.path.read_bytes()
    last = len(content) - content.rindex(b"\nS ")
    for cut in range(1, last):
        recorder.path.write_bytes(content[:-cut])
        assert flights_of(recorder, attempt_id) == [Flight(DISPATCH)], f"cut by {cut}"


def test_marks_of_an_earlier_run_of_the_machine_prove_only_what_they_say(
    recorder: FlightRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash of the machine may have taken the newest lines: what is not there may have been."""
    asked, begun = new_attempt_id(), new_attempt_id()
    recorder.begin(begun)
    recorder.dispatched(asked, DISPATCH)
    assert flights_of(recorder, asked, begun) == [Flight(DISPATCH), Flight()], "the control: no mark, not dispatched"
    monkeypatch.setattr(flight_recorder, "_this_run", lambda: b" another\n")
    assert flights_of(recorder, asked, begun) == [Flight(DISPATCH), None]


def test_only_what_is_open_is_kept_when_the_file_grows(
    recorder: FlightRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flight_recorder, "COMPACT_ABOVE_BYTES", 10_000)
    streaming = new_attempt_id()
    recorder.dispatched(streaming, DISPATCH)
    for number in range(200):
        recorder.progressed(streaming, number)
        ended = new_attempt_id()
        recorder.dispatched(ended, DISPATCH)
        recorder.forget(ended)
    assert recorder.path.stat().st_size > 10_000
    recorder.maintain()
    assert recorder.path.stat().st_size < 500
    assert flights_of(recorder, streaming) == [Flight(DISPATCH, 199)]
    recorder.progressed(streaming, 1000)
    assert flights_of(recorder, streaming) == [Flight(DISPATCH, 1000)]


def test_a_closed_recorder_writes_into_no_other_file(tmp_path: Path) -> None:
    recorder = FlightRecorder(tmp_path / "flight", uuid.uuid4())
    recorder.close(keep=True)
    with (tmp_path / "other").open("wb"):  # gets the number that has come free
        recorder.dispatched(new_attempt_id(), DISPATCH)
    assert (tmp_path / "other").read_bytes() == b""


@pytest.mark.parametrize("taken", [None, 0, 1, 20, 34, 36, 60])
def test_a_mark_lost_to_a_full_disk_is_admitted(
    recorder: FlightRecorder, monkeypatch: pytest.MonkeyPatch, taken: int | None
) -> None:
    """Where marks are missing, none is no evidence; what is on file still counts. `taken` is how much of one fits."""
    before, lost, after = (new_attempt_id() for _ in range(3))
    recorder.dispatched(before, DISPATCH)
    write = os.write

    def refuse(descriptor: int, data: bytes) -> int:
        if taken is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:taken])

    monkeypatch.setattr(os, "write", refuse)
    recorder.dispatched(lost, DISPATCH)
    recorder.maintain()  # no room for a new file either
    monkeypatch.setattr(os, "write", write)
    recorder.dispatched(after, DISPATCH)
    assert flights_of(recorder, before, lost, after) == [Flight(DISPATCH), None, Flight(DISPATCH)]
    recorder.maintain()
    assert flights_of(recorder, before, lost, after) == [Flight(DISPATCH)] * 3, "with room again, all of it is written"


# The sweep ---------------------------------------------------------------------------------------------------------
def reserve(recorder: FlightRecorder, *ids: str, **fields: Any) -> None:
    async def main() -> None:
        ledger = Ledger(settings.DATABASE_CONNINFO, recorder)
        await asyncio.gather(*(ledger.reserve(reservation(attempt_id, **fields)) for attempt_id in ids))
        await ledger.close()

    asyncio.run(main())


def silence(recorder: FlightRecorder, seconds: float) -> None:
    """Make it so long since the process was heard of."""
    age = dt.timedelta(seconds=seconds)
    GatewayProcess.objects.update_or_create(
        pk=recorder.process_id,
        defaults={
            "host": "h", "pid": 1, "recorder": str(recorder.path), "started_at": dt.datetime.now(dt.UTC) - age,
            "beat_at": dt.datetime.now(dt.UTC) - age,
        },
    )  # fmt: skip


def swept(recorder: FlightRecorder) -> dict[str, int]:
    return dict(sweeper.sweep(recorder.path.parent, DEAD_AFTER))


def states() -> list[tuple[str, str]]:
    return sorted(Attempt.objects.values_list("state", "failure"))


@pytest.mark.django_db(transaction=True)
class TestSweep:
    def test_only_the_dead_are_swept(self, recorder: FlightRecorder) -> None:
        reserve(recorder, new_attempt_id())
        silence(recorder, DEAD_AFTER - 5)
        assert swept(recorder) == {} and states() == [("open", "")]
        silence(recorder, DEAD_AFTER + 1)
        assert swept(recorder) == {"voided": 1} and states() == [("voided", "process_died")]
        assert swept(recorder) == {}

    def test_a_process_without_a_row_is_dead(self, recorder: FlightRecorder) -> None:
        """Its attempt was committed after a sweep had already forgotten it."""
        reserve(recorder, new_attempt_id())
        assert swept(recorder) == {"voided": 1}

    def test_another_host_waits_before_it_calls_an_end_unknown(self, recorder: FlightRecorder, tmp_path: Path) -> None:
        tenant = factories.make_tenant()
        budget = Budget.objects.create(tenant=tenant, limit_nano_usd=10_000)
        hold = Hold(budget_id=budget.pk, subject="", starts_at=dt.datetime(2026, 11, 1, tzinfo=dt.UTC), ends_at=None)
        reserve(recorder, new_attempt_id(), fixed_nano_usd=800, max_output_tokens=0, holds=[hold])
        window = BudgetWindow.objects.get()
        assert window.reserved_nano_usd == 800
        recorder.path.rename(tmp_path / "elsewhere")
        silence(recorder, DEAD_AFTER + 1)
        assert swept(recorder) == {} and states() == [("open", "")]
        silence(recorder, 2 * DEAD_AFTER + 1)
        assert swept(recorder) == {"unknown": 1}
        window.refresh_from_db()
        assert (window.reserved_nano_usd, window.spent_nano_usd) == (0, 0)
        said = StringIO()
        call_command("verify_money", stdout=said)
        assert "at most 0.0000008 USD" in said.getvalue() and "The books balance." in said.getvalue()

    def test_a_charge_the_database_refuses_does_not_stop_the_others(self, recorder: FlightRecorder) -> None:
        good, bad, worse = ids = [new_attempt_id() for _ in range(3)]
        reserve(recorder, *ids)
        recorder.settled(settlement(good))
        recorder.settled(settlement(bad, provider_usage=msgspec.Raw(b'{"x": "\\u0000"}')))
        recorder.settled(settlement(worse, user="a\0b"))
        silence(recorder, DEAD_AFTER + 1)
        assert swept(recorder) == {"provider_final": 2, "unknown": 1}
        assert not Attempt.objects.filter(state="open").exists()

    def test_more_than_a_batch(self, recorder: FlightRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sweeper, "BATCH", 4)
        reserve(recorder, *(new_attempt_id() for _ in range(10)))
        silence(recorder, DEAD_AFTER + 1)
        assert swept(recorder) == {"voided": 10}

    def test_one_sweep_writes_at_a_time(self, recorder: FlightRecorder) -> None:
        reserve(recorder, new_attempt_id())
        silence(recorder, DEAD_AFTER + 1)
        with psycopg.connect(settings.DATABASE_CONNINFO) as other:
            other.execute(sql.SWEEP_LOCK)
            assert swept(recorder) == {}
        assert swept(recorder) == {"voided": 1}

    def test_a_late_end_is_posted_as_a_correction(self, recorder: FlightRecorder) -> None:
        attempt_id = new_attempt_id()
        reserve(recorder, attempt_id)
        recorder.dispatched(attempt_id, DISPATCH)
        silence(recorder, DEAD_AFTER + 1)
        assert swept(recorder) == {"unknown": 1}

        async def main() -> None:
            late = Ledger(settings.DATABASE_CONNINFO, recorder)
            await late.settle(settlement(attempt_id))
            await late.close()

        asyncio.run(main())
        charge = UsageRecord.objects.get()
        assert charge.usage_source == "unknown"
        correction = Adjustment.objects.get()
        assert (correction.kind, correction.attempt_id.hex) == ("correction", attempt_id)
        assert charge.cost_nano_usd + correction.amount_nano_usd == 4_500
        assert attempt_id not in recorder.open_attempts

    def test_dead_processes_are_forgotten_and_old_files_removed(self, recorder: FlightRecorder) -> None:
        folder = recorder.path.parent
        silence(recorder, 2 * DEAD_AFTER + 1)
        old, young = folder / f"{uuid.uuid4()}.flight", folder / f"{uuid.uuid4()}.flight"
        for path in (old, young):
            path.write_bytes(b"")
        os.utime(old, (0, 0))
        assert swept(recorder) == {}
        assert not GatewayProcess.objects.exists()
        assert young.exists() and recorder.path.exists() and not old.exists()

    def test_orphans_are_old_open_attempts_of_the_process_itself(self, recorder: FlightRecorder) -> None:
        now, old = dt.datetime.now(dt.UTC), dt.datetime.now(dt.UTC) - dt.timedelta(seconds=4 * DEAD_AFTER + 1)
        mine, young = new_attempt_id(), new_attempt_id()
        reserve(recorder, mine, created_at=old)
        reserve(recorder, young, created_at=now)
        assert sweeper.orphans(recorder.process_id, DEAD_AFTER) == [mine]
        assert sweeper.orphans(uuid.uuid4(), DEAD_AFTER) == []

    def test_a_charge_left_over_at_the_end_is_swept_from_the_file(
        self, recorder: FlightRecorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The database is away when the process ends: closing is bounded, and nothing is lost."""
        monkeypatch.setattr(ledger, "CLOSE_SECONDS", 0.3)
        attempt_id = new_attempt_id()
        reserve(recorder, attempt_id)

        async def main() -> None:
            away = Ledger("postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=1", recorder)
            unwritten = away.settle(settlement(attempt_id))
            await away.close()
            assert unwritten.cancelled()

        asyncio.run(main())
        silence(recorder, DEAD_AFTER + 1)
        assert swept(recorder) == {"provider_final": 1}
        assert UsageRecord.objects.get().cost_nano_usd == 4_500
