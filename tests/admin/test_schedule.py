"""The schedule in the admin: operators say when, never what."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django_celery_beat.models import PeriodicTask, PeriodicTasks

NAME = "billing.verify_money"


@pytest.fixture
def task(db: None) -> PeriodicTask:
    return PeriodicTask.objects.get(name=NAME)


def save(client: Client, task: PeriodicTask, /, **fields: Any) -> Any:
    return client.post(reverse("admin:django_celery_beat_periodictask_change", args=[task.pk]), fields)


def test_when_a_task_runs_is_changed_both_ways_and_beat_is_told(operator: Client, task: PeriodicTask) -> None:
    page = reverse("admin:django_celery_beat_periodictask_change", args=[task.pk])
    assert 'value="03:10"' in operator.get(page).content.decode()
    before = PeriodicTasks.last_change()

    assert save(operator, task, enabled="on", every_seconds="90").status_code == 302
    task.refresh_from_db()
    assert (task.interval.every, task.crontab, task.expire_seconds) == (90, None, 90)
    assert PeriodicTasks.last_change() != before

    save(operator, task, enabled="on", daily_at="23:05")
    task.refresh_from_db()
    assert (task.interval, task.crontab.hour, task.crontab.minute) == (None, "23", "5")

    save(operator, task, daily_at="23:05")
    task.refresh_from_db()
    assert not task.enabled


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"every_seconds": "0"}, {"every_seconds": "-1"}, {"every_seconds": "1e9"}, {"daily_at": "25:00"},
        {"daily_at": "noon"}, {"every_seconds": "5", "daily_at": "03:10"},
    ],
)  # fmt: skip
def test_nonsense_is_refused(fields: dict[str, str], owner: Client, task: PeriodicTask) -> None:
    assert save(owner, task, enabled="on", **fields).status_code == 200
    task.refresh_from_db()
    assert task.crontab.hour == "3"


def test_what_runs_is_not_to_be_changed(owner: Client, task: PeriodicTask) -> None:
    save(owner, task, enabled="on", daily_at="03:10", name="x", task="os.system", args='["rm"]', queue="other")
    task.refresh_from_db()
    assert (task.name, task.task, task.args, task.queue) == (NAME, NAME, "[]", None)
