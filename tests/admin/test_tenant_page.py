"""A tenant's page: what it shows, what the tenant could do right now, and what suspending it says first."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing.models import Attempt, Budget, BudgetWindow
from billing.money import NANO_PER_USD
from providers.services import approve_for_tenant
from tenants.models import ApiKey, Project, RateLimit, Tenant, TenantStatus
from tests.admin.seeding import Seeded, add_usage, add_window
from tests.admin.test_actions import confirm, history_of, press
from tests.factories import make_key, make_tenant


@pytest.fixture
def tenant(seeded: Seeded) -> Tenant:
    """Ours: a key in a project, and the first model approved."""
    tenant = make_tenant("acme")
    make_key(tenant, name="ci", project=Project.objects.create(tenant=tenant, name="web"))
    approve_for_tenant(tenant, seeded.model, by=None)
    return tenant


def page(client: Client, tenant: Tenant, **query: Any) -> Any:
    response = client.get(reverse("admin:tenants_tenant_change", args=[tenant.pk]), query)
    assert response.status_code == 200
    return response


def budget(tenant: Tenant, usd: int, **fields: Any) -> Budget:
    return Budget.objects.create(tenant=tenant, limit_nano_usd=usd * NANO_PER_USD, **fields)


def test_what_is_added_from_the_page_leads_back_to_it(operator: Client, tenant: Tenant) -> None:
    given = {"tenant": tenant.pk, "scope": "tenant", "subject": "", "enabled": "on", "requests_per_minute": "60"}
    add, here = reverse("admin:tenants_ratelimit_add"), reverse("admin:tenants_tenant_change", args=[tenant.pk])
    assert operator.post(f"{add}?tenant={tenant.pk}", given)["Location"] == here
    RateLimit.objects.all().delete()
    for elsewhere in ("", f"?tenant={tenant.pk + 1}", "?tenant=//evil.example"):
        assert operator.post(add + elsewhere, given)["Location"] == reverse("admin:tenants_ratelimit_changelist")
        RateLimit.objects.all().delete()
    settled = {"name": "new-one", "timezone": "UTC", "currency": "USD", "keep_text_days": "0"}
    settled |= {"projects-TOTAL_FORMS": "0", "projects-INITIAL_FORMS": "0"}
    made = operator.post(reverse("admin:tenants_tenant_add"), settled)
    assert made["Location"] == reverse("admin:tenants_tenant_change", args=[Tenant.objects.get(name="new-one").pk])


def row(response: Any) -> Any:
    (found,) = response.context["right_now"]["rows"]
    return found


def test_the_page_has_all_that_is_about_the_tenant(operator: Client, tenant: Tenant, seeded: Seeded) -> None:
    add_usage(ApiKey.objects.get(tenant=tenant), seeded.model.deployments.first())
    RateLimit.objects.create(tenant=tenant, requests_per_minute=60)
    text = page(operator, tenant).content.decode()
    for words in (
        "0.00045 USD",
        "first-model",
        "ci",
        "60 requests a minute",
        "Nobody of its own may log in",
        "Set one",
    ):
        assert words in text, words
    assert "Unlimited" not in text


def test_an_effective_limit_names_the_level_that_binds(operator: Client, tenant: Tenant) -> None:
    whole = budget(tenant, 10)
    add_window(whole, spent_nano_usd=9 * NANO_PER_USD)
    budget(tenant, 50, scope="project", subject="web")
    budget(tenant, 5, scope="key", subject="ci", period="day")
    response = page(operator, tenant)
    shown = [(one["branch"].depth, one["branch"].whose, one["effective"]) for one in response.context["branches"]]
    assert shown == [
        (0, "The whole tenant", "1 USD left, bound by this budget"),
        (1, "Project web", "1 USD left, bound by the tenant budget above"),
        (2, "Key ci", "1 USD left, bound by the tenant budget above"),
    ]
    assert row(response).effective == "1 USD left this month, bound by the tenant budget"


def test_what_it_could_do_is_what_the_pipeline_says(operator: Client, tenant: Tenant, seeded: Seeded) -> None:
    outcome = row(page(operator, tenant)).outcome
    assert (outcome.is_open, outcome.route.startswith("first-model at ")) == (True, True)
    whole = budget(tenant, 1)
    window = add_window(whole, spent_nano_usd=NANO_PER_USD)
    refused = row(page(operator, tenant)).outcome
    assert (refused.code, refused.status) == ("budget_exceeded", 402)
    assert "The month budget of this tenant is 1 USD: 1 are spent" in refused.words
    window.refresh_from_db()
    assert (window.reserved_nano_usd, Attempt.objects.filter(tenant=tenant).count()) == (0, 0), "nothing stays"
    assert BudgetWindow.objects.filter(budget=whole).count() == 1

    seeded.model.deployments.update(enabled=False)
    assert row(page(operator, tenant)).outcome.code == "provider_unavailable"
    Tenant.objects.filter(pk=tenant.pk).update(status=TenantStatus.SUSPENDED)
    assert page(operator, tenant).context["right_now"]["found"].refused.code == "tenant_suspended"


def test_a_look_counts_in_no_rate_limit(operator: Client, tenant: Tenant) -> None:
    RateLimit.objects.create(tenant=tenant, requests_per_minute=2, tokens_per_minute=10_000)
    for _ in range(3):
        limits = page(operator, tenant).context["right_now"]["limits"]
        assert [(limit["what"], limit["left"]) for limit in limits] == [
            ("requests a minute", "2 of 2"), ("tokens a minute", "10,000 of 10,000")
        ]  # fmt: skip
    RateLimit.objects.update(tokens_per_minute=100)
    refused = row(page(operator, tenant)).outcome
    assert refused.code == "rate_limited"
    assert "this call alone may need" in refused.words


@pytest.mark.parametrize("query", [{"key": "nonsense"}, {"key": "99999999999999999999"}, {"user": "\0 x" * 99}])
def test_nonsense_is_answered(query: dict[str, str], operator: Client, tenant: Tenant) -> None:
    assert page(operator, tenant, **query).context["right_now"]["chosen"].name == "ci"


def test_a_tenant_without_a_key_can_do_nothing(operator: Client, db: None) -> None:
    assert "no key that works" in page(operator, make_tenant()).content.decode()


def test_suspending_says_in_numbers_what_it_does(operator: Client, tenant: Tenant, seeded: Seeded) -> None:
    add_usage(ApiKey.objects.get(tenant=tenant), seeded.model.deployments.first())
    asked = press(operator, "tenants_tenant_suspend", tenant).content.decode()
    assert "1 working key will be refused" in asked
    assert "1 call for 0.00045 USD" in asked
    for given in ({}, {"reason": "Unpaid"}, {"reason": "Unpaid", "typed_name": "acm"}, {"typed_name": "acme"}):
        assert confirm(operator, "tenants_tenant_suspend", tenant, **given).status_code == 200
    tenant.refresh_from_db()
    assert tenant.status == TenantStatus.ACTIVE
    confirm(operator, "tenants_tenant_suspend", tenant, reason="Unpaid", typed_name="acme")
    tenant.refresh_from_db()
    assert tenant.status == TenantStatus.SUSPENDED
    assert history_of(tenant) == [("an-operator", "Suspended. Unpaid")]


def test_a_viewer_looks_and_presses_nothing(viewer: Client, tenant: Tenant) -> None:
    response = page(viewer, tenant)
    assert (response.context["object_actions"], response.context["links"]) == ([], {})
    assert all(key["actions"] == [] for key in response.context["keys"])


def test_the_settings_are_a_form_of_their_own(operator: Client, tenant: Tenant) -> None:
    url = reverse("admin:tenants_tenant_settings", args=[tenant.pk])
    here = reverse("admin:tenants_tenant_change", args=[tenant.pk])
    assert f'action="{here}"' in operator.get(url).content.decode()
    fields = {"name": "acme", "timezone": "Europe/Berlin", "currency": "USD", "keep_text_days": "0"}
    inline = {"projects-TOTAL_FORMS": "0", "projects-INITIAL_FORMS": "0"}
    assert operator.post(here, {**fields, **inline})["Location"] == here
    tenant.refresh_from_db()
    assert tenant.timezone == "Europe/Berlin"
    assert "not an IANA time zone" in operator.post(here, {**fields, **inline, "timezone": "x"}).content.decode()


def preview(client: Client, **form: Any) -> str:
    response = client.get(reverse("admin:billing_budget_preview"), form)
    assert response.status_code == 200
    return response.content.decode()


def test_a_budget_says_what_it_would_mean(operator: Client, tenant: Tenant, seeded: Seeded) -> None:
    deployment = seeded.model.deployments.first()
    for _ in range(4):
        add_usage(ApiKey.objects.get(tenant=tenant), deployment)
    form = {"tenant": tenant.pk, "scope": "tenant", "period": "total", "hard": "on"}
    told = preview(operator, **form, limit="0.0009")
    assert "0.0018 USD in 4 calls" in told
    assert "run out on" in told
    assert "calls, 2 would have been refused" in told.replace("&#x27;", "'")
    assert "2 would have been above it" in preview(operator, **{**form, "hard": ""}, limit="0.0009")
    saved = budget(tenant, 1)
    add_window(saved, spent_nano_usd=2 * NANO_PER_USD)
    assert "spent already: calls are refused" in preview(operator, budget=saved.pk, limit="1.5", hard="on")
    of_a_key = {**form, "scope": "key", "subject": "ci", "period": "month"}
    assert "the budget of the whole tenant" in preview(operator, **of_a_key, limit="5")
    assert timezone.now()


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({}, "Choose a tenant"),
        ({"tenant": "x", "limit": "1"}, "Choose a tenant"),
        ({"budget": "999999", "limit": "1"}, "not there any more"),
        ({"limit": "1e99"}, "Choose what it is about"),
        ({"scope": "tenant", "period": "month", "limit": "NaN"}, "is not an amount"),
        ({"scope": "tenant", "period": "month", "limit": "-1"}, "zero or more"),
        ({"scope": "tenant", "period": "month"}, "Type a limit"),
    ],
)
def test_a_half_typed_budget_is_told_what_is_missing(
    form: dict[str, str], said: str, operator: Client, tenant: Tenant
) -> None:
    whose = {} if not form or "tenant" in form else {"tenant": str(tenant.pk)}
    assert said in preview(operator, **{**whose, **form})


def test_only_who_may_set_a_budget_sees_its_preview(viewer: Client, db: None) -> None:
    assert viewer.get(reverse("admin:billing_budget_preview")).status_code == 403
