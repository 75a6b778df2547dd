"""Deliveries: signed, tried again until they are taken, never by two workers at once, and only to where they may go."""

from __future__ import annotations

import datetime as dt
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.utils import timezone

from gateway.notifications import claims, delivery
from gateway.notifications.claims import LEASE, RETRY_SECONDS
from gateway.notifications.delivery import deliver_due, prune_notifications
from tenants.models import Delivery, DeliveryState, Notification, Tenant, WebhookEndpoint
from tenants.notifications import notify
from tenants.webhooks import create_endpoint, replay, rotate_secret, send_test
from tests.factories import make_tenant
from tests.fakes.webhook_receiver import SignatureError, WebhookReceiver
from tests.live import until

pytestmark = pytest.mark.django_db

NOW = dt.datetime(2026, 11, 21, 12, 0, tzinfo=dt.UTC)
A_DAY = dt.timedelta(days=1)


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as running:
        yield running


def add_endpoint(tenant: Tenant, url: str, **fields: Any) -> tuple[WebhookEndpoint, str]:
    endpoint = WebhookEndpoint(tenant=tenant, url=url, **{"allow_private_network": True, **fields})
    return endpoint, create_endpoint(endpoint)


def tell(tenant: Tenant, key: str = "k") -> Notification:
    notification = notify(tenant.pk, "budget.alert", key=key, data={"percent": 80, "spent_usd": "0.8"})
    assert notification is not None
    Delivery.objects.filter(notification=notification).update(next_at=NOW)
    return notification


def test_a_delivery_is_signed_as_receivers_check_it(receiver: WebhookReceiver) -> None:
    tenant = make_tenant()
    _, secret = add_endpoint(tenant, receiver.url)
    notification = tell(tenant)

    assert deliver_due(NOW) == {"delivered": 1}

    (request,) = receiver.received
    assert request.id == str(notification.pk) and request.headers["content-type"] == "application/json"
    assert request.verified(secret, now=NOW.timestamp()) == {
        "type": "budget.alert",
        "timestamp": notification.created_at.isoformat(),
        "data": {"percent": 80, "spent_usd": "0.8"},
    }
    with pytest.raises(SignatureError, match="fits"):
        request.verified(add_endpoint(tenant, f"{receiver.url}/2")[1], now=NOW.timestamp())
    with pytest.raises(SignatureError, match="old"):
        request.verified(secret, now=NOW.timestamp() + 3600)
    row = Delivery.objects.get()
    assert (row.state, row.delivered_at, row.attempts) == (DeliveryState.DELIVERED, NOW, 1)
    assert deliver_due(NOW + A_DAY) == {}


def test_both_secrets_sign_while_one_replaces_the_other(receiver: WebhookReceiver) -> None:
    tenant = make_tenant()
    endpoint, old = add_endpoint(tenant, receiver.url)
    new = rotate_secret(endpoint)
    rotated_at = timezone.now()

    tell(tenant)
    deliver_due(rotated_at)
    for secret in (old, new):
        assert receiver.received[0].verified(secret, now=rotated_at.timestamp())

    tell(tenant, "later")
    deliver_due(rotated_at + A_DAY + dt.timedelta(seconds=1))
    later = (rotated_at + A_DAY).timestamp()
    assert receiver.received[1].verified(new, now=later)
    with pytest.raises(SignatureError, match="fits"):
        receiver.received[1].verified(old, now=later)

    newest = rotate_secret(endpoint)
    tell(tenant, "again")
    deliver_due(rotated_at)
    for secret in (newest, new):
        assert receiver.received[2].verified(secret, now=rotated_at.timestamp())
    with pytest.raises(SignatureError, match="fits"):
        receiver.received[2].verified(old, now=rotated_at.timestamp())


def test_a_receiver_that_is_away_is_tried_until_it_is_back(receiver: WebhookReceiver) -> None:
    tenant = make_tenant()
    _, secret = add_endpoint(tenant, receiver.url)
    tell(tenant)
    receiver.answers = [500, 503, 404]
    now = NOW
    for attempt, wait_seconds in enumerate(RETRY_SECONDS[:3], start=1):
        assert deliver_due(now) == {"pending": 1}
        row = Delivery.objects.get()
        assert row.attempts == attempt and row.last_error.startswith("Answered ")
        assert wait_seconds <= (row.next_at - now).total_seconds() <= wait_seconds * 1.1
        assert deliver_due(row.next_at - dt.timedelta(seconds=1)) == {}, "not before its time"
        now = row.next_at
    assert deliver_due(now) == {"delivered": 1}
    assert len({request.id for request in receiver.received}) == 1
    assert receiver.received[-1].verified(secret, now=now.timestamp())
    assert Delivery.objects.get().last_error == ""


