"""Statements: periods by the tenant's clocks, draft, issue, lock, markup, credit notes, what the database refuses."""

from __future__ import annotations

import datetime as dt
import io
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, transaction
from django.utils import timezone

from billing import tasks
from billing.adjustments import adjust_tenant
from billing.errors import StatementError
from billing.models import Budget, Entry, Statement, StatementKind, StatementSchedule, StatementState
from billing.money import NANO_PER_USD
from billing.statements.amounts import NANO_PER_CENT, amounts_of
from billing.statements.content import content_hash
from billing.statements.credit_notes import Credit, credit, creditable_nano_usd
from billing.statements.drafting import make_draft
from billing.statements.lifecycle import issue, lock, refresh
from billing.statements.markups import read_percent, set_markup
from billing.statements.nightly import make_due_statements
from billing.statements.periods import Span, period_around, periods_due
from tenants.models import Notification, Tenant
from tests.billing.books import charge, spent
from tests.billing.statement_seeding import post
from tests.factories import make_tenant

UTC = dt.UTC
NEVER_BY_ITSELF = {"issues_by_itself": False}


@pytest.fixture
def tenant(db: None) -> Tenant:
    return make_tenant("acme")


def at(text: str, zone: str = "UTC") -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def made(tenant: Tenant) -> list[Statement]:
    return [one.statement for one in make_due_statements(tenant.pk)]


def issued(tenant: Tenant, **entry: object) -> Statement:
    """An issued statement of January 2024."""
    post(tenant, at("2024-01-10"), **entry)
    (statement,) = made(tenant)
    assert statement.state == StatementState.ISSUED
    return statement


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu", "Pacific/Apia", "UTC"])
def test_a_month_is_the_tenants_to_the_microsecond(zone: str, db: None) -> None:
    tenant = make_tenant(timezone=zone)
    begins, ends = at("2024-03-01T00:00", zone), at("2024-04-01T00:00", zone)
    tick = dt.timedelta(microseconds=1)
    for number, moment in enumerate((begins - tick, begins, ends - tick, ends)):
        post(tenant, moment, cost_nano_usd=10**number)
    february, march, april = made(tenant)
    assert [one.subtotal_nano_usd for one in (february, march, april)] == [1, 110, 1000]
    assert (march.starts_at, march.ends_at) == (begins, ends)
    assert february.ends_at == march.starts_at and march.ends_at == april.starts_at


def test_days_when_clocks_change_and_a_day_that_never_was(db: None) -> None:
    new_york = [period_around(at("2024-03-10T12:00"), period="day", zone=ZoneInfo("America/New_York"))]
    new_york.append(period_around(at("2024-11-03T12:00"), period="day", zone=ZoneInfo("America/New_York")))
    assert [(span.end - span.start) / dt.timedelta(hours=1) for span in new_york] == [23, 25]

    apia = make_tenant(timezone="Pacific/Apia")  # went from 29 to 31 December 2011 over the date line
    StatementSchedule.objects.create(tenant=apia, period="day")
    for hours in range(0, 96, 6):
        post(apia, at("2011-12-28T10:00") + dt.timedelta(hours=hours), cost_nano_usd=NANO_PER_USD)
    statements = made(apia)
    assert sum(one.calls for one in statements) == 16
    assert all(one.ends_at == other.starts_at for one, other in pairwise(statements))


def test_a_draft_follows_the_ledger_and_what_is_issued_does_not(tenant: Tenant) -> None:
    StatementSchedule.objects.create(tenant=tenant, **NEVER_BY_ITSELF)
    post(tenant, at("2024-01-10"), cost_nano_usd=1)
    (draft,) = made(tenant)
    assert (draft.state, draft.number, draft.subtotal_nano_usd) == (StatementState.DRAFT, "", 1)
    post(tenant, at("2024-01-11"), cost_nano_usd=2)
    refreshed = refresh(draft.pk)
    assert refreshed is not None and refreshed.subtotal_nano_usd == 3
    final = issue(draft.pk, by=None)
    assert (final.number, final.content_hash) == (f"S-{tenant.pk:04d}-00001", content_hash(final))
    assert final.content_hash == refreshed.content_hash, "a draft and what is issued from it say the same"
    with pytest.raises(StatementError, match="issued"):
        issue(draft.pk, by=None)
    with pytest.raises(StatementError, match="issued"):
        refresh(draft.pk)
    lock(draft.pk, by=None)
    with pytest.raises(StatementError, match="Only an issued"):
        lock(draft.pk, by=None)


