"""The voice playground's door: who may talk as whom, and what is made for the browser."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from gateway.realtime.models import RealtimeClientSecret, RealtimeSession
from providers.models import Model
from tenants.keys import digest_key
from tenants.models import ApiKey, AuditEvent, Tenant, TenantStatus
from tests import factories
from tests.admin.conftest import LogIn

PAGE = "/admin/playground/voice/"
SECRETS = f"{PAGE}secrets/"


@pytest.fixture
def model(db: None) -> Model:
    return factories.make_model(factories.make_provider("mock://local", kind="mock"), capabilities=("realtime",))


@pytest.fixture
def tenant(model: Model) -> Tenant:
    tenant = factories.make_tenant()
    factories.approve(tenant, model)
    return tenant


@pytest.fixture
def key(tenant: Tenant) -> ApiKey:
    return factories.make_key(tenant)[0]


@pytest.fixture
def asked(tenant: Tenant, key: ApiKey, model: Model) -> dict[str, Any]:
    return {"tenant": tenant.pk, "key": key.pk, "model": model.name, "instructions": "Be brief."}


def test_an_operator_gets_a_secret_and_never_a_key(operator: Client, asked: dict[str, Any], key: ApiKey) -> None:
    assert operator.get(PAGE).status_code == 200
    page = operator.get(PAGE, {"tenant": asked["tenant"]})
    assert key.name in page.text and asked["model"] in page.text
    answer = operator.post(SECRETS, asked)
    told = answer.json()
    assert (answer.status_code, told["model"]) == (200, asked["model"]) and "no-store" in answer["Cache-Control"]
    (row,) = RealtimeClientSecret.objects.all()
    assert bytes(row.digest) == digest_key(told["value"], settings.API_KEY_PEPPER)
    assert (row.api_key, row.user, row.session["instructions"]) == (key, "an-operator", "Be brief.")
    assert 0 < (row.expires_at - timezone.now()).total_seconds() <= 60
    connection.check_constraints()  # as the commit would, which chains the event
    (event,) = AuditEvent.objects.filter(event="voice_playground.opened")
    assert (event.actor, event.object_id, event.tenant_id) == ("an-operator", str(key.pk), asked["tenant"])
    assert event.details == {"model": asked["model"]}


def test_who_may_not(log_in: LogIn, viewer: Client, asked: dict[str, Any]) -> None:
    assert log_in("").get(PAGE).status_code == 302
    assert log_in("").post(SECRETS, asked).status_code == 302
    page = viewer.get(PAGE, {"tenant": asked["tenant"]})
    assert page.status_code == 200 and "Your role may look, but not talk" in page.text
    assert viewer.post(SECRETS, asked).status_code == 403
    assert viewer.get(SECRETS).status_code == 405 and viewer.post(PAGE).status_code == 405
    assert Client(enforce_csrf_checks=True).post(SECRETS, asked).status_code in (302, 403)
    assert not RealtimeClientSecret.objects.exists()


def revoked(asked: dict[str, Any]) -> None:
    ApiKey.objects.filter(pk=asked["key"]).update(revoked_at=timezone.now())


def expired(asked: dict[str, Any]) -> None:
    ApiKey.objects.filter(pk=asked["key"]).update(expires_at=timezone.now() - dt.timedelta(seconds=1))


def for_usage_only(asked: dict[str, Any]) -> None:
    ApiKey.objects.filter(pk=asked["key"]).update(scopes=["usage"])


def of_another_tenant(asked: dict[str, Any]) -> None:
    asked["key"] = factories.make_key(factories.make_tenant())[0].pk


def suspended(asked: dict[str, Any]) -> None:
    Tenant.objects.filter(pk=asked["tenant"]).update(status=TenantStatus.SUSPENDED)


def unapproved(asked: dict[str, Any]) -> None:
    provider = factories.make_provider("mock://local", kind="mock")
    asked["model"] = factories.make_model(provider, capabilities=("realtime",)).name


def mute(asked: dict[str, Any]) -> None:
    model = factories.make_model(factories.make_provider("mock://local", kind="mock"))
    factories.approve(Tenant.objects.get(pk=asked["tenant"]), model)
    asked["model"] = model.name


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (revoked, "key"), (expired, "key"), (for_usage_only, "key"), (of_another_tenant, "key"),
        (suspended, "tenant"), (unapproved, "model"), (mute, "model"),
        (lambda asked: asked.update(tenant="9" * 30), "tenant"), (lambda asked: asked.update(tenant="x"), "tenant"),
        (lambda asked: asked.update(key="' OR 1=1"), "key"), (lambda asked: asked.pop("key"), "key"),
        (lambda asked: asked.update(model="\0"), "model"),
        (lambda asked: asked.update(instructions="x" * 4001), "instructions"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(operator: Client, asked: dict[str, Any], spoil: Any, field: str) -> None:
    spoil(asked)
    answer = operator.post(SECRETS, asked)
    assert answer.status_code == 400 and list(answer.json()["errors"]) == [field]
    assert not RealtimeClientSecret.objects.exists()


def test_what_a_session_has_cost_is_told(viewer: Client, log_in: LogIn, key: ApiKey) -> None:
    row = RealtimeSession.objects.create(
        id="sess_1", tenant=key.tenant, api_key=key, requested_model="m", model_name="m", provider_name="p",
        process="00000000-0000-0000-0000-000000000001", opened_at=timezone.now(),
    )  # fmt: skip
    url = reverse("voice_playground_session", args=[row.pk])
    assert viewer.get(url).json()["usage"]["cost"] == "0"
    assert viewer.get(reverse("voice_playground_session", args=["sess_2"])).status_code == 404
    assert viewer.post(url).status_code == 405 and log_in("").get(url).status_code == 302


def test_the_page_asks_the_database_as_often_for_many_as_for_few(
    operator: Client, asked: dict[str, Any], django_assert_num_queries: Any
) -> None:
    operator.get(PAGE, {"tenant": asked["tenant"]})
    for _ in range(2):
        with django_assert_num_queries(8):
            assert operator.get(PAGE, {"tenant": asked["tenant"]}).status_code == 200
        for _ in range(5):
            factories.make_key(Tenant.objects.get(pk=asked["tenant"]))
            factories.make_tenant()
