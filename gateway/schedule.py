"""What runs by itself, and when: one line here schedules a task. Operators may change the times in the admin.

The lines are written into django-celery-beat's tables after each `migrate` where they are missing, and left alone where
they are there: what an operator has decided stays.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db import connections

PERIODIC = "django_celery_beat"

SCHEDULE: dict[str, int | str] = {
    "gateway.deliver_notifications": 5,
    "billing.send_budget_alerts": 5,
    "billing.roll_up_usage": 15,
    "billing.check_analytics": "04:30",
    "gateway.run_jobs": 5,
    "gateway.close_lost_sessions": 10,
    "providers.check_health": 60,
    "providers.retire_models": 60,
    "gateway.purge_media": 300,
    "gateway.purge_jobs": 300,
    "providers.sync_models": "02:20",
    "gateway.prune_notifications": "02:40",
    "gateway.purge_idempotent_calls": "02:50",
    "gateway.purge_requests": "03:00",
    "gateway.sweep_media": "04:50",
    "gateway.purge_client_secrets": "03:05",
    "billing.verify_money": "03:10",
    "billing.make_statements": "03:40",
    "billing.prune_books_checks": "04:10",
    "billing.retain_usage": "04:20",
    "gateway.send_audit_events": 5,
    "gateway.verify_audit": "04:40",
    "gateway.retain_audit": "05:20",
}
"""By the task's name: every so many seconds, or each day at a time in UTC."""

_LEAST_EXPIRY_SECONDS = 10
_DAILY_EXPIRY_SECONDS = 12 * 3600


def seed_schedule(*, using: str, **_signal: Any) -> None:
    """Write down what is not scheduled yet. The receiver of `post_migrate`."""
    periodic_task = apps.get_model(PERIODIC, "PeriodicTask")
    if periodic_task._meta.db_table not in connections[using].introspection.table_names():
        return  # this `migrate` was of another app
    tasks = periodic_task.objects.using(using)
    known = set(tasks.values_list("name", flat=True))
    for name, when in SCHEDULE.items():
        if name not in known:
            task = periodic_task(name=name, task=name)
            set_timing(task, when, using=using)
            task.save(using=using)


def set_timing(task: Any, when: int | str, *, using: str = "default") -> None:
    """Have a task run every so many seconds, or each day at a time such as 03:10 UTC; unsaved."""
    if isinstance(when, int):
        intervals = apps.get_model(PERIODIC, "IntervalSchedule").objects.using(using)
        task.interval, _ = intervals.get_or_create(every=when, period="seconds")
        task.crontab = None
        # A turn that no worker took expires, so that a dead worker's queue does not grow: the next does the same.
        task.expire_seconds = max(when, _LEAST_EXPIRY_SECONDS)
    else:
        hour, minute = (str(int(part)) for part in when.split(":"))
        crontabs = apps.get_model(PERIODIC, "CrontabSchedule").objects.using(using)
        task.crontab, _ = crontabs.get_or_create(
            minute=minute, hour=hour, day_of_week="*", day_of_month="*", month_of_year="*", timezone="UTC"
        )
        task.interval = None
        task.expire_seconds = _DAILY_EXPIRY_SECONDS