def test_a_period_is_issued_only_after_a_margin(tenant: Tenant) -> None:
    now = timezone.now()
    just_over = Span(now - dt.timedelta(days=1), now - dt.timedelta(minutes=4))
    post(tenant, just_over.start)
    draft = make_draft(tenant.pk, just_over)
    assert draft is not None
    with pytest.raises(StatementError, match="five minutes"):
        issue(draft.pk, by=None)
    draft.refresh_from_db()
    assert draft.state == StatementState.DRAFT


def test_the_period_under_way_stays_a_draft(tenant: Tenant) -> None:
    post(tenant, timezone.now())
    (under_way,) = make_due_statements(tenant.pk)
    assert under_way.statement.state == StatementState.DRAFT
    assert "under way" in under_way.held_back


def test_statements_are_issued_in_order(tenant: Tenant) -> None:
    StatementSchedule.objects.create(tenant=tenant, **NEVER_BY_ITSELF)
    post(tenant, at("2024-01-10"))
    post(tenant, at("2024-02-10"))
    january, february = made(tenant)
    with pytest.raises(StatementError, match="on no statement yet"):
        issue(february.pk, by=None)
    assert [issue(one.pk, by=None).sequence for one in (january, february)] == [1, 2]


def test_calls_without_a_price_wait_for_a_reason(tenant: Tenant) -> None:
    post(tenant, at("2024-01-10"), price_id=None, cost_nano_usd=0)
    post(tenant, at("2024-01-10"), price_id=None, cost_nano_usd=0, usage_source="unknown")
    post(tenant, at("2024-02-10"))
    january, february = make_due_statements(tenant.pk)
    assert (january.statement.unpriced_calls, february.statement.state) == (1, StatementState.DRAFT)
    assert "no price" in january.held_back
    with pytest.raises(StatementError, match="Give a reason"):
        issue(january.statement.pk, by=None, reason="  ")
    assert issue(january.statement.pk, by=None, reason="A gift").reason == "A gift"
    assert [one.state for one in made(tenant)] == [StatementState.ISSUED]


def test_another_time_zone_or_schedule_leaves_no_gap_and_no_overlap(tenant: Tenant) -> None:
    issued(tenant)
    Tenant.objects.filter(pk=tenant.pk).update(timezone="America/New_York")
    tick = dt.timedelta(microseconds=1)
    for moment in (at("2024-02-01T00:00"), at("2024-02-01T05:00") - tick, at("2024-02-01T05:00")):
        post(tenant, moment)
    hours, february = made(tenant)
    assert (hours.starts_at, hours.ends_at, hours.calls) == (at("2024-02-01"), at("2024-02-01T05:00"), 2)
    assert (february.starts_at, february.calls) == (at("2024-02-01T05:00"), 1)
    StatementSchedule.objects.create(tenant=tenant, period="day")
    post(tenant, at("2024-03-05T12:00"))
    (day,) = made(tenant)
    assert (day.period, day.ends_at - day.starts_at) == ("day", dt.timedelta(days=1))


def test_drafts_of_an_abandoned_schedule_go(tenant: Tenant) -> None:
    schedule = StatementSchedule.objects.create(tenant=tenant, period="day", **NEVER_BY_ITSELF)
    post(tenant, at("2024-01-10T12:00"))
    post(tenant, at("2024-01-20T12:00"))
    assert len(made(tenant)) == 2
    schedule.period = "month"
    schedule.save()
    (month,) = made(tenant)
    assert list(Statement.objects.all()) == [month] and month.calls == 2


def test_another_tenants_entries_are_never_on_it(tenant: Tenant) -> None:
    post(make_tenant("other"), at("2024-01-10"), cost_nano_usd=7)
    assert issued(tenant, cost_nano_usd=5).subtotal_nano_usd == 5


def test_nothing_posted_is_nothing_stated(tenant: Tenant) -> None:
    assert made(tenant) == []
    assert list(periods_due(tenant, now=timezone.now())) == []
    assert make_draft(tenant.pk, Span(at("2024-01-01"), at("2024-02-01"))) is None
    assert not Statement.objects.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"subtotal_nano_usd": 0, "rounding_nano_usd": 0, "total_cents": 0},
        {"content_hash": ""},
        {"number": "S-1"},
        {"issued_at": None},
        {"state": "draft", "sequence": None},
        {"tenant_name": "other"},
    ],
)
def test_the_database_keeps_what_is_issued(change: dict[str, object], tenant: Tenant) -> None:
    statement = issued(tenant)
    for state in ("issued", "locked"):
        for harm in (
            lambda: Statement.objects.filter(pk=statement.pk).update(**change),
            lambda: Statement.objects.filter(pk=statement.pk).delete(),
            lambda: statement.lines.update(cost_nano_usd=0),
            lambda: statement.lines.all().delete(),
            lambda: statement.lines.create(position=99, kind="usage", cost_nano_usd=1),
        ):
            with pytest.raises(DatabaseError, match="is issued"), transaction.atomic():
                harm()
        if state == "issued":
            lock(statement.pk, by=None)
    statement.refresh_from_db()
    assert content_hash(statement) == statement.content_hash


