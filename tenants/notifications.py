"""Telling a tenant something: what other apps call inside the transaction of what they tell."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import Q

from tenants.models import EVENTS, WEBHOOKS_ONLY, Delivery, Notification, Tenant, WebhookEndpoint


@transaction.atomic
def notify(tenant_id: int, event: str, *, key: str, data: dict[str, Any]) -> Notification | None:
    """Write down, in the caller's transaction, that a tenant is to be told; a worker tells it once that commits.

    `key` (at most 200 characters) tells this from the tenant's other notifications of the event: a second call with it
    writes nothing and returns None. `data` is JSON; amounts are texts such as "12.5", in USD. One delivery is written
    for each enabled webhook that takes the event and, but for `WEBHOOKS_ONLY`, for each of the tenant's e-mail
    addresses. Raises `ValueError` for an event that `tenants.models.EVENTS` does not have.
    """
    if event not in EVENTS:
        raise ValueError(f"{event!r} is not an event: it has no line in EVENTS.")
    tenant = Tenant.objects.get(pk=tenant_id)
    notification, is_new = Notification.objects.get_or_create(
        tenant=tenant, event=event, key=key, defaults={"data": data}
    )
    if not is_new:
        return None
    endpoints = WebhookEndpoint.objects.filter(Q(events=[]) | Q(events__contains=[event]), tenant=tenant, enabled=True)
    deliveries = [Delivery(notification=notification, endpoint=endpoint) for endpoint in endpoints]
    if event not in WEBHOOKS_ONLY:
        deliveries += [Delivery(notification=notification, email=address) for address in set(tenant.notify_emails)]
    Delivery.objects.bulk_create(deliveries)
    return notification
