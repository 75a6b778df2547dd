"""Which worker sends what: a delivery is claimed for a while, sent, and what became of it is written down.

A claim is a lease. A worker that dies with it says nothing, so the delivery falls due again when the lease ends: the
receiver hears it twice rather than never, under one id.
"""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import dataclass

from django.db import transaction

from tenants.models import Delivery, DeliveryState

LEASE = dt.timedelta(minutes=2)
"""Longer than any attempt takes."""

RETRY_SECONDS = (10, 60, 300, 1800, 7200, 18_000, 28_800, 28_800)
"""How long to wait after each attempt that failed: 23 and a half hours in all, then it is given up."""

JITTER = 0.1
"""Each wait is longer by up to this part of it, so that what failed together does not return together."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt went: without an error it was taken."""

    error: str = ""
    is_final: bool = False
    """Whether trying again is of no use."""


DELIVERED = Outcome()


@transaction.atomic
def claim(now: dt.datetime, *, by_email: bool, most: int) -> list[Delivery]:
    """Take up what is due, at most so many, and keep every other worker from it until the lease ends.

    `attempts` of what is returned tells this claim from any later one.
    """
    due = Delivery.objects.filter(state=DeliveryState.PENDING, next_at__lte=now, endpoint__isnull=by_email)
    rows = due.select_for_update(skip_locked=True, of=("self",)).select_related("notification__tenant", "endpoint")
    claimed = list(rows.order_by("next_at", "pk")[:most])
    for delivery in claimed:
        delivery.attempts += 1
        delivery.next_at = now + LEASE
    Delivery.objects.bulk_update(claimed, ["attempts", "next_at"])
    return claimed


def record(delivery: Delivery, outcome: Outcome, *, now: dt.datetime) -> DeliveryState | None:
    """Write down how the attempt of a claim went and return the delivery's state.

    Changes nothing and returns None when the claim was lost meanwhile: its lease ended, or an operator began again.
    """
    held = Delivery.objects.filter(pk=delivery.pk, state=DeliveryState.PENDING, attempts=delivery.attempts)
    if not outcome.error:
        changed = held.update(state=DeliveryState.DELIVERED, delivered_at=now, last_error="")
        return DeliveryState.DELIVERED if changed else None
    error = outcome.error[:500]
    if outcome.is_final or delivery.attempts > len(RETRY_SECONDS):
        return DeliveryState.DEAD if held.update(state=DeliveryState.DEAD, last_error=error) else None
    wait_seconds = RETRY_SECONDS[delivery.attempts - 1] * (1 + JITTER * random.random())
    next_at = now + dt.timedelta(seconds=wait_seconds)
    return DeliveryState.PENDING if held.update(next_at=next_at, last_error=error) else None
