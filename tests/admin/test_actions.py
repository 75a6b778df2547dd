"""Buttons that change one object: what they do, what they write down, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.db.models import Model as DjangoModel
from django.test import Client
from django.urls import reverse

from providers.models import ApprovalState, Lifecycle, LifecycleChange, Model, ModelCheck, TenantApproval
from providers.services import propose_model
from tenants.models import ApiKey, Operator, Role, Tenant, TenantStatus
from tests.admin.seeding import Seeded
from tests.factories import make_key, make_tenant


def press(client: Client, action: str, obj: DjangoModel, **data: str) -> Any:
    """POST an action such as `providers_model_approve`."""
    return client.post(reverse(f"admin:{action}", args=[obj.pk]), data)


def confirm(client: Client, action: str, obj: DjangoModel, **data: str) -> Any:
    return press(client, action, obj, confirmed="yes", **data)


def said(response: Any) -> list[str]:
    return [str(message) for message in get_messages(response.wsgi_request)]


def history_of(obj: DjangoModel) -> list[tuple[str, str]]:
    entries = LogEntry.objects.filter(object_id=str(obj.pk), content_type__model=obj._meta.model_name)
    return [(entry.user.username, entry.get_change_message()) for entry in entries.order_by("pk")]


def test_a_model_goes_through_its_life(operator: Client, seeded: Seeded) -> None:
    model = seeded.model
    for deployment in model.deployments.all():
        ModelCheck.objects.create(deployment=deployment, status="ok", words="lists it")
    confirm(operator, "providers_model_deprecate", model, reason="A better one is out")
    confirm(operator, "providers_model_retire", model)
    press(operator, "providers_model_propose", model)
    press(operator, "providers_model_approve", model)
    model.refresh_from_db()
    assert model.lifecycle == Lifecycle.APPROVED
    assert history_of(model) == [
        ("an-operator", "Deprecated. A better one is out"),
        ("an-operator", "Retired."),
        ("an-operator", "Proposed."),
        ("an-operator", "Approved."),
    ]
    moves = LifecycleChange.objects.filter(model=model, changed_by__username="an-operator").order_by("pk")
    assert [(move.to_state, move.reason) for move in moves][-4:] == [
        ("deprecated", "A better one is out"), ("retired", ""), ("proposed", ""), ("approved", "")
    ]  # fmt: skip


def test_a_move_the_lifecycle_does_not_have_is_explained(operator: Client, seeded: Seeded) -> None:
    bare = propose_model(Model(name="bare", capabilities=["chat"]), by=None)
    (refusal,) = said(press(operator, "providers_model_approve", bare))
    assert "bare cannot be approved yet. price: none" in refusal
    assert "route: no enabled deployment" in refusal
    assert "is proposed" in said(confirm(operator, "providers_model_deprecate", bare))[-1]
    bare.refresh_from_db()
    assert bare.lifecycle == Lifecycle.PROPOSED
    assert history_of(bare) == []


def test_a_dangerous_action_asks_first(operator: Client, seeded: Seeded) -> None:
    response = press(operator, "tenants_tenant_suspend", seeded.tenant)
    assert response.status_code == 200
    assert "first-tenant" in response.content.decode()
    seeded.tenant.refresh_from_db()
    assert seeded.tenant.status == TenantStatus.ACTIVE
    too_long = confirm(operator, "tenants_tenant_suspend", seeded.tenant, reason="x" * 501)
    assert "at most 500" in too_long.content.decode()
    seeded.tenant.refresh_from_db()
    assert seeded.tenant.status == TenantStatus.ACTIVE


def test_a_tenant_is_suspended_and_resumed(operator: Client, seeded: Seeded) -> None:
    confirm(operator, "tenants_tenant_suspend", seeded.tenant, reason="Unpaid", typed_name="first-tenant")
    seeded.tenant.refresh_from_db()
    assert seeded.tenant.status == TenantStatus.SUSPENDED
    confirm(operator, "tenants_tenant_resume", seeded.tenant, reason="Paid", typed_name="first-tenant")
    seeded.tenant.refresh_from_db()
    assert seeded.tenant.status == TenantStatus.ACTIVE
    assert history_of(seeded.tenant) == [("an-operator", "Suspended. Unpaid"), ("an-operator", "Resumed. Paid")]


def test_a_tenants_status_is_not_a_field(owner: Client, seeded: Seeded) -> None:
    fields = {
        "name": "first-tenant",
        "timezone": "UTC",
        "currency": "USD",
        "keep_text_days": "0",
        "status": "suspended",
    }
    inline = {"projects-TOTAL_FORMS": "0", "projects-INITIAL_FORMS": "0"}
    response = owner.post(reverse("admin:tenants_tenant_change", args=[seeded.tenant.pk]), {**fields, **inline})
    assert response.status_code == 302
    seeded.tenant.refresh_from_db()
    assert seeded.tenant.status == TenantStatus.ACTIVE


@pytest.mark.parametrize(
    ("action", "state"),
    [
        ("approve", ApprovalState.APPROVED),
        ("reject", ApprovalState.REJECTED),
        ("suspend", ApprovalState.SUSPENDED),
    ],
)
def test_a_request_is_decided_by_name(action: str, state: str, operator: Client, seeded: Seeded) -> None:
    approval = TenantApproval.objects.create(tenant=seeded.tenant, model=seeded.model)
    confirm(operator, f"providers_tenantapproval_{action}", approval)
    approval.refresh_from_db()
    assert (approval.state, approval.decided_by.username) == (state, "an-operator")
    assert len(history_of(approval)) == 1


def test_adding_an_approval_approves_it(operator: Client, seeded: Seeded) -> None:
    url = reverse("admin:providers_tenantapproval_add")
    both = {"tenant": seeded.tenant.pk, "model": seeded.model.pk, "group": seeded.group.pk}
    assert "either a model or a group" in operator.post(url, both).content.decode()
    assert operator.post(url, {"tenant": seeded.tenant.pk, "group": seeded.group.pk}).status_code == 302
    approval = TenantApproval.objects.get(tenant=seeded.tenant, group=seeded.group)
    assert (approval.state, approval.decided_by.username) == (ApprovalState.APPROVED, "an-operator")


def test_a_key_is_revoked(operator: Client, db: None) -> None:
    key, _ = make_key(make_tenant())
    assert press(operator, "tenants_apikey_revoke", key).status_code == 200
    confirm(operator, "tenants_apikey_revoke", key)
    key.refresh_from_db()
    assert key.revoked_at is not None
    assert history_of(key) == [("an-operator", "Revoked.")]


def test_a_new_model_is_proposed_by_its_author(operator: Client, db: None) -> None:
    fields = {"name": "new-model", "capabilities": ["chat", "stream"], "context_window": "8192"}
    empty = {"TOTAL_FORMS": "0", "INITIAL_FORMS": "0"}
    inlines = {
        f"{prefix}-{key}": value for prefix in ("deployments", "lifecycle_changes") for key, value in empty.items()
    }
    assert operator.post(reverse("admin:providers_model_add"), {**fields, **inlines}).status_code == 302
    model = Model.objects.get(name="new-model")
    change = model.lifecycle_changes.get()
    assert (model.lifecycle, change.to_state, change.changed_by.username) == ("proposed", "proposed", "an-operator")


@pytest.mark.parametrize("object_id", ["0", "no-such-row", "99999999999999999999", "1 OR 1=1"])
def test_an_object_that_is_not_there_is_not_found(object_id: str, operator: Client, viewer: Client) -> None:
    url = reverse("admin:tenants_tenant_resume", args=[object_id])
    assert operator.post(url).status_code == 404
    assert viewer.post(url).status_code == 403, "who may not act does not learn what exists"


def test_after_an_action_the_browser_returns_to_where_it_was(operator: Client, seeded: Seeded) -> None:
    url = reverse("admin:providers_model_approve", args=[seeded.model.pk])
    listed = "http://testserver/admin/providers/model/?q=first"
    assert operator.post(url, headers={"Referer": listed})["Location"] == listed
    page = reverse("admin:providers_model_change", args=[seeded.model.pk])
    assert operator.post(url, headers={"Referer": "https://evil.example/"})["Location"] == page
    assert operator.post(url, {"next": "//evil.example/"})["Location"] == page
    assert operator.post(url, {"next": "javascript:alert(1)"})["Location"] == page


def test_buttons_are_drawn_for_those_who_may_press_them(operator: Client, viewer: Client, seeded: Seeded) -> None:
    waiting = propose_model(Model(name="waiting", capabilities=["chat"]), by=None)
    approve = reverse("admin:providers_model_approve", args=[waiting.pk])
    deprecate = reverse("admin:providers_model_deprecate", args=[waiting.pk])
    for url in (
        reverse("admin:providers_model_changelist"),
        reverse("admin:providers_model_change", args=[waiting.pk]),
    ):
        assert approve in operator.get(url).content.decode()
        assert approve not in viewer.get(url).content.decode()
        assert deprecate not in operator.get(url).content.decode(), "the lifecycle has no such move"


def test_the_last_owner_stays(owner: Client) -> None:
    me = Operator.objects.get(username="an-owner")
    url = reverse("admin:tenants_operator_change", args=[me.pk])
    fields = {"username": "an-owner", "role": Role.VIEWER, "is_active": "on"}
    assert "last active owner" in owner.post(url, fields).content.decode()
    assert "last active owner" in owner.post(url, {"username": "an-owner", "role": Role.OWNER}).content.decode()
    Operator.objects.create(username="another", role=Role.OWNER, is_staff=True)
    assert owner.post(url, fields).status_code == 302
    me.refresh_from_db()
    assert me.role == Role.VIEWER


def test_an_owner_adds_an_operator_who_can_log_in(owner: Client) -> None:
    password = "a long enough password"
    fields = {"username": "newcomer", "role": Role.OPERATOR, "password1": password, "password2": password}
    assert owner.post(reverse("admin:tenants_operator_add"), fields).status_code == 302
    client = Client()
    login = {"username": "newcomer", "password": password, "next": "/admin/"}
    assert client.post(reverse("admin:login"), login)["Location"] == "/admin/"
    assert client.get("/admin/").status_code == 200
    newcomer = Operator.objects.get(username="newcomer")
    assert (newcomer.role, newcomer.is_superuser) == (Role.OPERATOR, False)


def test_rows_that_usage_refers_to_cannot_be_deleted(owner: Client, seeded: Seeded) -> None:
    for row in (seeded.tenant, seeded.model, ApiKey.objects.first()):
        url = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_delete", args=[row.pk])
        assert owner.post(url, {"post": "yes"}).status_code == 403
    assert Tenant.objects.filter(pk=seeded.tenant.pk).exists()
