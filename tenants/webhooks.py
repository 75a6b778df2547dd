"""A tenant's webhooks: their secrets, which are shown once, and what an operator may ask of a delivery."""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime as dt
import hmac
import os
import uuid

from django.db import transaction
from django.utils import timezone

from tenants.models import Delivery, DeliveryState, Notification, WebhookEndpoint
from tenants.sealing import SealError, seal, unseal

SECRET_PREFIX = "whsec_"  # noqa: S105 -- the prefix that Standard Webhooks gives secrets
SECRET_BYTES = (24, 64)
"""At least and at most, as the specification has it."""

BOTH_SIGN = dt.timedelta(hours=24)
"""How long the secret before a new one signs as well, so that a receiver can change over without losing a call."""


class WebhookSecretError(ValueError):
    """A secret of a form that the receiving libraries do not take."""


def make_secret() -> str:
    """A new secret, as receivers expect it: `whsec_` and 32 random bytes in base64."""
    return SECRET_PREFIX + base64.b64encode(os.urandom(32)).decode()


def check_secret(secret: str) -> str:
    """Return a secret that somebody brought. Raises `WebhookSecretError` for one of another form."""
    least, most = SECRET_BYTES
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not least <= len(key) <= most:
        raise WebhookSecretError(
            f"A webhook's secret is {SECRET_PREFIX} followed by {least} to {most} bytes in base64; "
            "leave it out and one is made."
        )
    return secret


def _bound_to(endpoint: WebhookEndpoint) -> bytes:
    return f"webhook:{endpoint.pk}:tenant:{endpoint.tenant_id}".encode()


@transaction.atomic
def create_endpoint(endpoint: WebhookEndpoint, *, secret: str | None = None) -> str:
    """Validate and store a new webhook and return its secret, which cannot be had again.

    `secret` brings one of one's own. Raises `WebhookSecretError`, and `ValidationError` for fields that do not hold.
    """
    text = check_secret(secret) if secret is not None else make_secret()
    endpoint.full_clean()
    endpoint.save()
    endpoint.ciphertext = seal(text.encode(), bound_to=_bound_to(endpoint))
    endpoint.save(update_fields=["ciphertext"])
    return text


@transaction.atomic
def rotate_secret(endpoint: WebhookEndpoint, *, secret: str | None = None) -> str:
    """Give a webhook another secret and return it. The one before signs as well for `BOTH_SIGN`; one before that ends.

    Raises `WebhookSecretError` for a given secret of another form.
    """
    text = check_secret(secret) if secret is not None else make_secret()
    row = WebhookEndpoint.objects.select_for_update().get(pk=endpoint.pk)
    endpoint.previous_ciphertext, endpoint.previous_until = "", None
    with contextlib.suppress(SealError):  # what no key opens any more cannot sign either
        current_secret(row)
        endpoint.previous_ciphertext, endpoint.previous_until = row.ciphertext, timezone.now() + BOTH_SIGN
    endpoint.ciphertext = seal(text.encode(), bound_to=_bound_to(endpoint))
    endpoint.save(update_fields=["ciphertext", "previous_ciphertext", "previous_until"])
    return text


def current_secret(endpoint: WebhookEndpoint) -> str:
    """The secret that signs. Raises `tenants.sealing.SealError`."""
    return unseal(endpoint.ciphertext, bound_to=_bound_to(endpoint)).decode()


def has_secret(endpoint: WebhookEndpoint, secret: str) -> bool:
    """Whether this is the secret that signs; no, where the one that is stored cannot be opened."""
    try:
        return hmac.compare_digest(current_secret(endpoint), secret)
    except SealError:
        return False


def signing_secrets(endpoint: WebhookEndpoint, now: dt.datetime) -> list[str]:
    """Every secret that signs at a moment, the newest first. Raises `tenants.sealing.SealError`."""
    secrets = [current_secret(endpoint)]
    if endpoint.previous_ciphertext and endpoint.previous_until is not None and now < endpoint.previous_until:
        secrets.append(unseal(endpoint.previous_ciphertext, bound_to=_bound_to(endpoint)).decode())
    return secrets


@transaction.atomic
def seal_all_anew() -> int:
    """Encrypt every secret again with the first key; returns how many. Raises `SealError`, changing nothing."""
    count = 0
    for endpoint in WebhookEndpoint.objects.select_for_update().order_by("pk"):
        for field in ("ciphertext", "previous_ciphertext"):
            if sealed := getattr(endpoint, field):
                setattr(
                    endpoint, field, seal(unseal(sealed, bound_to=_bound_to(endpoint)), bound_to=_bound_to(endpoint))
                )
                count += 1
        endpoint.save(update_fields=["ciphertext", "previous_ciphertext"])
    return count


@transaction.atomic
def send_test(endpoint: WebhookEndpoint) -> Notification:
    """Write down a notification for this webhook alone, whatever events it takes."""
    notification = Notification.objects.create(
        tenant=endpoint.tenant, event="webhook.test", key=str(uuid.uuid4()), data={"says": "It works."}
    )
    Delivery.objects.create(notification=notification, endpoint=endpoint)
    return notification


def replay(delivery: Delivery) -> None:
    """Begin again with a delivery, whatever became of it; the receiver knows it by the id it had."""
    delivery.state = DeliveryState.PENDING
    delivery.attempts = 0
    delivery.next_at = timezone.now()
    delivery.last_error = ""
    delivery.delivered_at = None
    delivery.save(update_fields=["state", "attempts", "next_at", "last_error", "delivered_at"])
