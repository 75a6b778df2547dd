"""The ledger's own functions in a real PostgreSQL against a model in plain Python, driven by Hypothesis.

The clock is the machine's: it says when a call begins, so periods, daylight saving and month ends come and go between
reserve and settle. Two things the database decides by its own clock: an extra's expiry and a process's death. They are
set relative to that clock, so that no code under test knows of the machine.

`LEDGER_MACHINE_EXAMPLES` and `LEDGER_MACHINE_STEPS` make a longer run, with other seeds each time; without them every
run is the same.
"""

from __future__ import annotations

import datetime as dt
import os
import tempfile
import uuid
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import orjson
import pytest
from django.apps import apps
from django.db import IntegrityError, connection
from hypothesis import HealthCheck, Phase, settings, strategies
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from billing import sql, sweeper
from billing.budgets import BudgetRule, CallFacts, holds_for
from billing.entries import Reservation, Settlement, Void, new_attempt_id
from billing.errors import Refusal
from billing.flight_recorder import FlightRecorder
from billing.models import Attempt, Budget, BudgetOverride, BudgetWindow, GatewayProcess, Period, Price, Scope
from billing.verification import verify
from tenants.models import Tenant
from tests import factories
from tests.billing.guards import HARD_CAP, without
from tests.billing.ledger_model import ModelBudget, ModelLedger, period_by_search
from tests.billing.test_ledger import reservation, settlement
from tests.billing.test_recovery_rules import DISPATCH

TABLES = [
    model._meta.db_table
    for model in apps.get_app_config("billing").get_models()
    if model is not Price and model._meta.managed
]
BEGINNINGS = [
    ("UTC", "2024-12-31T23:59:59.9"),
    ("Europe/Berlin", "2024-03-30T22:59:59.9"),  # 23 hours long
    ("Europe/Berlin", "2024-10-26T21:59:59.9"),  # 25 hours long
    ("America/New_York", "2024-11-03T03:59:59.9"),
    ("America/Havana", "2024-03-10T04:59:59.9"),  # there is no midnight
    ("America/Havana", "2024-11-03T03:59:59.9"),  # there are two
    ("Asia/Beirut", "2024-03-30T21:59:59.9"),  # no midnight
    ("Asia/Beirut", "2024-10-26T19:59:59.9"),  # set back at midnight
    ("Australia/Lord_Howe", "2024-04-06T12:59:59.9"),  # half an hour
    ("Pacific/Kiritimati", "2024-02-29T09:59:59.9"),  # the leap day ends, 14 hours ahead of UTC
]
END_OF_TIME = dt.datetime(2025, 12, 31, tzinfo=dt.UTC)
"""The machine's clock stays in the past: what the database calls now is later than any of its calls."""
DEAD_AFTER_SECONDS = 30.0
FACTS = strategies.builds(
    CallFacts,
    project=strategies.sampled_from(["", "web"]),
    user=strategies.sampled_from(["", "ann", "bob"]),
    key=strategies.just("k"),
    model=strategies.sampled_from(["small", "large"]),
    provider=strategies.just("p"),
)
FACTS_OF_NOBODY = CallFacts(project="", user="", key="k", model="m", provider="p")
AMOUNTS = strategies.integers(0, 3_000)
LIMITS = strategies.integers(0, 12_000)
SUBJECTS = {"user": ["", "ann", "bob"], "model": ["", "small"], "project": ["", "web"]}