def test_a_draft_is_not_locked_past_its_issue(tenant: Tenant) -> None:
    StatementSchedule.objects.create(tenant=tenant, **NEVER_BY_ITSELF)
    post(tenant, at("2024-01-10"))
    (draft,) = made(tenant)
    with pytest.raises(DatabaseError, match="before it is locked"), transaction.atomic():
        Statement.objects.filter(pk=draft.pk).update(state="locked", sequence=1)


@pytest.mark.parametrize(
    ("subtotal", "basis_points", "markup", "cents"),
    [
        (1_000_000_000, 1250, 125_000_000, 113),
        (4_999_999, 0, 0, 0),
        (5_000_000, 0, 0, 1),
        (-5_000_000, 0, 0, -1),
        (3, -3333, -1, 0),
        (10**18, 100_000, 10**19, 110 * 10**10),
        (123_456_789_012, -10_000, -123_456_789_012, 0),
    ],
)
def test_amounts_add_up_and_round_once(subtotal: int, basis_points: int, markup: int, cents: int) -> None:
    amounts = amounts_of(subtotal, basis_points)
    assert (amounts.markup_nano_usd, amounts.total_cents) == (markup, cents)
    assert subtotal + markup + amounts.rounding_nano_usd == cents * NANO_PER_CENT
    assert abs(amounts.rounding_nano_usd) <= NANO_PER_CENT // 2


def test_a_markup_is_a_line_from_the_next_period_on(tenant: Tenant) -> None:
    set_markup(tenant, 1000, valid_from=at("2024-01-15"), reason="a contract", by=None)
    post(tenant, at("2024-01-20"))
    post(tenant, at("2024-02-20"))
    january, february = made(tenant)
    assert (january.markup_nano_usd, january.total_cents) == (0, 100)
    assert (february.subtotal_nano_usd, february.markup_nano_usd, february.total_cents) == (10**9, 10**8, 110)
    with pytest.raises(StatementError, match=f"{february.number} is issued"):
        set_markup(tenant, 0, valid_from=at("2024-02-01"), reason="too late", by=None)
    with pytest.raises(StatementError, match="Say why"):
        set_markup(tenant, 0, valid_from=timezone.now(), reason=" ", by=None)
    set_markup(tenant, -10_000, valid_from=at("2024-02-02"), reason="free", by=None)
    post(tenant, at("2024-03-20"))
    assert [one.total_cents for one in made(tenant)] == [0]


@pytest.mark.parametrize("text", ["", "x", "NaN", "inf", "-100.01", "1000.01", "0.001", "1e999", "1" * 100, "--1"])
def test_a_percentage_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(StatementError):
        read_percent(text)


def test_percentages_are_read_exactly() -> None:
    assert [read_percent(text) for text in ("12.5", " -3 % ", "0", "1000", "-100")] == [1250, -300, 0, 100_000, -10_000]


def test_credit_notes_never_take_off_more_than_was_charged(tenant: Tenant) -> None:
    set_markup(tenant, 333, valid_from=at("2024-01-01"), reason="a contract", by=None)
    statement = issued(tenant, cost_nano_usd=1_234_567_891)
    lock(statement.pk, by=None)
    third = statement.subtotal_nano_usd // 3
    for amount in (third, third, statement.subtotal_nano_usd - 2 * third):
        note = credit(statement.pk, [Credit(amount_nano_usd=amount, reason="a fault")], by=None)
        assert (note.kind, note.state, note.credits_id) == (StatementKind.CREDIT_NOTE, "issued", statement.pk)
        assert content_hash(note) == note.content_hash
    notes = Statement.objects.filter(credits=statement).order_by("sequence")
    assert [note.number for note in notes] == [f"C-{tenant.pk:04d}-0000{place}" for place in (1, 2, 3)]
    for name in ("subtotal_nano_usd", "markup_nano_usd", "rounding_nano_usd", "total_cents"):
        assert sum(getattr(note, name) for note in notes) == -getattr(statement, name), "exactly all of it"
    assert creditable_nano_usd(statement) == 0
    with pytest.raises(StatementError, match="more than the 0 USD"):
        credit(statement.pk, [Credit(amount_nano_usd=1, reason="more")], by=None)


