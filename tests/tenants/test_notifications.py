"""The outbox: what is told is written with what it tells, once, for each way it goes."""

from __future__ import annotations

import threading

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction

from tenants.models import Delivery, Notification, Tenant, WebhookEndpoint
from tenants.notifications import notify
from tests.factories import make_tenant

HOOK = "https://hooks.example.com/bursar"


def tell(tenant: Tenant, key: str = "k", event: str = "budget.alert") -> Notification | None:
    return notify(tenant.pk, event, key=key, data={"percent": 50})


@pytest.mark.django_db
def test_one_delivery_for_each_webhook_that_takes_the_event_and_each_address() -> None:
    tenant = make_tenant(notify_emails=["ops@acme.example", "cfo@acme.example"])
    takes_all = WebhookEndpoint.objects.create(tenant=tenant, url=HOOK)
    takes_it = WebhookEndpoint.objects.create(tenant=tenant, url=f"{HOOK}/1", events=["budget.alert"])
    WebhookEndpoint.objects.create(tenant=tenant, url=f"{HOOK}/2", events=["statement.issued"])
    WebhookEndpoint.objects.create(tenant=tenant, url=f"{HOOK}/3", enabled=False)
    WebhookEndpoint.objects.create(tenant=make_tenant(), url=HOOK)

    notification = tell(tenant)

    assert notification is not None
    assert {row.endpoint or row.email for row in Delivery.objects.filter(notification=notification)} == {
        takes_all, takes_it, "ops@acme.example", "cfo@acme.example"
    }  # fmt: skip


@pytest.mark.django_db
def test_the_same_key_is_told_once_by_tenant_and_event() -> None:
    tenant, other = make_tenant(notify_emails=["ops@acme.example"]), make_tenant()
    assert tell(tenant) and tell(other) and tell(tenant, "another") and tell(tenant, event="statement.issued")
    assert tell(tenant) is None
    assert Notification.objects.filter(tenant=tenant).count() == Delivery.objects.count() == 3


@pytest.mark.django_db
def test_an_unknown_event_is_refused() -> None:
    with pytest.raises(ValueError, match="is not an event"):
        tell(make_tenant(), event="no.such")


@pytest.mark.django_db(transaction=True)
def test_it_is_part_of_the_callers_transaction() -> None:
    tenant = make_tenant(notify_emails=["ops@acme.example"])
    with pytest.raises(RuntimeError), transaction.atomic():
        assert tell(tenant)
        raise RuntimeError
    assert not Notification.objects.exists() and not Delivery.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_at_once_tell_it_once() -> None:
    tenant = make_tenant(notify_emails=["ops@acme.example"])
    told: list[Notification | None] = []
    second_tells = threading.Thread(target=lambda: (told.append(tell(tenant)), connection.close()))
    with transaction.atomic():
        assert tell(tenant)
        second_tells.start()  # waits for this transaction's row, if it does not come after it
    second_tells.join(20)
    assert told == [None]
    assert Delivery.objects.count() == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/x", "ftp://hooks.example.com", "hooks.example.com", "https://", "https://a b/",
        "https://user:pass@hooks.example.com/", "https://hooks.example.com/#x", "https://localhost/x", "mock://local",
        "https://127.0.0.1/x", "https://[::ffff:127.0.0.1]/", "https://169.254.169.254/latest", "https://10.0.0.1",
        "https://hooks.example.com:0/", "https://hooks.example.com:99999/", "https://hooks.example.com/\r\nX: y",
        "file:///etc/passwd",
    ],
)  # fmt: skip
def test_urls_that_are_not_taken(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        WebhookEndpoint(url=url).clean()
    assert set(refused.value.message_dict) == {"url"}
    if url.startswith("https://127"):
        WebhookEndpoint(url=url, allow_private_network=True).clean()
