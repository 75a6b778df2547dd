"""The home page, the sidebar, and what empty lists say."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import unfold
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from billing.models import BooksCheck
from providers.models import Deployment, Model, TenantApproval
from providers.services import approve_for_tenant, propose_model
from tenants.models import Role
from tests.admin.conftest import LogIn
from tests.admin.seeding import NOT_ADDED, SHOWN, Seeded, add_usage
from tests.factories import make_key, make_model, make_provider, make_tenant

HOME = "/admin/"


def test_a_new_platform_is_told_what_to_do_next(owner: Client) -> None:
    html = owner.get(HOME).content.decode()
    assert "First steps" in html
    assert "/v1/chat/completions" in html
    assert "<title> Home | Bursar</title>" in html
    assert [is_done for _, _, is_done in owner.get(HOME).context["steps"]] == [False] * 6

    model = make_model(make_provider("https://api.example.com/v1"), name="first-model")
    tenant = make_tenant()
    approve_for_tenant(tenant, model, by=None)
    key, _ = make_key(tenant)
    response = owner.get(HOME)
    assert [is_done for _, _, is_done in response.context["steps"]] == [True] * 5 + [False]
    assert "&quot;first-model&quot;" in response.content.decode()
    add_usage(key, Deployment.objects.get())
    assert "First steps" not in owner.get(HOME).content.decode()


def test_what_waits_for_a_decision_is_decided_from_home(log_in: LogIn, seeded: Seeded) -> None:
    TenantApproval.objects.all().delete()
    request = TenantApproval.objects.create(tenant=seeded.tenant, model=seeded.model)
    propose_model(Model(name="another-proposal", capabilities=["chat"]), by=None)
    make_model(make_provider("https://api.example.com/v1"), name="unpriced", prices=None)
    approve = reverse("admin:providers_tenantapproval_approve", args=[request.pk])
    seen = log_in(Role.VIEWER).get(HOME).content.decode()
    assert "first-tenant asks for first-model" in seen
    assert "Model unpriced serves without a price" in seen
    assert approve not in seen
    operator = log_in(Role.OPERATOR)
    assert approve in operator.get(HOME).content.decode()
    operator.post(approve, headers={"Referer": "http://testserver/admin/"})
    assert "asks for" not in operator.get(HOME).content.decode()


def test_usage_today_begins_at_midnight_utc(owner: Client, seeded: Seeded) -> None:
    today = owner.get(HOME).context["usage"].today
    now = timezone.now()
    if now.hour == 0 and now.minute < 10:
        assert today.calls in (0, 3), "the seed's calls were five minutes ago"
    else:
        assert (today.calls, today.input_tokens, today.output_tokens) == (3, 3000, 1500)
    yesterday = now.replace(hour=0, minute=0, second=0, microsecond=0) - timezone.timedelta(seconds=1)
    add_usage(seeded.tenant.keys.first(), seeded.model.deployments.first(), created_at=yesterday)
    assert owner.get(HOME).context["usage"].today.calls == today.calls


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
