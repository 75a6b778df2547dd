"""The home page, the sidebar, and what empty lists say."""

from __future__ import annotations

import datetime as dt
import hashlib
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import unfold
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from billing.models import BooksCheck, Budget, BudgetWindow
from billing.money import NANO_PER_USD
from gateway.desk import kept
from gateway.desk.figures import Figure
from gateway.models import RequestRecord
from providers.models import Deployment, Model, TenantApproval
from providers.services import approve_for_tenant, propose_model
from tests.admin.seeding import NOT_ADDED, SHOWN, Seeded, add_request, add_usage
from tests.factories import make_key, make_provider, make_tenant

HOME = "/admin/"


def done(client: Client) -> list[bool]:
    return [step.is_done for step in client.get(HOME).context["steps"]]


def test_a_new_platform_is_told_what_to_do_next(owner: Client) -> None:
    html = owner.get(HOME).content.decode()
    assert "First steps" in html
    assert "/v1/chat/completions" in html
    assert "<title> Home | Bursar</title>" in html
    assert done(owner) == [False] * 4
    provider = make_provider("https://api.example.com/v1")
    proposed = propose_model(Model(name="first-model", capabilities=["chat"]), by=None)
    deployment = Deployment.objects.create(model=proposed, provider=provider, upstream_model="up")
    assert done(owner) == [True, False, False, False]
    Model.objects.update(lifecycle="approved")
    tenant = make_tenant()
    assert done(owner) == [True, True, False, False]
    approve_for_tenant(tenant, proposed, by=None)
    key, _ = make_key(tenant)
    response = owner.get(HOME)
    assert done(owner) == [True] * 4
    assert "&quot;first-model&quot;" in response.content.decode()
    add_usage(key, deployment)
    assert "First steps" not in owner.get(HOME).content.decode()


def figures(client: Client, **query: str) -> dict[str, Figure]:
    return {figure.key: figure for figure in client.get(HOME, query).context["figures"]}


def test_figures_say_their_window_and_lead_to_what_is_behind_them(viewer: Client, seeded: Seeded) -> None:
    now = timezone.now()
    charge = add_usage(seeded.tenant.keys.first(), seeded.model.deployments.first(), created_at=now)
    two = [{"attempt": str(charge.pk), "deployment": number, "model": "m", "provider": "p"} for number in (1, 2)]
    for number in range(6):
        add_request(charge, created_at=now, latency_ms=100, attempts=two if number == 0 else two[:1])
    add_request(charge, created_at=now, latency_ms=9000, status=502, error_code="provider_error")
    add_request(charge, created_at=now, latency_ms=9000, status=200, error_code="provider_error")
    add_request(charge, created_at=now, latency_ms=1, status=402, error_code="budget_exceeded")
    add_request(charge, created_at=now, latency_ms=9000, status=499, error_code="client_left")
    add_request(charge, created_at=now - dt.timedelta(hours=30), latency_ms=9000, status=502, error_code="x")
    found = figures(viewer)
    logged = 10 + seeded_requests_of_today(seeded)
    assert found["requests"].text == f"{logged:,}"
    assert found["requests"].remark.startswith("1 refused, since ")
    assert found["errors"].remark.startswith("2 failed") and found["errors"].is_bad
    assert found["fallbacks"].remark.startswith("1 asked a second deployment")
    p50, _, p99 = (part.split() for part in found["latency"].text.split(" / "))
    assert p50[1] == "ms" and p99[1] == "s" and 8 <= float(p99[0]) <= 10
    for figure in found.values():
        assert viewer.get(figure.link).status_code == 200, figure
    assert "data through" in viewer.get(HOME).content.decode()


def seeded_requests_of_today(seeded: Seeded) -> int:
    return RequestRecord.objects.count() - 11


def test_spending_is_said_exactly_and_against_the_budgets(viewer: Client, seeded: Seeded) -> None:
    Budget.objects.all().delete() if not BudgetWindow.objects.exists() else Budget.objects.update(enabled=False)
    found = figures(viewer)
    now = timezone.now()
    if now.hour or now.minute >= 10:  # the seed's charges were five minutes ago
        assert found["spent_today"].remark.startswith("3 charges")
    before = Decimal(found["spent_month"].text.split()[0])
    assert found["budgeted"].text == "nothing yet"
    Budget.objects.create(tenant=seeded.tenant, limit_nano_usd=10 * NANO_PER_USD)
    charge = add_usage(seeded.tenant.keys.first(), seeded.model.deployments.first(), cost_nano_usd=NANO_PER_USD)
    found = figures(viewer)
    assert Decimal(found["spent_month"].text.split()[0]) == before + 1 or charge.created_at.day != now.day
    assert found["budgeted"].text.startswith("10.")
    assert "10 USD for 1 tenants" in found["budgeted"].remark


@pytest.mark.parametrize(("name", "bars"), [("24h", 24), ("7d", 7), ("30d", 30)])
def test_charts_are_of_a_chosen_range_and_their_figures_are_in_a_table(
    name: str, bars: int, viewer: Client, seeded: Seeded
) -> None:
    response = viewer.get(HOME, {"range": name})
    panels = response.context["panels"]
    assert len(panels) == 5
    assert "first-tenant" in panels[0] and "first-model" in panels[1]
    assert panels[0].count('<th scope="row">') == bars
    assert response.context["range_problem"] == ""


