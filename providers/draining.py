"""Taking a deployment out of use without cutting off what is under way, and putting it back."""

from __future__ import annotations

import datetime as dt

from django.db import transaction
from django.utils import timezone

from providers.models import Deployment


class DrainError(Exception):
    """What was asked makes no sense for the deployment as it stands."""


@transaction.atomic
def drain(deployment: Deployment, *, until: dt.datetime | None, reason: str) -> Deployment:
    """Give it no new calls, in every process within two seconds. Raises `DrainError` when it is drained already."""
    now = timezone.now()
    locked = Deployment.objects.select_for_update().get(pk=deployment.pk)
    if locked.is_drained(now):
        raise DrainError(f"{deployment} is drained already.")
    locked.drained_at, locked.drained_until, locked.drain_reason = now, until, reason
    locked.save(update_fields=["drained_at", "drained_until", "drain_reason"])
    return locked


@transaction.atomic
def resume(deployment: Deployment) -> Deployment:
    """Give it calls again. Raises `DrainError` when it is not drained."""
    locked = Deployment.objects.select_for_update().get(pk=deployment.pk)
    if locked.drained_at is None:
        raise DrainError(f"{deployment} is not drained.")
    locked.drained_at = locked.drained_until = None
    locked.drain_reason = ""
    locked.save(update_fields=["drained_at", "drained_until", "drain_reason"])
    return locked
