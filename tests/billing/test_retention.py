"""Months that are older than is kept go whole, and the books balance without them."""

from __future__ import annotations

import datetime as dt
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from billing.adjustments import adjust_charge
from billing.models import (
    Adjustment,
    Attempt,
    Budget,
    BudgetWindow,
    Statement,
    StatementPeriod,
    UsageDay,
    UsageHour,
    UsageRecord,
    UserDay,
)
from billing.retention import UsageMonth, expired_months, retain_usage, retire, usage_months
from tests.admin.seeding import attempt_id_at
from tests.billing.books import charge, verified
from tests.factories import make_tenant

pytestmark = pytest.mark.django_db(transaction=True)

OLD = dt.datetime(2024, 5, 17, 12, tzinfo=dt.UTC)


@pytest.fixture
def budget() -> Budget:
    """Of all time, so that its window has charges that go and charges that stay."""
    return Budget.objects.create(tenant=make_tenant(), period="total", limit_nano_usd=10**12)


@pytest.fixture
def may(budget: Budget) -> UsageMonth:
    """Three charges and a void of an old month: posted now, then everything about them moved back in time."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_make_partitions(%s, 1)", [OLD])
    for _ in range(3):
        charge(budget, tenant_id=budget.tenant_id)
    adjust_charge(UsageRecord.objects.first(), 100, reason="x", by=None)
    Attempt.objects.create(
        id=attempt_id_at(OLD), request_id="v", tenant=budget.tenant, api_key_id=1, deployment_id=1, operation="chat",
        model_name="m", provider_name="p", state="voided", created_at=OLD, ended_at=OLD,
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE billing_usagerecord DISABLE TRIGGER USER")
        cursor.execute("UPDATE billing_usagerecord SET created_at = %s", [OLD])
        cursor.execute("ALTER TABLE billing_usagerecord ENABLE TRIGGER USER")
        cursor.execute("UPDATE billing_attempt SET created_at = %s, ended_at = %s", [OLD, OLD])
        cursor.execute("TRUNCATE billing_usagehour, billing_usageday, billing_userday")
        cursor.execute("SELECT ledger_roll_up_between('-infinity', 'infinity')")
    return usage_months()[0]


def test_a_month_goes_with_what_hangs_on_it_and_the_books_still_balance(may: UsageMonth, budget: Budget) -> None:
    charge(budget, tenant_id=budget.tenant_id)
    verified()
    gone = retire(may)
    assert (may.table, gone.attempts) == ("billing_usagerecord_2024_05", 4)
    assert UsageRecord.objects.count() == Attempt.objects.count() == 1
    window = BudgetWindow.objects.get()
    assert (window.spent_nano_usd, window.archived_nano_usd) == (4 * 4_500 + 100, 3 * 4_500)
    assert Adjustment.objects.count() == 1, "adjustments are few, and stay"
    assert not UsageHour.objects.filter(starts_at__lt=may.ends_at).exists()
    assert not UserDay.objects.filter(starts_at__lt=may.ends_at).exists()
    assert UsageDay.objects.get(starts_at__lt=may.ends_at).calls == 3, "what the days came to stays"
    assert usage_months()[0].starts_at > may.starts_at
    verified()


def test_only_whole_months_beyond_what_is_kept_are_expired(may: UsageMonth) -> None:
    now = timezone.now()
    age = now.year * 12 + now.month - (OLD.year * 12 + OLD.month)
    assert [month.table for month in expired_months(age - 1)] == [may.table]
    assert expired_months(age) == [], "so many months besides the one under way"
    assert expired_months(age - 1, needed_from=OLD) == [], "a statement that is not issued yet needs it"
    assert expired_months(age - 1, needed_from=may.ends_at) != []
    with pytest.raises(ValueError, match="At least 2"):
        expired_months(1)


def test_the_command_says_what_would_go_and_then_drops_it(may: UsageMonth) -> None:
    said = StringIO()
    call_command("retain_usage", "--dry-run", stdout=said)
    assert "Would drop 2024-05" in said.getvalue() and UsageRecord.objects.count() == 3
    call_command("retain_usage", stdout=said)
    assert "Dropped, with 4 attempts" in said.getvalue() and not UsageRecord.objects.exists()
    call_command("retain_usage", stdout=said)
    assert "No month is older than the 25" in said.getvalue()
    verified()


def test_a_month_that_a_draft_is_made_of_stays(may: UsageMonth) -> None:
    draft = Statement.objects.create(
        tenant=make_tenant(), period=StatementPeriod.MONTH, starts_at=may.starts_at, ends_at=may.ends_at
    )
    said: list[str] = []
    retain_usage(2, say=said.append)
    assert may.table in {month.table for month in usage_months()} and "No month is older" in said[-1]
    Statement.objects.filter(pk=draft.pk).delete()
    retain_usage(2, say=said.append)
    assert may.table not in {month.table for month in usage_months()}
