"""The schedule: each task is there, runs as scheduled, and stays as an operator has set it."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command
from django_celery_beat.models import PeriodicTask

from gateway.celery import app
from gateway.schedule import SCHEDULE
from gateway.settings import _broker_url


def test_every_scheduled_task_exists() -> None:
    app.loader.import_default_modules()
    assert set(SCHEDULE) <= set(app.tasks)
    ours = {name for name in app.tasks if not name.startswith("celery.")}
    assert ours == set(SCHEDULE), "a task that nothing schedules or sends"


def test_how_tasks_travel() -> None:
    conf = app.conf
    assert conf.accept_content == ["json"] and conf.task_serializer == "json"
    assert conf.task_acks_late and conf.task_reject_on_worker_lost and conf.task_ignore_result
    longest = conf.task_time_limit
    assert conf.task_soft_time_limit < longest < conf.broker_transport_options["visibility_timeout"]


@pytest.mark.parametrize(
    ("redis", "broker"),
    [
        ("unix:///run/a%20b/redis.sock?db=3", "redis+socket:///run/a%20b/redis.sock?virtual_host=3"),
        ("redis://:pw@redis.internal:6379/1", "redis://:pw@redis.internal:6379/1"),
        ("rediss://redis.internal/0?ssl_cert_reqs=required", "rediss://redis.internal/0?ssl_cert_reqs=required"),
    ],
)
def test_the_broker_is_the_platforms_redis(redis: str, broker: str) -> None:
    assert _broker_url(redis) == broker


@pytest.mark.django_db
def test_migrating_writes_what_is_missing_and_keeps_what_an_operator_set() -> None:
    assert set(PeriodicTask.objects.values_list("name", flat=True)) == set(SCHEDULE)
    PeriodicTask.objects.filter(name="billing.verify_money").update(enabled=False)
    PeriodicTask.objects.filter(name="gateway.prune_notifications").delete()
    call_command("migrate", verbosity=0, stdout=StringIO())
    assert set(PeriodicTask.objects.values_list("name", flat=True)) == set(SCHEDULE)
    assert not PeriodicTask.objects.get(name="billing.verify_money").enabled


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", sorted(SCHEDULE))
def test_every_task_runs(name: str) -> None:
    app.loader.import_default_modules()
    app.tasks[name].apply(throw=True)
