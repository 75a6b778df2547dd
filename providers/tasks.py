"""Celery tasks of providers. A task calls one service; `gateway/schedule.py` says when."""

from __future__ import annotations

from celery import shared_task

from providers import health_checks, model_lists, services
from providers.models import Provider


@shared_task(name="providers.check_health")
def check_health() -> None:
    health_checks.check_providers()


@shared_task(name="providers.sync_models")
def sync_models() -> None:
    model_lists.sync_models(list(Provider.objects.filter(enabled=True)))


@shared_task(name="providers.retire_models")
def retire_models() -> None:
    services.retire_due_models()