def rule_of(budget: Budget) -> BudgetRule:
    """A budget as the gateway knows it."""
    return BudgetRule(id=budget.pk, scope=budget.scope, subject=budget.subject, period=budget.period, hard=budget.hard)


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call as Hypothesis draws it."""

    facts: CallFacts
    fixed: int
    output_pico: int
    tokens: int
    may_shrink: bool


CALLS = strategies.lists(
    strategies.builds(
        Call,
        facts=FACTS,
        fixed=AMOUNTS,
        output_pico=strategies.sampled_from([0, 1, 999, 30_000]),
        tokens=strategies.integers(0, 100),
        may_shrink=strategies.booleans(),
    ),
    min_size=1,
    max_size=4,
)


class Answer(msgspec.Struct):
    """As `ledger_reserve` writes it."""

    place: int
    tokens: int | None = None
    refused: Refusal | None = None


class LedgerMachine(RuleBasedStateMachine):
    attempts = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {', '.join(TABLES)} CASCADE")
        self.model = ModelLedger()
        self.tenant = Tenant.objects.first() or factories.make_tenant()
        self.folder = tempfile.TemporaryDirectory(prefix="bursar-flights-")
        self.process = self.new_process()
        self.last_batch: list[Reservation] = []
        self.swept: set[str] = set()

    def teardown(self) -> None:
        self.process.close(keep=False)
        self.folder.cleanup()

    def new_process(self) -> FlightRecorder:
        recorder = FlightRecorder(Path(self.folder.name), uuid.uuid4())
        sweeper.beat(recorder, dt.datetime.now(dt.UTC))
        return recorder

    def execute(self, statement: str, rows: Any) -> Any:
        """Run one of the ledger's own statements."""
        with connection.cursor() as cursor:
            cursor.execute(statement.replace("$1", "%s"), [msgspec.json.encode(rows).decode()])
            return cursor.fetchone()[0] if cursor.description else None

    # The clock and the rules ---------------------------------------------------------------------------------------
    @initialize(beginning=strategies.sampled_from(BEGINNINGS), limit=LIMITS)
    def begin(self, beginning: tuple[str, str], limit: int) -> None:
        self.zone = ZoneInfo(beginning[0])
        self.now = dt.datetime.fromisoformat(beginning[1]).replace(tzinfo=dt.UTC)
        self.make_budget(scope=Scope.TENANT, subject="", period=Period.DAY, hard=True, limit=limit)

    @rule(seconds=strategies.sampled_from([0.1, 0.2, 60, 3600, 7200]))
    def time_passes(self, seconds: float) -> None:
        self.now = min(self.now + dt.timedelta(seconds=seconds), END_OF_TIME)

    @rule(period=strategies.sampled_from(["hour", "day", "week", "month"]), after=strategies.booleans())
    def time_comes_to_a_border(self, period: str, after: bool) -> None:
        found = period_by_search(period, self.now, self.zone)
        assert found is not None
        moment = found[1] + dt.timedelta(seconds=0.1 if after else -0.1)
        self.now = min(max(moment, self.now), END_OF_TIME)

    @rule(
        scope=strategies.sampled_from(list(Scope)),
        period=strategies.sampled_from(list(Period)),
        hard=strategies.sampled_from([True, True, True, False]),
        limit=LIMITS,
        data=strategies.data(),
    )
    def a_budget_is_made(self, scope: str, period: str, hard: bool, limit: int, data: Any) -> None:
        subject = data.draw(strategies.sampled_from(SUBJECTS.get(scope, [""])))
        if not Budget.objects.filter(scope=scope, subject=subject, period=period).exists():
            self.make_budget(scope=scope, subject=subject, period=period, hard=hard, limit=limit)

    def make_budget(self, **fields: Any) -> None:
        limit = fields.pop("limit")
        row = Budget.objects.create(tenant=self.tenant, limit_nano_usd=limit, alert_at=[50, 100], **fields)
        self.model.budgets[row.pk] = ModelBudget(**fields, limit=limit)

    @rule(limit=LIMITS, data=strategies.data())
    def a_limit_is_changed(self, limit: int, data: Any) -> None:
        budget_id = self.a_budget(data)
        Budget.objects.filter(pk=budget_id).update(limit_nano_usd=limit)
        self.model.budgets[budget_id].limit = limit

    @rule(extra=strategies.integers(1, 5_000), hours=strategies.sampled_from([-1, 1, 24]), data=strategies.data())
    def more_is_allowed(self, extra: int, hours: int, data: Any) -> None:
        """An extra that has run out already counts for nothing."""
        budget_id = self.a_budget(data)
        until = dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours)
        row = BudgetOverride.objects.create(budget_id=budget_id, extra_nano_usd=extra, expires_at=until, reason="x")
        if hours > 0:
            self.model.budgets[budget_id].extras[row.pk] = extra

    @precondition(lambda self: any(budget.extras for budget in self.model.budgets.values()))
    @rule()
    def an_extra_runs_out(self) -> None:
        budget = next(budget for budget in self.model.budgets.values() if budget.extras)
        override_id, _ = budget.extras.popitem()
        BudgetOverride.objects.filter(pk=override_id).update(expires_at=dt.datetime.now(dt.UTC))

    def a_budget(self, data: Any) -> int:
        return int(data.draw(strategies.sampled_from(sorted(self.model.budgets))))

    # The verbs -----------------------------------------------------------------------------------------------------
    @rule(target=attempts, calls=CALLS)
    def a_batch_reserves(self, calls: list[Call]) -> Any:
        self.last_batch = [self.reservation_of(call) for call in calls]
        for row in self.last_batch:
            self.process.begin(row.id)
        self.reserve_and_compare()
        return multiple(*(row.id for row in self.last_batch))

    @precondition(lambda self: self.last_batch)
    @rule()
    def a_batch_is_sent_again(self) -> None:
        """As after a commit that was not heard of. Whoever was refused is asked anew."""
        self.reserve_and_compare()

    def reservation_of(self, call: Call) -> Reservation:
        rules = [rule_of(row) for row in Budget.objects.order_by("pk")]
        concerned = [entry for entry in rules if call.facts.concern(entry)]
        holds = holds_for(concerned, call.facts, moment=self.now, zone=self.zone)
        for entry, hold in zip(concerned, holds, strict=True):
            found = period_by_search(entry.period, self.now, self.zone)
            assert (hold.starts_at, hold.ends_at) == (found or (hold.starts_at, None)), entry.period
        return reservation(
            new_attempt_id(),
            tenant_id=self.tenant.pk,
            created_at=self.now,
            fixed_nano_usd=call.fixed,
            output_pico_usd=call.output_pico,
            max_output_tokens=call.tokens,
            smallest_output_tokens=16,
            may_shrink=call.may_shrink,
            holds=holds,
        )

    def reserve_and_compare(self) -> None:
        batch = self.last_batch
        answers = msgspec.convert(
            orjson.loads(self.execute(sql.reserve(self.process.process_id), batch)), list[Answer], strict=False
        )
        told = {answer.place: answer for answer in answers}
        process = str(self.process.process_id)
        for place, call in enumerate(batch):
            (expected,) = self.model.reserve([call], process)
            answer = told.get(place)
            if expected == "refused":
                assert answer is not None and answer.refused is not None, call
                assert self.model.explains(answer.refused, call)
                continue
            assert answer is None or answer.refused is None, f"refused in vain: {answer}"
            assert (answer.tokens if answer is not None else None) == expected

    @rule(
        ended=strategies.lists(attempts, min_size=1, max_size=4, unique=True),
        cost=strategies.integers(0, 6_000),
        again=strategies.booleans(),
    )
    def a_batch_settles(self, ended: list[str], cost: int, again: bool) -> None:
        """What has ended or was refused is among them; `again` sends the same batch twice."""
        own = [attempt_id for attempt_id in ended if attempt_id not in self.swept]
        rows = [self.charge(attempt_id, cost + place) for place, attempt_id in enumerate(own)]
        for row in rows:
            self.model.end(row.attempt_id, cost=row.cost_nano_usd)
        for _ in range(1 + again):
            self.execute(sql.SETTLE, rows)
        for row in rows:
            self.process.forget(row.attempt_id)

    @rule(ended=strategies.lists(attempts, min_size=1, max_size=4, unique=True))
    def a_batch_is_voided(self, ended: list[str]) -> None:
        own = [attempt_id for attempt_id in ended if attempt_id not in self.swept]
        self.execute(sql.VOID, [Void(attempt_id=attempt_id, failure="broken") for attempt_id in own])
        for attempt_id in own:
            self.model.end(attempt_id, cost=None)
            self.process.forget(attempt_id)

    def charge(self, attempt_id: str, cost: int) -> Settlement:
        return settlement(attempt_id, tenant_id=self.tenant.pk, cost_nano_usd=cost)

    @rule(data=strategies.data(), cost=strategies.integers(0, 6_000))
    def a_process_dies(self, data: Any, cost: int) -> None:
        """Killed and swept by its recorder: open calls were not sent, sent, or charged without the books knowing."""
        dead = self.process
        process = str(dead.process_id)
        for attempt_id in self.model.open_ids([process]):
            self.swept.add(attempt_id)
            fate = data.draw(strategies.sampled_from(["not sent", "sent", "charged"]))
            if fate == "not sent":
                self.model.end(attempt_id, cost=None)
                continue
            dead.dispatched(attempt_id, DISPATCH)
            if fate == "charged":
                dead.settled(self.charge(attempt_id, cost))
            self.model.end(attempt_id, cost=cost if fate == "charged" else 0)  # the call has no price
        dead.close(keep=True)
        self.process = self.new_process()
        long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
        GatewayProcess.objects.filter(pk=dead.process_id).update(beat_at=long_ago)
        sweeper.sweep(Path(self.folder.name), DEAD_AFTER_SECONDS)
        assert self.model.open_ids([process]) == []

    # What holds after every step -----------------------------------------------------------------------------------
    @invariant()
    def the_books_are_those_of_the_model(self) -> None:
        """M4, M6 and M10: each amount is in the windows of its own call, and nowhere else."""
        rows = BudgetWindow.objects.values_list(
            "budget_id", "subject", "starts_at", "ends_at", "spent_nano_usd", "reserved_nano_usd", "ceiling_nano_usd",
            "overrun_nano_usd",
        )  # fmt: skip
        assert {row[:3]: row[3:] for row in rows} == {
            key: window.figures() for key, window in self.model.windows.items()
        }
        ended = Attempt.objects.values_list("id", "state", "reserved_nano_usd", "usage__cost_nano_usd")
        assert {row[0].hex: row[1:] for row in ended} == {
            attempt_id: (attempt.state, attempt.reserved, attempt.cost)
            for attempt_id, attempt in self.model.attempts.items()
        }

    @invariant()
    def no_check_finds_a_breach(self) -> None:
        """M1, M3, M4 and M5, as `manage.py verify_money` asks them."""
        assert [finding for finding in verify() if finding.breaches] == []


EXAMPLES = int(os.environ.get("LEDGER_MACHINE_EXAMPLES", "40"))
STEPS = int(os.environ.get("LEDGER_MACHINE_STEPS", "30"))


def run(examples: int) -> None:
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize="LEDGER_MACHINE_EXAMPLES" not in os.environ,
            database=None,
            phases=[Phase.generate],  # shrinking takes minutes; the failure is told step by step as it is
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.django_db(transaction=True)
def test_the_ledger_does_what_its_model_does() -> None:
    run(EXAMPLES)


@pytest.mark.django_db(transaction=True)
def test_control_the_machine_finds_a_cap_that_is_none() -> None:
    """That an attempt ends once has a control of its own, in test_one_end.py."""
    with without(*HARD_CAP), pytest.raises((AssertionError, IntegrityError)):
        run(EXAMPLES)