def test_it_is_given_up_after_a_day_and_can_be_replayed(receiver: WebhookReceiver) -> None:
    tenant = make_tenant()
    add_endpoint(tenant, receiver.url)
    tell(tenant)
    receiver.answers = [500] * (len(RETRY_SECONDS) + 1)
    now = NOW
    for _ in RETRY_SECONDS:
        assert deliver_due(now) == {"pending": 1}
        now = Delivery.objects.get().next_at
    assert dt.timedelta(hours=22) < now - NOW < dt.timedelta(hours=27)
    assert deliver_due(now) == {"dead": 1}
    assert deliver_due(now + A_DAY) == {}

    replay(Delivery.objects.get())
    assert deliver_due(timezone.now()) == {"delivered": 1}
    assert len({request.id for request in receiver.received}) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(status: int, receiver: WebhookReceiver) -> None:
    with WebhookReceiver() as canary:
        add_endpoint(tenant := make_tenant(), receiver.url)
        tell(tenant)
        receiver.answers, receiver.location = [status], canary.url
        assert deliver_due(NOW) == {"pending": 1}
        assert "redirects are not followed" in Delivery.objects.get().last_error
        assert len(receiver.received) == 1 and canary.received == []


def test_a_private_address_behind_a_name_is_not_dialled(
    receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo
    loopback = {"hooks.example.test": "127.0.0.1"}
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *more, **options: resolve(loopback.get(host, host), *more, **options)
    )
    url = f"https://hooks.example.test:{receiver.port}/hook"
    add_endpoint(tenant := make_tenant(), url, allow_private_network=False)
    tell(tenant)
    assert deliver_due(NOW) == {"pending": 1}
    assert "127.0.0.1 is not a public address" in Delivery.objects.get().last_error
    assert receiver.received == []

    # The control: with an owner's leave the same name is dialled.
    WebhookEndpoint.objects.update(url=url.replace("https", "http"), allow_private_network=True)
    assert deliver_due(Delivery.objects.get().next_at) == {"delivered": 1}
    assert len(receiver.received) == 1


def test_a_url_that_may_no_longer_be_called_is_given_up(receiver: WebhookReceiver) -> None:
    add_endpoint(tenant := make_tenant(), receiver.url)
    tell(tenant)
    WebhookEndpoint.objects.update(allow_private_network=False)
    assert deliver_due(NOW) == {"dead": 1}
    assert receiver.received == []


def test_what_cannot_be_reached_is_said_without_the_address(receiver: WebhookReceiver) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        add_endpoint(tenant := make_tenant(), f"http://127.0.0.1:{closed.getsockname()[1]}/token-secret")
        tell(tenant)
        assert deliver_due(NOW) == {"pending": 1}
    error = Delivery.objects.get().last_error
    assert error.startswith("It cannot be reached") and "token-secret" not in error


def test_gone_and_switched_off_are_final(receiver: WebhookReceiver) -> None:
    add_endpoint(tenant := make_tenant(), receiver.url)
    tell(tenant)
    receiver.answers = [410]
    assert deliver_due(NOW) == {"dead": 1}
    tell(tenant, "another")
    WebhookEndpoint.objects.update(enabled=False)
    assert deliver_due(NOW) == {"dead": 1}
    assert len(receiver.received) == 1


def test_a_test_goes_to_one_endpoint_whatever_it_takes(receiver: WebhookReceiver) -> None:
    tenant = make_tenant()
    endpoint, secret = add_endpoint(tenant, receiver.url, events=["statement.issued"])
    add_endpoint(tenant, f"{receiver.url}/other")
    send_test(endpoint)
    assert deliver_due() == {"delivered": 1}
    assert receiver.received[0].path == "/hook"
    assert receiver.received[0].verified(secret, now=timezone.now().timestamp())["type"] == "webhook.test"


# Two workers -------------------------------------------------------------------------------------------------------


def two_workers_while_the_receiver_waits(receiver: WebhookReceiver) -> None:
    """One worker has sent and waits for the answer; a second one looks for work and finds none."""
    add_endpoint(tenant := make_tenant(), receiver.url)
    tell(tenant)
    receiver.gate.clear()
    first = threading.Thread(target=lambda: (deliver_due(NOW), connection.close()))
    first.start()
    try:
        until(lambda: receiver.received, what="the first request")
        second = threading.Thread(target=lambda: (deliver_due(NOW), connection.close()))
        second.start()
        until(lambda: len(receiver.received) > 1 or not second.is_alive(), what="the second worker")
    finally:
        receiver.gate.set()
        first.join(20)
        second.join(20)


