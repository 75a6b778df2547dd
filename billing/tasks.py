"""Celery tasks of billing. A task calls one service; `gateway/schedule.py` says when."""

from __future__ import annotations

import logging

from celery import shared_task
from django.conf import settings

from billing import alerts, books_checks, retention
from billing.analytics import checks, roll_up
from billing.statements.nightly import make_due_statements
from tenants.models import Tenant

logger = logging.getLogger(__name__)


@shared_task(name="billing.send_budget_alerts")
def send_budget_alerts() -> None:
    alerts.send_alerts()


@shared_task(name="billing.verify_money")
def verify_money() -> None:
    books_checks.check_books()


@shared_task(name="billing.prune_books_checks")
def prune_books_checks() -> None:
    books_checks.prune_books_checks()


@shared_task(name="billing.retain_usage")
def retain_usage() -> None:
    retention.retain_usage(settings.USAGE_RETENTION_MONTHS, say=logger.info)


@shared_task(name="billing.roll_up_usage")
def roll_up_usage() -> None:
    roll_up.roll_up()


@shared_task(name="billing.check_analytics")
def check_analytics() -> None:
    """What is not the ledger's is made anew, and what nobody can ask for goes."""
    repaired = checks.repair_analytics()
    if repaired:
        logger.warning("analytics.days_repaired", extra={"days": repaired})
    checks.prune_analytics()


@shared_task(name="billing.make_statements")
def make_statements(tenant_id: int | None = None) -> None:
    """Of one tenant; without one, a task for each: one that fails leaves the others alone."""
    if tenant_id is not None:
        make_due_statements(tenant_id)
        return
    for each in Tenant.objects.order_by("pk").values_list("pk", flat=True):
        make_statements.delay(each)