def test_what_a_credit_note_refuses(tenant: Tenant) -> None:
    StatementSchedule.objects.create(tenant=tenant, **NEVER_BY_ITSELF)
    post(tenant, at("2024-01-10"))
    (draft,) = made(tenant)
    fine = Credit(amount_nano_usd=1, reason="a fault")
    with pytest.raises(StatementError, match="that is issued"):
        credit(draft.pk, [fine], by=None)
    statement = issue(draft.pk, by=None)
    for credits, why in (
        ([], "at least one line"),
        ([Credit(amount_nano_usd=0, reason="a fault")], "more than nothing"),
        ([Credit(amount_nano_usd=-5, reason="a fault")], "more than nothing"),
        ([Credit(amount_nano_usd=1, reason=" ")], "needs a reason"),
        ([fine, Credit(amount_nano_usd=10**9, reason="all")], "is more than"),
    ):
        with pytest.raises(StatementError, match=why):
            credit(statement.pk, credits, by=None)
    note = credit(statement.pk, [fine], by=None)
    with pytest.raises(StatementError, match="that is issued"):
        credit(note.pk, [fine], by=None)


def command(**options: str) -> list[str]:
    written = io.StringIO()
    call_command("make_statements", stdout=written, **options)
    return written.getvalue().splitlines()


def test_the_command_says_what_it_made(tenant: Tenant) -> None:
    make_tenant("bare")
    post(tenant, at("2024-01-10"))
    post(tenant, at("2024-02-10"))
    lines = command(tenant="acme", period="2024-01")
    assert lines == [f"1/1 acme: January 2024, 1.00 USD, 1 calls, issued as S-{tenant.pk:04d}-00001"]
    assert command() == [
        f"1/2 acme: February 2024, 1.00 USD, 1 calls, issued as S-{tenant.pk:04d}-00002",
        "2/2 bare: nothing to state",
    ]
    assert command(tenant="acme") == ["1/1 acme: nothing to state"]


@pytest.mark.parametrize("period", ["2024", "2024-13", "2024-02-30", "x", "2024-1", "01-2024"])
def test_a_period_that_is_none_is_refused(period: str, tenant: Tenant) -> None:
    with pytest.raises(CommandError, match="--period"):
        command(period=period)


def test_an_unknown_tenant_is_refused(tenant: Tenant) -> None:
    with pytest.raises(CommandError, match="no tenant is called"):
        command(tenant="acme ")


def test_an_adjustment_is_on_the_statement_of_its_posting_and_a_credit_on_its_note_alone(tenant: Tenant) -> None:
    statement = issued(tenant)
    note = credit(statement.pk, [Credit(amount_nano_usd=400_000_000, reason="a fault")], by=None)
    adjust_tenant(tenant, 7, reason="forgotten", by=None)
    (under_way,) = made(tenant)
    (line,) = under_way.lines.all()
    assert (line.kind, line.reason, line.calls, line.cost_nano_usd) == ("adjustment", "forgotten", 0, 7)
    ledger = sum(Entry.objects.filter(tenant=tenant).values_list("cost_nano_usd", flat=True))
    assert statement.subtotal_nano_usd + note.subtotal_nano_usd + under_way.subtotal_nano_usd == ledger


def test_books_balance_after_a_credit_note_and_no_budget_moves(tenant: Tenant) -> None:
    budget = Budget.objects.create(tenant=tenant, limit_nano_usd=NANO_PER_USD)
    charge(budget, tenant_id=tenant.pk, cost=1_000)
    post(tenant, at("2024-01-10"), cost_nano_usd=5_000)
    (statement, _) = made(tenant)
    credit(statement.pk, [Credit(amount_nano_usd=4_000, reason="more than this month has spent")], by=None)
    assert spent(budget) == 1_000


def test_the_tenant_is_told_once_in_the_same_transaction(tenant: Tenant) -> None:
    statement = issued(tenant)
    credit(statement.pk, [Credit(amount_nano_usd=10**8, reason="a fault")], by=None)
    told = list(Notification.objects.order_by("created_at").values_list("event", "key", "data__total_usd"))
    assert told == [
        ("statement.issued", statement.number, "1.00"),
        ("statement.issued", f"C-{tenant.pk:04d}-00001", "-0.10"),
    ]
    made(tenant)
    assert Notification.objects.count() == 2
    data = Notification.objects.get(key=statement.number).data
    assert data["url"].endswith(f"/admin/billing/statement/{statement.pk}/change/")
    assert data["content_hash"] == statement.content_hash


def test_the_nightly_task_makes_each_tenants(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    post(tenant, at("2024-01-10"))
    post(make_tenant("other"), at("2024-01-10"))
    sent: list[int] = []
    monkeypatch.setattr(tasks.make_statements, "delay", sent.append)
    tasks.make_statements()
    assert sent == list(Tenant.objects.order_by("pk").values_list("pk", flat=True))
    for tenant_id in sent:
        tasks.make_statements(tenant_id)
    assert set(Statement.objects.values_list("tenant__name", "state")) == {("acme", "issued"), ("other", "issued")}
