"""Budgets are typed in USD, checked, shown with how they stand, and raised only with a reason."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing.models import Budget, BudgetOverride
from billing.money import NANO_PER_USD
from tenants.models import Project, Tenant
from tests.admin.seeding import add_window
from tests.admin.test_actions import history_of, said
from tests.factories import make_group, make_model, make_tenant

LIST = reverse("admin:billing_budget_changelist")
NO_INLINES = {"overrides-TOTAL_FORMS": "0", "overrides-INITIAL_FORMS": "0"}


@pytest.fixture
def tenant(db: None) -> Tenant:
    return make_tenant("acme", timezone="Europe/Berlin")


@pytest.fixture
def budget(tenant: Tenant) -> Budget:
    return Budget.objects.create(tenant=tenant, limit_nano_usd=100 * NANO_PER_USD, alert_at=[50])


def add(client: Client, tenant: Tenant, **fields: str) -> Any:
    given = {"scope": "tenant", "period": "month", "limit": "100", "hard": "on", "enabled": "on", "alert_at": ""}
    return client.post(reverse("admin:billing_budget_add"), {"tenant": tenant.pk, **NO_INLINES, **given, **fields})


def page_of(budget: Budget) -> str:
    return reverse("admin:billing_budget_change", args=[budget.pk])


def change(client: Client, budget: Budget, **fields: str) -> Any:
    given = {"limit": "100", "hard": "on", "enabled": "on", "alert_at": "50"}
    return client.post(page_of(budget), {**NO_INLINES, **given, **fields})


def errors(response: Any) -> dict[str, list[str]]:
    return dict(response.context["adminform"].form.errors)


def test_a_limit_is_typed_in_usd(operator: Client, tenant: Tenant) -> None:
    assert add(operator, tenant, limit=" 12.5 ", alert_at="80, 50,80").status_code == 302
    budget = Budget.objects.get()
    assert (budget.limit_nano_usd, budget.alert_at, budget.hard) == (12_500_000_000, [50, 80], True)
    assert 'value="12.5"' in operator.get(page_of(budget)).content.decode()


@pytest.mark.parametrize(
    ("field", "text", "problem"),
    [
        ("limit", "-1", "must be zero or more"),
        ("limit", "NaN", "must be zero or more"),
        ("limit", "inf", "must be zero or more"),
        ("limit", "much", "is not an amount"),
        ("limit", "", "This field is required"),
        ("limit", "10000000.01", "beyond 10000000"),
        ("limit", "1e999999", "beyond 10000000"),
        ("limit", "0.0000000001", "finer than"),
        ("alert_at", "0", "whole percentages from 1 to 1000"),
        ("alert_at", "1001", "whole percentages from 1 to 1000"),
        ("alert_at", "half", "whole percentages from 1 to 1000"),
        ("subject", "web", "the whole tenant has no subject"),
    ],
)
def test_a_senseless_budget_is_explained_at_its_field(
    field: str, text: str, problem: str, operator: Client, tenant: Tenant
) -> None:
    response = add(operator, tenant, **{field: text})
    assert problem in errors(response)[field][0]
    assert not Budget.objects.exists()


def test_a_subject_must_bear_its_name(operator: Client, tenant: Tenant) -> None:
    make_group(make_model(name="served"), name="some-group")
    Project.objects.create(tenant=make_tenant(), name="elsewhere")
    for scope, subject in (("project", "elsewhere"), ("key", "nobody"), ("model", "some-group"), ("provider", "x")):
        assert "is called" in errors(add(operator, tenant, scope=scope, subject=subject))["subject"][0]
    assert not Budget.objects.exists()
    for scope, subject in (("model", "served"), ("user", "anybody"), ("project", "")):
        assert add(operator, tenant, scope=scope, subject=subject).status_code == 302


def test_the_same_budget_is_not_made_twice(operator: Client, tenant: Tenant, budget: Budget) -> None:
    assert "already exists" in errors(add(operator, tenant))["__all__"][0]


def test_what_a_budget_is_about_is_fixed(operator: Client, budget: Budget) -> None:
    assert change(operator, budget, scope="user", period="day", limit="7").status_code == 302
    budget.refresh_from_db()
    assert (budget.scope, budget.period, budget.limit_nano_usd) == ("tenant", "month", 7 * NANO_PER_USD)


def test_a_limit_below_its_use_is_accepted_and_said_to_refuse(operator: Client, budget: Budget) -> None:
    add_window(budget, spent_nano_usd=40 * NANO_PER_USD, reserved_nano_usd=2 * NANO_PER_USD)
    assert not any("refused" in text for text in said(change(operator, budget, limit="43")))
    response = change(operator, budget, limit="40")
    assert response.status_code == 302
    assert "40 USD are spent already and 2 held: calls are refused from now on." in said(response)
    soft = operator.post(page_of(budget), {**NO_INLINES, "limit": "1", "enabled": "on", "alert_at": ""})
    assert not any("refused" in str(message) for message in list(get_messages(soft.wsgi_request))[-1:])


def test_list_and_page_show_how_it_stands(viewer: Client, budget: Budget) -> None:
    Budget.objects.update(created_at=timezone.now() - dt.timedelta(days=400))
    add_window(budget, spent_nano_usd=40 * NANO_PER_USD, reserved_nano_usd=5 * NANO_PER_USD)
    for url in (LIST, page_of(budget)):
        html = viewer.get(url).content.decode()
        assert 'aria-label="40 % spent">40 %</progress>' in html
        assert ">55<" in html and "5" in html, "remaining and held"
        assert "At this pace exhausted on" in html or "Not before it begins anew on" in html
    later = timezone.now() + dt.timedelta(hours=1)
    BudgetOverride.objects.create(budget=budget, extra_nano_usd=100 * NANO_PER_USD, expires_at=later, reason="a launch")
    html = viewer.get(LIST).content.decode()
    assert "+100 now" in html and 'aria-label="20 % spent"' in html


def test_each_users_budget_shows_the_fullest(viewer: Client, tenant: Tenant) -> None:
    budget = Budget.objects.create(tenant=tenant, scope="user", period="day", limit_nano_usd=NANO_PER_USD)
    for number in range(12):
        add_window(budget, subject=f"u-{number}", spent_nano_usd=number * NANO_PER_USD // 10)
    assert "by u-11, the fullest of 12" in viewer.get(LIST).content.decode()
    html = viewer.get(page_of(budget)).content.decode()
    assert "u-11" in html and "u-2<" in html and "u-1<" not in html
    assert "2 more in this period" in html


def press(client: Client, budget: Budget, **data: str) -> Any:
    return client.post(reverse("admin:billing_budget_allow_more", args=[budget.pk]), data)


def test_more_is_allowed_with_a_reason_until_a_moment(operator: Client, budget: Budget) -> None:
    assert "Allow more for" in press(operator, budget).content.decode()
    assert not BudgetOverride.objects.exists()
    tomorrow = timezone.now().replace(second=0, microsecond=0) + dt.timedelta(days=1)
    given = {"confirmed": "yes", "extra": "25.5", "expires_at": f"{tomorrow:%Y-%m-%dT%H:%M}", "reason": "A launch"}
    response = press(operator, budget, **given)
    assert response.status_code == 302
    override = BudgetOverride.objects.get()
    assert (override.extra_nano_usd, override.expires_at) == (25_500_000_000, tomorrow)
    assert (override.reason, override.created_by.username) == ("A launch", "an-operator")
    until = f"{tomorrow:%Y-%m-%d %H:%M}"
    assert history_of(budget) == [("an-operator", f"Allowed +25.5 USD until {until}. A launch")]
    assert "A launch" in operator.get(page_of(budget)).content.decode()


@pytest.mark.parametrize(
    ("field", "text", "problem"),
    [
        ("extra", "0", "Allow more than nothing."),
        ("extra", "-5", "must be zero or more"),
        ("extra", "1e9", "beyond 10000000"),
        ("expires_at", "2020-01-01T00:00", "This moment has passed."),
        ("expires_at", "soon", "Enter a valid date/time."),
        ("reason", "", "This field is required."),
    ],
)
def test_a_senseless_extra_is_explained(field: str, text: str, problem: str, operator: Client, budget: Budget) -> None:
    given = {"confirmed": "yes", "extra": "1", "expires_at": "2100-01-01T00:00", "reason": "because", field: text}
    response = press(operator, budget, **given)
    assert response.status_code == 200
    assert problem in response.content.decode()
    assert not BudgetOverride.objects.exists()


def test_a_tenant_leads_to_its_budgets(viewer: Client, budget: Budget) -> None:
    other = Budget.objects.create(tenant=make_tenant("other"), limit_nano_usd=0)
    url = f"{LIST}?tenant__id__exact={budget.tenant.pk}"
    assert url in viewer.get(reverse("admin:tenants_tenant_change", args=[budget.tenant.pk])).content.decode()
    assert list(viewer.get(url).context["cl"].result_list) == [budget]
    history = f"{reverse('admin:billing_budgetwindow_changelist')}?budget__id__exact={other.pk}"
    add_window(budget)
    assert list(viewer.get(history).context["cl"].result_list) == []
