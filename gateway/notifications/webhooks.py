"""A notification as a signed POST, by the Standard Webhooks specification (standardwebhooks.com, v1)."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import hmac
from collections.abc import Sequence

import orjson

from gateway.notifications.claims import DELIVERED, Outcome
from providers.errors import DeadlineError, ProviderError
from providers.transport import Deadlines, Transport
from providers.types import UpstreamRequest
from tenants.addresses import check_webhook_url
from tenants.models import Delivery, Notification
from tenants.sealing import SealError
from tenants.webhooks import SECRET_PREFIX, signing_secrets

DEADLINES = Deadlines(connect=5.0, idle=10.0, total=15.0)
GONE = 410
"""By the specification: the receiver wants no more."""


def sign(secrets: Sequence[str], *, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one signature for each secret, separated by spaces."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    keys = (base64.b64decode(secret.removeprefix(SECRET_PREFIX)) for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}" for key in keys)


def body_of(notification: Notification) -> bytes:
    """What is posted, the same in every attempt: `type`, `timestamp` and `data`."""
    form = {"type": notification.event, "timestamp": notification.created_at.isoformat(), "data": notification.data}
    return orjson.dumps(form)


def post_all(deliveries: Sequence[Delivery], now: dt.datetime) -> list[Outcome]:
    """Post each to its endpoint, all at the same time, and say how each went."""
    return asyncio.run(_post_all(deliveries, now))


async def _post_all(deliveries: Sequence[Delivery], now: dt.datetime) -> list[Outcome]:
    transport = Transport()
    try:
        return list(await asyncio.gather(*(_post(transport, delivery, now=now) for delivery in deliveries)))
    finally:
        await transport.close()


async def _post(transport: Transport, delivery: Delivery, *, now: dt.datetime) -> Outcome:
    endpoint = delivery.endpoint
    assert endpoint is not None
    if not endpoint.enabled:
        return Outcome("The webhook is switched off.", is_final=True)
    # The row may be older than the rule, or than the flag that an owner has taken back.
    if refusal := check_webhook_url(endpoint.url, allow_private_network=endpoint.allow_private_network):
        return Outcome(f"The URL may not be called. {refusal}", is_final=True)
    try:
        request = _request(delivery, now)
    except SealError as error:
        return Outcome(f"Its secret {error}")
    try:
        response = await transport.send(
            request, deadlines=DEADLINES, allow_private_network=endpoint.allow_private_network
        )
    except ProviderError as error:
        return Outcome(_explain(error))
    # Its body is never read: nobody asked for it, and it might be long, slow, or a look into a private network.
    response.close()
    if 200 <= response.status < 300:
        return DELIVERED
    if 300 <= response.status < 400:
        return Outcome(f"Answered {response.status}: redirects are not followed.")
    return Outcome(f"Answered {response.status}.", is_final=response.status == GONE)


def _request(delivery: Delivery, now: dt.datetime) -> UpstreamRequest:
    notification, endpoint = delivery.notification, delivery.endpoint
    assert endpoint is not None
    body = body_of(notification)
    message_id, timestamp = str(notification.pk), int(now.timestamp())
    signature = sign(signing_secrets(endpoint, now), message_id=message_id, timestamp=timestamp, body=body)
    headers = {
        "content-type": "application/json",
        "user-agent": "Bursar",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature,
    }
    return UpstreamRequest(url=endpoint.url, headers=headers, body=body)


def _explain(error: ProviderError) -> str:
    """What the network said, without the address: that may be a secret."""
    if isinstance(error, DeadlineError):
        return f"No answer in time ({error.deadline})."
    cause = error.__cause__ or error
    reason = cause.strerror if isinstance(cause, OSError) else None
    return f"It cannot be reached: {reason or type(cause).__name__}."
