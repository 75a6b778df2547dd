"""Workers killed with -9 and a Redis that forgets: no job is lost, and none is paid twice."""

from __future__ import annotations

import datetime as dt
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest
import redis
from django.conf import settings
from django.db import connection
from django.utils import timezone

from billing.models import Attempt, UsageRecord
from gateway.jobs.models import FINAL, Job
from gateway.notifications.delivery import deliver_due
from tenants.models import Delivery, WebhookEndpoint
from tests.fakes.openai.scripts import Script
from tests.fakes.webhook_receiver import WebhookReceiver
from tests.gateway.jobs.conftest import ASK, Bureau, JobWorker, hint, verify_money
from tests.live import LiveServer, until

HINT_SECONDS = 1.0
SETTLED_WITHIN_SECONDS = 45


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, committed: None) -> Iterator[JobWorker]:
    """One whose processes notice each other's deaths within seconds."""
    quick = {"HEARTBEAT_SECONDS": "1", "PROCESS_DEAD_SECONDS": "2", "JOB_WORKER_CONCURRENCY": "2"}
    running = JobWorker(tmp_path_factory.mktemp("killed"), **quick)
    yield running
    running.stop()


@pytest.fixture
def beat() -> Iterator[None]:
    """Has a worker look again and again, as beat does."""
    over = threading.Event()

    def keep_hinting() -> None:
        while not over.wait(HINT_SECONDS):
            hint()

    thread = threading.Thread(target=keep_hinting)
    thread.start()
    yield
    over.set()
    thread.join()


def holder(worker: JobWorker, job_id: str) -> int:
    """Which of the worker's processes has a job in hand, by its number."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM billing_gatewayprocess p JOIN gateway_job j ON j.process = p.id WHERE j.id = %s", [job_id]
        )
        (pid,) = cursor.fetchone()
    return [child.pid for child in worker.children()].index(pid)


def test_killed_while_the_provider_answers(uvicorn: LiveServer, bureau: Bureau, worker: JobWorker, beat: None) -> None:
    """The provider has it, and may bill it: it is not asked a second time."""
    bureau.openai.script(Script(hold_before_headers=True))
    with bureau.client(uvicorn) as client:
        answer = client.post("/chat/completions", json={"model": bureau.chat, "messages": ASK, "async": True})
        job_id = answer.json()["id"]
        bureau.openai.wait_until(lambda _: bureau.openai.counters.held >= 1)
        worker.kill_one(holder(worker, job_id))
        job = bureau.over(job_id, seconds=SETTLED_WITHIN_SECONDS)
        told = client.get(f"/jobs/{job_id}").json()
    assert (job.status, told["error"]["code"]) == ("failed", "worker_lost")
    assert len(bureau.openai.records) == 1 and len(bureau.charges(job_id)) == 1
    bureau.openai.release()
    verify_money()


def test_killed_while_a_film_is_made(uvicorn: LiveServer, bureau: Bureau, worker: JobWorker, beat: None) -> None:
    """Another process goes on asking after it; it is ordered and paid once."""
    with bureau.client(uvicorn) as client:
        job_id = client.post("/videos", json={"model": bureau.film, "prompt": "a long film"}).json()["id"]
        until(lambda: Job.objects.filter(pk=job_id).exclude(upstream_id="").exists(), what="being taken up")
        for number in range(2):
            worker.kill_one(number)
        job = bureau.over(job_id, seconds=SETTLED_WITHIN_SECONDS)
    assert job.status == "completed"
    assert [record.method for record in bureau.openai.records].count("POST") == 1
    assert len(bureau.charges(job_id)) == 1
    verify_money()


def storm(server: LiveServer, bureau: Bureau, worker: JobWorker, *, jobs: int, kills: int, flushes: int) -> None:
    """Many jobs, while processes of the worker die and Redis forgets everything."""
    chance = random.Random(7)
    bureau.openai.script(Script(delay_seconds=0.05), times=None)
    with WebhookReceiver() as receiver, bureau.client(server) as client:
        endpoint, secret = bureau.webhook(receiver.url)
        ids = []
        disasters = ["kill"] * kills + ["flush"] * flushes
        chance.shuffle(disasters)
        every = max(1, jobs // (len(disasters) + 1))
        for number in range(jobs):
            body = {"model": bureau.chat, "messages": [{"role": "user", "content": f"job number {number}."}]}
            answer = client.post("/chat/completions", json={**body, "async": True})
            assert answer.status_code == 202, answer.text
            ids.append(answer.json()["id"])
            if number % every == every - 1 and disasters:
                strike(worker, disasters.pop(), chance)
        for disaster in disasters:
            strike(worker, disaster, chance)
        seconds = SETTLED_WITHIN_SECONDS + jobs / 5
        going_on = Job.objects.filter(pk__in=ids).exclude(status__in=FINAL)

        def all_over() -> bool:
            worker.revive()
            return not going_on.exists()

        until(all_over, seconds=seconds, what="every job's end")
        until(lambda: not Attempt.objects.filter(tenant=bureau.tenant, state="open").exists(), what="the ends")
        until(lambda: delivered(endpoint), seconds=seconds, what="every delivery")
        heard = {one.verified(secret, now=time.time())["data"]["id"]: one.id for one in receiver.received}
        WebhookEndpoint.objects.filter(pk=endpoint.pk).update(enabled=False)
    assert set(heard) == set(ids) and len(set(heard.values())) == len(ids)
    asked = Counter(str(record.body["messages"]) for record in bureau.openai.records)
    assert max(asked.values()) == 1, "a provider was asked twice"
    paid = Counter(UsageRecord.objects.filter(request_id__in=ids).values_list("request_id", flat=True))
    assert max(paid.values()) == 1
    became = Counter(Job.objects.filter(pk__in=ids).values_list("status", flat=True))
    assert set(became) <= {"completed", "failed"} and became["completed"] >= jobs - 60 * kills
    lost = Job.objects.filter(pk__in=ids, status="failed").values_list("error__code", flat=True)
    assert set(lost) <= {"worker_lost"}
    verify_money()


def delivered(endpoint: WebhookEndpoint) -> bool:
    """Whether everything is told; what was not taken at once is told again a minute later."""
    deliver_due(timezone.now() + dt.timedelta(minutes=1))
    return not Delivery.objects.filter(endpoint=endpoint, state="pending").exists()


def strike(worker: JobWorker, disaster: str, chance: random.Random) -> None:
    if disaster == "kill":

        def somebody() -> list[psutil.Process]:
            worker.revive()
            try:
                return worker.children()
            except psutil.NoSuchProcess:
                return []

        chance.choice(until(somebody, seconds=30, what="somebody to kill")).kill()
        return
    with redis.Redis.from_url(settings.REDIS_CONNECTION) as client:
        client.flushdb()


def test_a_small_storm(uvicorn: LiveServer, bureau: Bureau, worker: JobWorker, beat: None) -> None:
    storm(uvicorn, bureau, worker, jobs=30, kills=2, flushes=1)


@pytest.mark.chaos
def test_a_thousand_jobs(uvicorn: LiveServer, bureau: Bureau, worker: JobWorker, beat: None) -> None:
    """Five in a hundred lose a process."""
    storm(uvicorn, bureau, worker, jobs=1000, kills=50, flushes=2)