@pytest.mark.django_db(transaction=True)
def test_two_workers_never_send_one_delivery_at_the_same_time(receiver: WebhookReceiver) -> None:
    two_workers_while_the_receiver_waits(receiver)
    assert len(receiver.received) == 1
    assert Delivery.objects.get().attempts == 1


@pytest.mark.django_db(transaction=True)
def test_the_control_without_a_lease_sends_twice(receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "LEASE", dt.timedelta(0))
    two_workers_while_the_receiver_waits(receiver)
    assert len(receiver.received) == 2


@pytest.mark.django_db(transaction=True)
def test_claims_of_many_workers_do_not_overlap() -> None:
    tenant = make_tenant(notify_emails=["ops@acme.example"])
    for number in range(60):
        tell(tenant, str(number))
    claimed: list[int] = []
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        while rows := claims.claim(NOW, by_email=True, most=3):
            claimed.extend(row.pk for row in rows)
        connection.close()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    # A worker that meets only locked rows goes home early; what is left falls due at the next call.
    claimed.extend(row.pk for row in claims.claim(NOW, by_email=True, most=60))
    assert len(claimed) == len(set(claimed)) == 60


def test_what_a_killed_worker_had_claimed_is_sent_again_under_its_id(receiver: WebhookReceiver) -> None:
    add_endpoint(tenant := make_tenant(), receiver.url)
    notification = tell(tenant)
    (lost,) = claims.claim(NOW, by_email=False, most=10)  # and then it is killed
    assert deliver_due(NOW + LEASE - dt.timedelta(seconds=1)) == {}
    assert deliver_due(NOW + LEASE) == {"delivered": 1}
    assert receiver.received[0].id == str(notification.pk)
    # If it lives after all, it no longer has a say.
    assert claims.record(lost, claims.Outcome("too late"), now=NOW + A_DAY) is None
    assert Delivery.objects.get().state == DeliveryState.DELIVERED


# E-mail ------------------------------------------------------------------------------------------------------------


def test_an_alert_is_mailed_in_words() -> None:
    tenant = make_tenant("acme", notify_emails=["ops@acme.example", "cfo@acme.example"])
    data = {
        "scope": "user", "subject": "<b>u-1</b>\r\nBcc: x@evil.example", "period": "day", "percent": 80, "hard": True,
        "limit_usd": "1", "spent_usd": "0.8", "reserved_usd": "0.05", "resets_at": "2026-11-22T00:00:00+00:00",
    }  # fmt: skip
    notify(tenant.pk, "budget.alert", key="k", data=data)
    assert deliver_due() == {"delivered": 2}
    assert {address for message in mail.outbox for address in message.to} == {"ops@acme.example", "cfo@acme.example"}
    message = mail.outbox[0]
    assert message.subject == "acme: 80 % of a day budget is spent"
    assert "0.8 of 1 USD" in message.body and "<b>u-1</b>" in message.body and "budget_exceeded" in message.body
    assert message.recipients() == message.to and "evil" not in str(message.extra_headers)


def test_an_event_without_words_of_its_own_lists_its_data() -> None:
    tenant = make_tenant("acme", notify_emails=["ops@acme.example"])
    notify(tenant.pk, "webhook.test", key="k", data={"total_usd": "12.5", "credit": None})
    deliver_due()
    assert mail.outbox[0].subject.startswith("acme: ") and "total_usd: 12.5" in mail.outbox[0].body


def test_a_mail_server_that_is_away_is_tried_again(settings: Any) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = closed.getsockname()
        tell(make_tenant(notify_emails=["ops@acme.example"]))
        assert deliver_due(NOW) == {"pending": 1}
    assert "The mail server did not take it" in Delivery.objects.get().last_error


# Forgetting --------------------------------------------------------------------------------------------------------


def test_what_was_told_long_ago_is_forgotten_unless_it_is_still_on_its_way() -> None:
    tenant = make_tenant(notify_emails=["ops@acme.example"])
    told, waiting, new = (tell(tenant, key) for key in ("told", "waiting", "new"))
    Delivery.objects.exclude(notification=waiting).update(state=DeliveryState.DELIVERED)
    Notification.objects.exclude(pk=new.pk).update(created_at=timezone.now() - delivery.KEPT - A_DAY)
    assert prune_notifications() == 1
    assert set(Notification.objects.all()) == {waiting, new}
    assert not Delivery.objects.filter(notification=told).exists()
