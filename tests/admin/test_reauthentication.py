"""What moves money, makes keys or shuts somebody out asks for the password again, and waits until it is right."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.urls import reverse
from redis import Redis

from billing.models import Adjustment, Budget, Price, PriceProposal, UsageRecord
from providers.models import Credential, TenantApproval
from tenants.models import ApiKey, AuditEvent, Operator, Role, Tenant, TenantStatus
from tenants.reauthentication import FIELD, SESSION_KEY
from tests.admin.conftest import PASSWORD, LogIn
from tests.admin.seeding import Seeded

ASKS = "Your password again"

ASKING = {
    "tenants_tenant_suspend", "tenants_tenant_resume", "tenants_apikey_revoke", "tenants_apikey_add",
    "tenants_apikey_rotate", "tenants_apikey_change", "tenants_operator_add", "tenants_operator_change",
    "auth_user_password_change", "tenants_webhookendpoint_rotate", "tenants_auditevent_reveal", "billing_budget_add",
    "billing_budget_change", "billing_budget_allow_more", "billing_price_add", "billing_priceproposal_approve",
    "billing_usagerecord_adjust", "billing_statement_issue", "billing_statement_lock", "billing_statement_credit",
    "billing_markup_add", "providers_credential_add", "providers_credential_change", "providers_credential_delete",
    "providers_tenantapproval_suspend",
}  # fmt: skip
"""Everything that asks, by the name of its URL."""


@pytest.fixture(autouse=True)
def _quick(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the usual one is slow on purpose
    with Redis.from_url(settings.REDIS_CONNECTION) as redis:
        redis.flushdb()


def left_open(client: Client, username: str) -> Client:
    """The same session, with the password given long ago."""
    operator = Operator.objects.get(username=username)
    operator.set_password(PASSWORD)
    operator.save()
    client.force_login(operator)
    session = client.session
    session[SESSION_KEY] = 0
    session.save()
    return client


@pytest.fixture
def stale(log_in: LogIn) -> Client:
    return left_open(log_in(Role.OWNER), "an-owner")


def test_these_ask_and_no_others(stale: Client, seeded: Seeded) -> None:
    asking = set()
    rows = {type(row): row for row in (seeded.tenant, seeded.model, seeded.budget, seeded.statement, seeded.run)}
    for model, model_admin in admin.site._registry.items():
        row = rows.get(model) or model._default_manager.order_by("pk").first()
        for pattern in model_admin.get_urls():
            if pattern.name is None or pattern.name.endswith(("_changelist", "_history", "_csv", "_xlsx", "_pdf")):
                continue
            arguments = [row.pk] if pattern.pattern.converters else []
            page = stale.post(reverse(f"admin:{pattern.name}", args=arguments))
            if page.status_code == 200 and ASKS in page.content.decode():
                asking.add(pattern.name)
    assert asking == ASKING


def test_what_was_sent_is_done_once_the_password_is_right(stale: Client, seeded: Seeded) -> None:
    url = reverse("admin:billing_budget_add")
    sent = {
        "tenant": str(seeded.tenant.pk), "scope": "tenant", "subject": "", "period": "month", "limit": "12.5",
        "hard": "on", "enabled": "on", "alert_at": "50", "overrides-TOTAL_FORMS": "0", "overrides-INITIAL_FORMS": "0",
    }  # fmt: skip
    before = Budget.objects.count()
    asked = stale.post(url, sent)
    assert "no-store" in asked["Cache-Control"]
    kept = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', asked.content.decode()))
    assert {name: kept.get(name, "") for name in sent} == sent
    for wrong in ("", "wrong", PASSWORD.upper()):
        refused = stale.post(url, {**kept, FIELD: wrong})
        assert "This is not your password." in refused.content.decode()
    assert Budget.objects.count() == before
    assert stale.post(url, {**kept, FIELD: PASSWORD}).status_code == 302
    assert Budget.objects.count() == before + 1
    assert ASKS not in stale.post(url, sent).content.decode(), "it was just given"


def test_an_action_returns_to_where_its_button_was(stale: Client, seeded: Seeded) -> None:
    proposal = PriceProposal.objects.first()
    url = reverse("admin:billing_priceproposal_approve", args=[proposal.pk])
    listed = "http://testserver/admin/billing/priceproposal/?q=model"
    page = stale.post(url, headers={"Referer": listed}).content.decode()
    assert f'name="next" value="{listed}"' in page
    answer = stale.post(url, {"next": listed, FIELD: PASSWORD}, headers={"Referer": f"http://testserver{url}"})
    assert answer["Location"] == listed
    proposal.refresh_from_db()
    assert proposal.state == "approved"


def test_asking_comes_before_the_question_and_after_the_permission(
    stale: Client, log_in: LogIn, seeded: Seeded
) -> None:
    url = reverse("admin:tenants_tenant_suspend", args=[seeded.tenant.pk])
    sent = {"confirmed": "yes", "reason": "unpaid", "typed_name": seeded.tenant.name}
    assert ASKS in stale.post(url, sent).content.decode()
    assert Tenant.objects.get(pk=seeded.tenant.pk).status == TenantStatus.ACTIVE
    viewer = left_open(log_in(Role.VIEWER), "an-viewer")
    assert viewer.post(url, {**sent, FIELD: PASSWORD}).status_code == 403
    stale.post(url, {**sent, FIELD: PASSWORD})
    assert Tenant.objects.get(pk=seeded.tenant.pk).status == TenantStatus.SUSPENDED


def test_tries_are_few_and_told_to_the_audit_log(stale: Client, seeded: Seeded, settings: Any) -> None:
    key = ApiKey.objects.first()
    url = reverse("admin:tenants_apikey_revoke", args=[key.pk])
    pages = [stale.post(url, {"confirmed": "yes", FIELD: "wrong"}).content.decode() for _ in range(6)]
    assert sum("not your password" in page for page in pages) >= settings.LOGIN_TRIES_PER_MINUTE - 1
    assert "Too many tries. Try again in" in pages[-1]
    assert "Too many tries" in stale.post(url, {"confirmed": "yes", FIELD: PASSWORD}).content.decode()
    key.refresh_from_db()
    assert key.revoked_at is None
    connection.check_constraints()  # chains what this transaction has recorded
    told = AuditEvent.objects.filter(event="operator.password_refused")
    assert told.exists() and not any("wrong" in str(event.details) for event in told)


def test_a_password_just_given_at_the_login_is_enough(db: None, settings: Any) -> None:
    Operator.objects.create_user("ada", password=PASSWORD, role=Role.OWNER, is_staff=True)
    client = Client()
    client.post("/admin/login/", {"username": "ada", "password": PASSWORD, "next": "/admin/"})
    url = reverse("admin:tenants_apikey_add")
    assert ASKS not in client.post(url, {}).content.decode()
    settings.REAUTHENTICATION_MINUTES = 0
    assert ASKS in client.post(url, {}).content.decode(), "0 asks every time"


def test_nothing_else_was_written(stale: Client, seeded: Seeded) -> None:
    tables = (Adjustment, Budget, Price, Credential, ApiKey, TenantApproval)
    before = [list(table.objects.order_by("pk").values()) for table in tables]
    for name in ("billing_price_add", "providers_credential_add", "tenants_apikey_add"):
        stale.post(reverse(f"admin:{name}"), {"tenant": seeded.tenant.pk, "name": "x", "secret": "sk-new"})
    charge = UsageRecord.objects.first()
    adjust = {"confirmed": "yes", "amount": "-0.0001", "reason": "because"}
    stale.post(reverse("admin:billing_usagerecord_adjust", args=[charge.pk]), adjust)
    assert [list(table.objects.order_by("pk").values()) for table in tables] == before
