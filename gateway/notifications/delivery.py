"""Sending what is due, and forgetting what was told long ago."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections import Counter
from collections.abc import Sequence

from django.utils import timezone

from gateway.notifications.claims import Outcome, claim, record
from gateway.notifications.emails import mail
from gateway.notifications.webhooks import post_all
from tenants.models import Delivery, DeliveryState, Notification

logger = logging.getLogger(__name__)

WORK_SECONDS = 60.0
"""How long one call goes on taking up more."""

WEBHOOKS_AT_ONCE = 20
KEPT = dt.timedelta(days=90)
PRUNED_AT_ONCE = 5000


def deliver_due(now: dt.datetime | None = None) -> Counter[str]:
    """Send what is due at a moment, else at each moment as it comes; returns how many were sent, by the state after.

    Any number of workers may call it at once: no delivery is with two of them.
    """
    sent: Counter[str] = Counter()
    end = time.monotonic() + WORK_SECONDS
    busy = True
    while busy and time.monotonic() < end:
        moment = now or timezone.now()
        webhooks = claim(moment, by_email=False, most=WEBHOOKS_AT_ONCE)
        if webhooks:
            sent += _record_all(webhooks, post_all(webhooks, moment), now=moment)
        # One by one: a slow mail server must not outlast the lease of those behind it.
        emails = claim(moment, by_email=True, most=1)
        if emails:
            sent += _record_all(emails, [mail(emails[0])], now=moment)
        busy = bool(webhooks or emails)
    return sent


def _record_all(deliveries: Sequence[Delivery], outcomes: Sequence[Outcome], *, now: dt.datetime) -> Counter[str]:
    states: Counter[str] = Counter()
    for delivery, outcome in zip(deliveries, outcomes, strict=True):
        state = record(delivery, outcome, now=now)
        states[state or "lost"] += 1
        if outcome.error:
            about = {
                "notification": str(delivery.notification_id),
                "delivery": delivery.pk,
                "tenant": delivery.notification.tenant.name,
                "attempts": delivery.attempts,
                "reason": outcome.error,
            }
            if state == DeliveryState.DEAD:
                logger.error("notification.given_up", extra=about)
            else:
                logger.warning("notification.not_taken", extra=about)
    return states


def prune_notifications(now: dt.datetime | None = None) -> int:
    """Delete notifications older than `KEPT` with their deliveries, unless one is still on its way; returns how many.

    From then on their keys could be told again, so whoever calls `notify` marks its own rows as told.
    """
    old = Notification.objects.filter(created_at__lt=(now or timezone.now()) - KEPT).exclude(
        deliveries__state=DeliveryState.PENDING
    )
    pruned = 0
    while ids := list(old.order_by("created_at").values_list("pk", flat=True)[:PRUNED_AT_ONCE]):
        _, deleted = Notification.objects.filter(pk__in=ids).delete()
        pruned += deleted.get(Notification._meta.label, 0)
    return pruned