def test_a_range_that_is_none_is_said(viewer: Client) -> None:
    html = viewer.get(HOME, {"range": '1y"><script>'}).content.decode()
    assert "range must be one of 24h, 7d, 30d." in html
    assert "The last 24 hours" in html and "<script>alert" not in html


def test_what_was_read_lately_is_not_read_again(viewer: Client, seeded: Seeded, monkeypatch: Any) -> None:
    monkeypatch.setattr(kept, "SECONDS", 15)
    monkeypatch.setattr(kept, "SHAPE", uuid4().hex)  # nobody else's
    viewer.get(HOME)
    with CaptureQueriesContext(connection) as queries:
        viewer.get(HOME)
    assert len(queries) <= 6
    assert not any("billing_usagerecord" in query["sql"] for query in queries)


def test_what_was_just_decided_waits_no_more(
    operator: Client, seeded: Seeded, monkeypatch: Any, django_capture_on_commit_callbacks: Any
) -> None:
    monkeypatch.setattr(kept, "SECONDS", 15)
    monkeypatch.setattr(kept, "SHAPE", uuid4().hex)
    request = TenantApproval.objects.create(tenant=seeded.tenant, model=seeded.model)
    approve = reverse("admin:providers_tenantapproval_approve", args=[request.pk])
    assert approve in operator.get(HOME).content.decode()
    with django_capture_on_commit_callbacks(execute=True):
        operator.post(approve, headers={"Referer": "http://testserver/admin/"})
    assert "first-tenant asks for" not in operator.get(HOME).content.decode()


def test_a_viewer_sees_what_waits_and_no_button(viewer: Client, operator: Client, seeded: Seeded) -> None:
    request = TenantApproval.objects.create(tenant=seeded.tenant, model=seeded.model)
    approve = reverse("admin:providers_tenantapproval_approve", args=[request.pk])
    html = viewer.get(HOME).content.decode()
    assert "first-tenant asks for first-model" in html and approve not in html
    assert approve in operator.get(HOME).content.decode()


def test_the_sidebar_reaches_every_list(viewer: Client) -> None:
    html = viewer.get(HOME).content.decode()
    for model in SHOWN:
        assert reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist") in html


@pytest.mark.parametrize("model", [model for model in SHOWN if model._meta.model_name != "operator"])
def test_an_empty_list_says_what_to_do_and_a_filtered_one_that_nothing_matches(
    model: type[Model], owner: Client, viewer: Client
) -> None:
    label = f"{model._meta.app_label}_{model._meta.model_name}"
    url = reverse(f"admin:{label}_changelist")
    add = reverse(f"admin:{label}_add")
    PeriodicTask.objects.all().delete()  # the only list that a fresh platform fills
    empty = owner.get(url)
    assert empty.context["cl"].model_admin.empty_hint
    html = empty.content.decode()
    assert f"No {model._meta.verbose_name_plural}" in html
    assert (add in html) == (model._meta.model_name not in NOT_ADDED)
    assert f'"{add}' not in viewer.get(url).content.decode()
    filtered = viewer.get(url, {"q": "nothing"}).content.decode()
    assert "Nothing matches" in filtered


def test_login_works_without_https(db: None, client: Client) -> None:
    response = client.get("/admin/login/")
    assert response.status_code == 200
    assert not response.cookies["csrftoken"]["secure"]


UPSTREAM = {
    "unfold/helpers/empty_results.html": "5f4727a37a99da76",
    "unfold/helpers/header_title.html": "b126ed2ab9ca1680",
    "admin/index.html": "9fdb849b7da18ccd",
    "admin/change_list.html": "5885c39760f6085d",
    "admin/search_form.html": "32c57965802858bd",
    "unfold/helpers/actions_row.html": "a322f5b53d779840",
    "unfold/helpers/dialog.html": "e961b19a9a2f2175",
    "unfold/helpers/modal.html": "fa0832c6ded6a26b",
    "unfold/helpers/navigation_header.html": "35139b9d94580be9",
    "unfold/helpers/navigation_user.html": "4c9ba58b3f215326",
    "unfold/helpers/theme_switch.html": "c8e659df65f5aa78",
    "unfold/helpers/welcomemsg.html": "e8eab02522ba2319",
    "unfold/layouts/skeleton.html": "66af9f0bb45f98ba",
}
"""django-unfold's templates that ours replace, as they were when ours were written."""


@pytest.mark.parametrize("name", UPSTREAM)
def test_a_replaced_template_has_not_changed_upstream(name: str) -> None:
    upstream = (Path(unfold.__file__).parent / "templates" / name).read_bytes()
    assert hashlib.sha256(upstream).hexdigest()[:16] == UPSTREAM[name], "compare it with ours, then write the new hash"


def test_the_books_say_how_they_stand(viewer: Client) -> None:
    assert "Never checked: run <code>manage.py verify_money</code>" in viewer.get(HOME).content.decode()
    moment = timezone.now()
    BooksCheck.objects.create(ok=True, at=moment)
    assert f"Books balance, checked at {moment:%Y-%m-%d %H:%M:%S} UTC" in viewer.get(HOME).content.decode()
    broken = {"check": "M4 spent", "says": "A window has spent what it was charged.", "breaches": 2, "examples": []}
    BooksCheck.objects.create(ok=False, findings=[broken])
    html = viewer.get(HOME).content.decode()
    assert "BROKEN" in html and "M4 spent" in html and "2 rows" in html
    assert "Books balance" not in html
