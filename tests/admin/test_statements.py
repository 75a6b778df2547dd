"""Statements in the admin: who may do what, what is asked, what is downloaded, and markups with their preview."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from billing.models import Markup, Statement, StatementSchedule, StatementState
from billing.statements.nightly import make_due_statements
from tenants.models import Role, Tenant
from tests.admin.conftest import LogIn
from tests.admin.test_actions import history_of, said
from tests.billing.statement_seeding import post
from tests.factories import make_tenant

LIST = reverse("admin:billing_statement_changelist")
POSTED = dt.datetime(2024, 1, 10, tzinfo=dt.UTC)


@pytest.fixture
def tenant(db: None) -> Tenant:
    return make_tenant("acme")


@pytest.fixture
def draft(tenant: Tenant) -> Statement:
    StatementSchedule.objects.create(tenant=tenant, issues_by_itself=False)
    post(tenant, POSTED, user="<b>eve</b>", model_name="chatty", provider_name="vendor", cost_nano_usd=1_234_567_891)
    (made,) = make_due_statements(tenant.pk)
    return made.statement


def url(statement: Statement, page: str) -> str:
    return reverse(f"admin:billing_statement_{page}", args=[statement.pk])


def act(client: Client, statement: Statement, action: str, **fields: str) -> Any:
    return client.post(url(statement, action), {"confirmed": "yes", **fields}, follow=True)


def test_an_empty_list_says_what_comes(viewer: Client, db: None) -> None:
    assert "make_statements" in viewer.get(LIST).content.decode()


def test_the_list_and_the_page_show_exact_figures(viewer: Client, draft: Statement) -> None:
    listed = viewer.get(LIST).content.decode()
    assert "January 2024" in listed and "1.234567891" in listed and "1.23" in listed
    page = viewer.get(url(draft, "change")).content.decode()
    assert "chatty at vendor" in page and draft.content_hash in page
    assert "&lt;b&gt;eve&lt;/b&gt;" in page and "<b>eve</b>" not in page
    assert "model_name=chatty&amp;provider_name=vendor&amp;created_at_from=2024-01-01" in page


def test_from_draft_to_locked_with_a_credit_note(owner: Client, draft: Statement) -> None:
    assert "Issue statement" in owner.post(url(draft, "issue")).content.decode(), "asked first"
    assert act(owner, draft, "issue", reason="as agreed").status_code == 200
    draft.refresh_from_db()
    assert (draft.state, draft.reason, draft.issued_by.username) == (StatementState.ISSUED, "as agreed", "an-owner")
    assert ("an-owner", "Issued. as agreed") in history_of(draft)
    assert said(act(owner, draft, "issue")) == [f"{draft.number} is issued already."]

    asked = owner.post(url(draft, "credit")).content.decode()
    assert "At most 1.234567891 USD" in asked
    for amount, reason, why in (
        ("2", "all", "is more than the 1.234567891 USD"),
        ("0", "none", "more than nothing"),
        ("-1", "none", "must be zero or more"),
        ("NaN", "none", "not an amount"),
        ("1", "", "This field is required"),
    ):
        assert why in act(owner, draft, "credit", amount=amount, reason=reason).content.decode(), why
    assert not Statement.objects.filter(credits=draft).exists()
    page = act(owner, draft, "credit", amount="0.5", reason="an outage").content.decode()
    note = Statement.objects.get(credits=draft)
    assert note.number in page and "-0.50" in page and "an outage" in page
    assert note.number in owner.get(url(draft, "change")).content.decode()

    act(owner, draft, "lock")
    draft.refresh_from_db()
    assert (draft.state, draft.locked_by.username) == (StatementState.LOCKED, "an-owner")


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, ""])
@pytest.mark.parametrize("action", ["issue", "lock", "credit"])
def test_only_an_owner_moves_money(role: str, action: str, log_in: LogIn, draft: Statement) -> None:
    client = log_in(role)
    response = client.post(url(draft, action), {"confirmed": "yes", "reason": "x", "amount": "1"})
    assert response.status_code == (403 if role else 302)
    assert Statement.objects.get().state == StatementState.DRAFT
    if role:
        assert "Issue</button>" not in client.get(url(draft, "change")).content.decode()


def test_an_operator_may_make_a_draft_anew(operator: Client, viewer: Client, draft: Statement) -> None:
    post(draft.tenant, POSTED, cost_nano_usd=1)
    assert viewer.post(url(draft, "refresh")).status_code == 403
    assert operator.post(url(draft, "refresh")).status_code == 302
    draft.refresh_from_db()
    assert draft.subtotal_nano_usd == 1_234_567_892


@pytest.mark.parametrize(
    ("page", "content_type", "begins"),
    [("csv", "text/csv", b"kind,project"), ("xlsx", "application/vnd", b"PK"), ("pdf", "application/pdf", b"%PDF")],
)
def test_files_are_downloaded_by_whoever_sees_the_page(
    page: str, content_type: str, begins: bytes, log_in: LogIn, draft: Statement
) -> None:
    for role in (Role.VIEWER, Role.OPERATOR, Role.OWNER):
        answer = log_in(role).get(url(draft, page))
        assert answer.status_code == 200 and answer["Content-Type"].startswith(content_type)
        assert answer.content.startswith(begins)
        assert answer["Content-Disposition"] == f'attachment; filename="acme-draft-2024-01-01.{page}"'
    assert log_in("").get(url(draft, page)).status_code == 302
    missing = reverse(f"admin:billing_statement_{page}", args=[draft.pk + 1000])
    assert log_in(Role.VIEWER).get(missing).status_code == 404
    assert log_in(Role.OWNER).get(f"/admin/billing/statement/nonsense/{page}/").status_code == 404


def add_markup(client: Client, tenant: Tenant, **fields: str) -> Any:
    given = {"percent": "12.5", "reason": "a contract", "valid_from_0": "", "valid_from_1": ""}
    return client.post(reverse("admin:billing_markup_add"), {"tenant": tenant.pk, **given, **fields})


def test_an_owner_sets_a_markup(owner: Client, tenant: Tenant) -> None:
    assert add_markup(owner, tenant, percent="-3").status_code == 302
    markup = Markup.objects.get()
    assert (markup.basis_points, markup.reason, markup.created_by.username) == (-300, "a contract", "an-owner")
    assert "-3 %" in owner.get(reverse("admin:billing_markup_changelist")).content.decode()


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("percent", "1000.01", "from -100"),
        ("percent", "NaN", "not a percentage"),
        ("percent", "0.001", "finer than"),
        ("reason", "", "required"),
        ("valid_from_0", "yesterday", "Enter a valid date"),
    ],
)
def test_a_markup_that_cannot_be_is_explained(field: str, value: str, why: str, owner: Client, tenant: Tenant) -> None:
    response = add_markup(owner, tenant, **{field: value})
    assert why in str(response.context["adminform"].form.errors)
    assert not Markup.objects.exists()


def test_a_markup_for_a_period_that_is_issued_is_refused(owner: Client, draft: Statement) -> None:
    act(owner, draft, "issue")
    response = add_markup(owner, draft.tenant, valid_from_0="2024-01-01", valid_from_1="00:00:00")
    assert "is issued" in str(response.context["adminform"].form.errors["valid_from"])


def test_the_preview_reckons_with_the_draft(owner: Client, operator: Client, draft: Statement) -> None:
    preview = reverse("admin:billing_markup_preview")
    shown = owner.get(preview, {"percent": "10", "tenant": draft.tenant_id}).content.decode()
    assert "The draft of January 2024, 1.234567891 USD" in shown and "1.36 USD" in shown
    assert "An example, 100 USD" in owner.get(preview, {"percent": "10", "tenant": "x"}).content.decode()
    assert "not a percentage" in owner.get(preview, {"percent": "ten"}).content.decode()
    assert operator.get(preview).status_code == 403
