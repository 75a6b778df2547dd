"""Money moved by hand: what it moves, what it may not, and that it stays as it was posted."""

from __future__ import annotations

import threading

import pytest
from django.db import ProgrammingError, connection, transaction

from billing.adjustments import adjust_charge, adjust_tenant, read_amount
from billing.errors import AdjustmentError
from billing.models import Adjustment, Budget, BudgetAlert, BudgetWindow, UsageRecord
from billing.models.budgets import HIGHEST_LIMIT_NANO_USD
from tenants.models import Tenant
from tests.billing.books import charge, spent, verified
from tests.factories import make_tenant

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def tenant(db: None) -> Tenant:
    return make_tenant()


@pytest.fixture
def month(tenant: Tenant) -> Budget:
    return Budget.objects.create(tenant=tenant, limit_nano_usd=10_000_000, alert_at=[50])


@pytest.fixture
def charged(tenant: Tenant, month: Budget) -> UsageRecord:
    return UsageRecord.objects.get(pk=charge(month, tenant_id=tenant.pk, project_id=7, user="u-1"))


def test_it_moves_what_the_charge_was_spent_in(charged: UsageRecord, month: Budget) -> None:
    adjustment = adjust_charge(charged, -500, reason=" twice ", by=None)
    assert (adjustment.kind, adjustment.reason, adjustment.attempt_id) == ("adjustment", "twice", charged.pk)
    assert (adjustment.tenant_id, adjustment.project_id, adjustment.user) == (charged.tenant_id, 7, "u-1")
    assert (adjustment.model_name, adjustment.provider_name) == ("m", "p")
    assert spent(month) == 4_000
    adjust_charge(charged, 6_000_000, reason="too little", by=None)
    assert spent(month) == 6_004_000 and BudgetAlert.objects.filter(window__budget=month).exists()
    verified()


@pytest.mark.parametrize(
    ("amount", "reason", "says"),
    [
        (0, "why", "more than nothing"),
        (HIGHEST_LIMIT_NANO_USD + 1, "why", "is beyond"),
        (-HIGHEST_LIMIT_NANO_USD - 1, "why", "is beyond"),
        (-4_501, "why", "0.0000045 USD are left"),
        (5, "  ", "Say why"),
        (5, "x" * 501, "at most 500"),
    ],
)
def test_what_may_not_be_posted_changes_nothing(
    charged: UsageRecord, month: Budget, amount: int, reason: str, says: str
) -> None:
    with pytest.raises(AdjustmentError, match=says):
        adjust_charge(charged, amount, reason=reason, by=None)
    assert spent(month) == 4_500 and not Adjustment.objects.exists()


def test_a_charge_is_credited_once_however_many_try(charged: UsageRecord, month: Budget) -> None:
    refused: list[str] = []

    def credit() -> None:
        try:
            adjust_charge(charged, -4_500, reason="all of it", by=None)
        except AdjustmentError as error:
            refused.append(str(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=credit) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 5 and spent(month) == 0
    verified()


def test_without_a_charge_the_whole_tenants_windows_now_are_moved(tenant: Tenant, month: Budget) -> None:
    of_user = Budget.objects.create(tenant=tenant, scope="user", limit_nano_usd=1)
    adjustment = adjust_tenant(tenant, 7, reason="set-up", by=None)
    assert (adjustment.attempt_id, adjustment.project_id, adjustment.model_name) == (None, None, "")
    assert spent(month) == 7 and not BudgetWindow.objects.filter(budget=of_user).exists()
    with pytest.raises(AdjustmentError, match="less than nothing"):
        adjust_tenant(tenant, -8, reason="too much", by=None)
    assert spent(month) == 7 and Adjustment.objects.count() == 1
    verified()


def test_adjustments_only_grow(charged: UsageRecord) -> None:
    adjust_charge(charged, 1, reason="x", by=None)
    for change in (lambda: Adjustment.objects.update(amount_nano_usd=2), lambda: Adjustment.objects.all().delete()):
        with pytest.raises(ProgrammingError, match="only grows"), transaction.atomic():
            change()


@pytest.mark.parametrize(("text", "nano"), [("0.25", 250_000_000), (" -1 ", -1_000_000_000), ("-0.000000001", -1)])
def test_amounts_are_typed_with_a_sign(text: str, nano: int) -> None:
    assert read_amount(text) == nano


@pytest.mark.parametrize("text", ["", "-", "--1", "NaN", "-inf", "1e30", "0.0000000001", "ten"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(AdjustmentError):
        read_amount(text)
