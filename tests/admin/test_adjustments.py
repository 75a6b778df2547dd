"""Adjusting a charge from its page: who may, what is asked, what is left in the history."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from billing.models import Adjustment, UsageRecord
from tenants.models import Role
from tests.admin.conftest import LogIn
from tests.admin.seeding import add_usage
from tests.factories import make_key, make_model, make_provider, make_tenant


@pytest.fixture
def charge(db: None) -> UsageRecord:
    key, _ = make_key(make_tenant("acme"))
    deployment = make_model(make_provider("https://api.example.com/v1")).deployments.get()
    return add_usage(key, deployment, cost_nano_usd=250_000_000)


def page(name: str, charge: UsageRecord) -> str:
    return reverse(f"admin:billing_usagerecord_{name}", args=[charge.pk])


def test_an_owner_credits_a_charge_with_a_reason(owner: Client, charge: UsageRecord) -> None:
    assert page("adjust", charge) in owner.get(page("change", charge)).content.decode()
    assert "Adjust the charge of 0.25 USD" in owner.post(page("adjust", charge)).content.decode()
    assert not Adjustment.objects.exists(), "asked, not done"
    fields = {"confirmed": "yes", "amount": "-0.1", "reason": "it was slow"}
    assert owner.post(page("adjust", charge), fields)["Location"] == page("change", charge)
    posted = Adjustment.objects.get()
    assert (posted.amount_nano_usd, posted.reason, posted.created_by.role) == (-100_000_000, "it was slow", Role.OWNER)
    assert "-0.1 USD: it was slow" in LogEntry.objects.get().change_message
    assert "-0.1 USD: it was slow" in owner.get(page("change", charge)).content.decode()
    listed = owner.get(reverse("admin:billing_adjustment_changelist")).content.decode()
    assert "it was slow" in listed and "acme" in listed
    detail = owner.get(reverse("admin:billing_adjustment_change", args=[posted.pk])).content.decode()
    assert page("change", charge) in detail
    usage = owner.get(reverse("admin:billing_usagerecord_changelist"))
    assert usage.context["cl"].totals.cost_nano_usd == 150_000_000


@pytest.mark.parametrize(
    ("amount", "reason", "says"),
    [
        ("-0.26", "x", "are left"),
        ("0", "x", "more than nothing"),
        ("ten", "x", "is not an amount"),
        ("1", "", "required"),
    ],
)
def test_what_is_refused_is_said_on_the_page(
    owner: Client, charge: UsageRecord, amount: str, reason: str, says: str
) -> None:
    fields = {"confirmed": "yes", "amount": amount, "reason": reason}
    assert says in owner.post(page("adjust", charge), fields).content.decode()
    assert not Adjustment.objects.exists() and not LogEntry.objects.exists()


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.VIEWER])
def test_nobody_else_may(role: str, log_in: LogIn, charge: UsageRecord) -> None:
    client = log_in(role)
    assert page("adjust", charge) not in client.get(page("change", charge)).content.decode()
    fields = {"confirmed": "yes", "amount": "1", "reason": "x"}
    assert client.post(page("adjust", charge), fields).status_code == 403
    assert not Adjustment.objects.exists()
