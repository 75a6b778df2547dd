"""Celery tasks of the gateway. A task calls one service; `gateway/schedule.py` says when."""

from __future__ import annotations

import logging
from typing import Any

from celery import shared_task
from celery.signals import worker_process_shutdown
from django.conf import settings

from gateway.audit.checks import check_chains, prune_audit_checks
from gateway.audit.kept_texts import purge_texts
from gateway.audit.retention import retain_audit
from gateway.audit.sending import audit_sinks, send_events
from gateway.claims import purge_expired
from gateway.desk.request_hours import prune_hours
from gateway.jobs import recovery, workplace
from gateway.media import purge
from gateway.notifications import delivery
from gateway.realtime.credentials import purge_secrets
from gateway.realtime.rows import close_lost
from gateway.request_log import purge_requests

logger = logging.getLogger(__name__)


@shared_task(name="gateway.deliver_notifications")
def deliver_notifications() -> None:
    delivery.deliver_due()


@shared_task(name="gateway.prune_notifications")
def prune_notifications() -> None:
    delivery.prune_notifications()


@shared_task(name="gateway.purge_idempotent_calls")
def purge_idempotent_calls() -> None:
    purge_expired()


@shared_task(name="gateway.purge_requests")
def purge_request_log() -> None:
    purge_requests(settings.REQUEST_LOG_DAYS)
    prune_hours()


@shared_task(name="gateway.send_audit_events")
def send_audit_events() -> None:
    send_events(audit_sinks())


@shared_task(name="gateway.verify_audit")
def verify_audit() -> None:
    check_chains()
    prune_audit_checks()


@shared_task(name="gateway.retain_audit")
def retain_audit_events() -> None:
    purge_texts()
    retain_audit(settings.AUDIT_RETENTION_MONTHS, say=logger.info)


@shared_task(name="gateway.purge_media")
def purge_media() -> None:
    purge.purge_media()


@shared_task(name="gateway.sweep_media")
def sweep_media() -> None:
    purge.sweep_orphans()


@shared_task(name="gateway.close_lost_sessions")
def close_lost_sessions() -> None:
    close_lost(settings.PROCESS_DEAD_SECONDS)


@shared_task(name="gateway.run_jobs", acks_late=False, soft_time_limit=3600, time_limit=3660)
def run_jobs() -> None:
    """Acknowledged at once: a message only says that there may be something to do, and a dead worker's jobs are found
    by their rows."""
    workplace.run_due()


@worker_process_shutdown.connect
def close_workplace(**_signal: Any) -> None:
    workplace.close()


@shared_task(name="gateway.purge_jobs")
def purge_jobs() -> None:
    recovery.purge()


@shared_task(name="gateway.purge_client_secrets")
def purge_client_secrets() -> None:
    purge_secrets()
