"""What `make run` does besides answering: a budget alert reaches a webhook through beat and the worker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
import redis

from gateway.embedded import engine_urls
from tenants.webhooks import make_secret
from tests.fakes.webhook_receiver import WebhookReceiver
from tests.live import until
from tests.platform.running import ROOT, Platform, alive, platform, temporary_data_dir

CONFIGURATION = """
tenants:
  - name: demo
    budgets: [{{period: total, limit_usd: "0.000001", hard: false, alert_at: [1]}}]
    webhooks: [{{url: "{url}", allow_private_network: true, secret: "{secret}"}}]
    notify_emails: [ops@acme.example]
"""


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    with temporary_data_dir() as folder:
        yield folder


def part(running: Platform, name: str) -> psutil.Process:
    """The supervised Celery process of this name."""
    children = psutil.Process(running.process.pid).children()
    mine = [child for child in children if "celery" in child.cmdline() and name in child.cmdline()]
    (found,) = [child for child in mine if "jobs" not in child.cmdline()]  # which has a worker of its own
    return found


def started_by_beat(data_dir: Path) -> int:
    """How many turns of the schedule beat has started so far."""
    with psycopg.connect(engine_urls(data_dir).database_url) as connection:
        query = "SELECT count(*) FROM django_celery_beat_periodictask WHERE last_run_at IS NOT NULL"
        row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def assert_death_is_told(running: Platform, name: str) -> None:
    """Kill a part: the platform says which, and takes down the rest."""
    family = running.family()
    part(running, name).kill()
    assert running.wait_until_gone() == 1
    assert f"{name} ended by itself" in running.output()
    assert alive(family) == []


def apply(running: Platform, text: str) -> None:
    subprocess.run(
        [sys.executable, "manage.py", "apply", "-"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DATA_DIR": str(running.data_dir)},
        input=text,
        text=True,
        check=True,
        capture_output=True,
    )


def test_a_budget_alert_reaches_a_webhook_and_a_mailbox(data_dir: Path) -> None:
    secret = make_secret()
    with WebhookReceiver() as receiver, platform(data_dir) as running:
        demo = running.wait_until_ready()
        until(lambda: started_by_beat(data_dir), seconds=60, what="the first turn of the schedule")
        # Losing what Redis holds, bindings of queues among it, delays what is due and loses nothing.
        redis.Redis.from_url(engine_urls(data_dir).redis_url).flushall()
        apply(running, CONFIGURATION.format(url=receiver.url, secret=secret))
        question = {"model": "mock-chat", "messages": [{"role": "user", "content": "Hello"}]}
        headers = {"Authorization": f"Bearer {demo['api_key']}"}

        def crossed() -> bool:
            """Every call after the gateway has seen the budget counts in it."""
            answer = httpx.post(f"{demo['base_url']}/chat/completions", json=question, headers=headers)
            assert answer.status_code == 200
            return bool(receiver.received)

        until(crossed, seconds=90, what="the webhook")
        told = receiver.received[0].verified(secret, now=time.time())
        assert (told["type"], told["data"]["percent"], told["data"]["hard"]) == ("budget.alert", 1, False)
        mails = until(lambda: list((data_dir / "mail").glob("*")), seconds=30, what="the e-mail")
        assert re.search(r"Subject: demo: 1 % of a total budget is spent", mails[0].read_text())
        assert len(receiver.received) == 1, "told once"

        assert_death_is_told(running, "worker")


def test_what_was_killed_at_work_does_not_keep_the_next_run_from_working(data_dir: Path) -> None:
    with platform(data_dir) as killed:
        killed.wait_until_ready()
        until(lambda: len(part(killed, "worker").children()) == 2, seconds=60, what="the worker's processes")
        family = killed.family()
        killed.kill_everything()
        with platform(data_dir) as running:
            running.wait_until_ready()
            assert alive(family) == []
            with psycopg.connect(engine_urls(data_dir).database_url, autocommit=True) as connection:
                connection.execute("UPDATE django_celery_beat_periodictask SET last_run_at = NULL")
            until(lambda: started_by_beat(data_dir), seconds=60, what="a turn of the schedule")
            assert_death_is_told(running, "beat")
