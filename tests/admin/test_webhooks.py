"""Webhooks in the admin: a secret is shown once, an address to few, and a private network is the owners' to open."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client
from django.urls import reverse

from tenants.models import Delivery, DeliveryState, Notification, Tenant, WebhookEndpoint
from tenants.notifications import notify
from tenants.webhooks import create_endpoint, current_secret
from tests.factories import make_tenant

URL = "https://hooks.example.com/canary-token-1"
ADD = "admin:tenants_webhookendpoint_add"


@pytest.fixture
def tenant(db: None) -> Tenant:
    return make_tenant("acme")


@pytest.fixture
def endpoint(tenant: Tenant) -> WebhookEndpoint:
    endpoint = WebhookEndpoint(tenant=tenant, url=URL)
    create_endpoint(endpoint)
    return endpoint


def add(client: Client, tenant: Tenant, /, **fields: Any) -> Any:
    return client.post(reverse(ADD), {"tenant": tenant.pk, "url": URL, "enabled": "on", **fields})


def page(name: str, row: Any, kind: str = "change") -> str:
    return reverse(f"admin:tenants_{name}_{kind}", args=[row.pk])


def assert_shown_only_here(secret: str, response: Any, client: Client, caplog: pytest.LogCaptureFixture) -> None:
    assert secret in response.content.decode() and "no-store" in response["Cache-Control"]
    assert secret not in str(response.headers) + str(response.cookies) + caplog.text
    assert list(get_messages(response.wsgi_request)) == []
    assert secret not in str(list(LogEntry.objects.values_list("change_message", "object_repr")))
    assert secret not in json.dumps(dict(client.session))
    with connection.cursor() as cursor:
        cursor.execute("SELECT w::text FROM tenants_webhookendpoint w")
        assert secret not in str(cursor.fetchall())
    row = WebhookEndpoint.objects.get()
    for url in (page("webhookendpoint", row), page("webhookendpoint", row, "history")):
        assert secret not in client.get(url).content.decode()


def test_a_new_secret_is_shown_once(operator: Client, tenant: Tenant, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        response = add(operator, tenant, events=["budget.alert"])
    secret = response.context["secret"]
    assert secret == current_secret(WebhookEndpoint.objects.get())
    assert_shown_only_here(secret, response, operator, caplog)


def test_a_renewed_secret_is_shown_once(
    operator: Client, endpoint: WebhookEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    old = current_secret(endpoint)
    rotate = page("webhookendpoint", endpoint, "rotate")
    assert "confirmed" in operator.post(rotate).content.decode()
    endpoint.refresh_from_db()
    assert current_secret(endpoint) == old, "asking first changes nothing"
    with caplog.at_level(logging.DEBUG):
        response = operator.post(rotate, {"confirmed": "1", "reason": "leaked"})
    endpoint.refresh_from_db()
    assert current_secret(endpoint) == response.context["secret"] != old
    assert_shown_only_here(response.context["secret"], response, operator, caplog)
    assert "leaked" in LogEntry.objects.latest("pk").change_message


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "http://hooks.example.com/"}, {"url": "https://127.0.0.1/"}, {"url": "file:///etc/passwd"}, {"url": ""},
        {"url": "https://hooks.example.com/\x00"}, {"url": "https://" + "a" * 1001}, {"events": ["no.such"]},
        {"tenant": "0"},
    ],
)  # fmt: skip
def test_nonsense_is_refused(fields: dict[str, Any], owner: Client, tenant: Tenant) -> None:
    assert add(owner, tenant, **fields).context["adminform"].form.errors
    assert not WebhookEndpoint.objects.exists()


def test_only_owners_open_a_private_network(operator: Client, owner: Client, tenant: Tenant) -> None:
    add(operator, tenant, allow_private_network="on", url="http://127.0.0.1/x")
    add(operator, tenant, allow_private_network="on")
    assert [row.allow_private_network for row in WebhookEndpoint.objects.all()] == [False]
    row = WebhookEndpoint.objects.get()
    change = {"url": "http://127.0.0.1/x", "enabled": "on", "allow_private_network": "on"}
    operator.post(page("webhookendpoint", row), change)
    row.refresh_from_db()
    assert row.url == URL
    assert owner.post(page("webhookendpoint", row), change).status_code == 302
    row.refresh_from_db()
    assert (row.url, row.allow_private_network) == ("http://127.0.0.1/x", True)

    # Nor do others choose what is called there.
    operator.post(page("webhookendpoint", row), {**change, "url": "http://127.0.0.1:6379/"})
    row.refresh_from_db()
    assert row.url == "http://127.0.0.1/x"


def test_a_webhook_never_moves_to_another_tenant(owner: Client, endpoint: WebhookEndpoint) -> None:
    owner.post(page("webhookendpoint", endpoint), {"tenant": make_tenant().pk, "url": URL, "enabled": "on"})
    assert WebhookEndpoint.objects.get().tenant == endpoint.tenant


def test_its_path_is_shown_to_those_who_may_change_it(
    viewer: Client, operator: Client, endpoint: WebhookEndpoint
) -> None:
    notify(endpoint.tenant_id, "budget.alert", key="k", data={"percent": 1})
    urls = [reverse(f"admin:tenants_{name}_changelist") for name in ("webhookendpoint", "notification", "delivery")]
    urls += [page("webhookendpoint", endpoint), page("webhookendpoint", endpoint, "history")]
    urls += [page("notification", Notification.objects.get()), page("delivery", Delivery.objects.get())]
    for url in urls:
        shown = viewer.get(url).content.decode()
        assert "canary-token" not in shown, url
    assert "hooks.example.com" in viewer.get(urls[0]).content.decode()
    assert "canary-token" in operator.get(page("webhookendpoint", endpoint)).content.decode()
    assert "canary-token" not in operator.get(urls[0]).content.decode()
    assert viewer.get(f"{urls[0]}?q=canary-token").context["cl"].result_count == 0
    for probe in ("url__startswith", "ciphertext__startswith"):
        assert viewer.get(f"{urls[0]}?{probe}=h").status_code == 400


def test_a_test_and_a_replay_are_written_down(operator: Client, viewer: Client, endpoint: WebhookEndpoint) -> None:
    assert viewer.post(page("webhookendpoint", endpoint, "test")).status_code == 403
    assert not Delivery.objects.exists()
    operator.post(page("webhookendpoint", endpoint, "test"))
    delivery = Delivery.objects.get()
    assert (delivery.endpoint, delivery.notification.event) == (endpoint, "webhook.test")

    Delivery.objects.update(state=DeliveryState.DEAD, attempts=9, last_error="Answered 500.")
    again = page("delivery", delivery, "replay")
    assert viewer.post(again, {"confirmed": "1"}).status_code == 403
    assert "Deliver again" in operator.get(page("delivery", delivery)).content.decode()
    assert "Deliver again" not in viewer.get(page("delivery", delivery)).content.decode()
    operator.post(again, {"confirmed": "1"})
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts, delivery.last_error) == (DeliveryState.PENDING, 0, "")


@pytest.mark.parametrize("address", ["nobody", "a@b@c", "ops@acme.example\r\nBcc: x@y.example", ",,"])
def test_addresses_are_held_to_their_form(address: str, operator: Client, tenant: Tenant) -> None:
    form = {
        "name": "acme",
        "timezone": "UTC",
        "currency": "USD",
        "keep_text_days": 0,
        "projects-TOTAL_FORMS": 0,
        "projects-INITIAL_FORMS": 0,
    }
    url = reverse("admin:tenants_tenant_change", args=[tenant.pk])
    assert operator.post(url, {**form, "notify_emails": address}).status_code == 200
    tenant.refresh_from_db()
    assert tenant.notify_emails == []
    operator.post(url, {**form, "notify_emails": "ops@acme.example, cfo@acme.example"})
    tenant.refresh_from_db()
    assert tenant.notify_emails == ["ops@acme.example", "cfo@acme.example"]
