"""What the tests of jobs share: a Celery worker for the queue of jobs, and a tenant with models at fakes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from django.core.management import call_command
from openai import OpenAI

from billing.models import Attempt, Budget, UsageRecord
from billing.money import NANO_PER_USD
from gateway.celery import app
from gateway.jobs.models import FINAL, Job
from providers.models import Model
from tenants.models import Tenant, WebhookEndpoint
from tenants.webhooks import create_endpoint
from tests import factories
from tests.engines import ROOT
from tests.fakes.google_server import FakeGoogle
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import wait_for_models
from tests.live import NO_SWEEPS, SETTINGS, LiveServer, until

ASK = [{"role": "user", "content": "What is a ledger?"}]
FILM = ("video_generation",)


class JobWorker:
    """A Celery worker that serves the queue of jobs, over the test run's own database and Redis."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.log = folder / "jobs.log"
        self._environment = {**os.environ, **SETTINGS, **NO_SWEEPS, **environment}
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [
            *(sys.executable, "-m", "celery", "--quiet", "--app", "gateway", "worker"),
            *("--queues", "jobs", "--loglevel", "WARNING", "--without-gossip", "--without-mingle"),
        ]
        concurrency = self._environment.get("JOB_WORKER_CONCURRENCY", "1")
        with self.log.open("ab") as output:
            return subprocess.Popen(
                [*command, "--concurrency", concurrency],
                cwd=ROOT,
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def children(self) -> list[psutil.Process]:
        """The processes that work."""
        return psutil.Process(self.process.pid).children()

    def kill_one(self, number: int = 0) -> None:
        """As if the machine had run out of memory; Celery starts another."""
        children = self.children()
        if children:
            children[number % len(children)].kill()

    def revive(self) -> None:
        """What a service manager does: Celery ends when its processes die while they start."""
        if self.process.poll() is not None:
            self.process = self._start()

    def stop(self) -> None:
        """End it; returns when it is gone."""
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            for child in self.children():
                child.kill()
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, committed: None) -> Iterator[JobWorker]:
    running = JobWorker(tmp_path_factory.mktemp("worker"))
    yield running
    running.stop()
    sys.stdout.write(running.log.read_text()[-5000:])  # shown where a test of this module has failed


class Bureau:
    """A tenant with models of both kinds: answered at once, and worked on by their provider."""

    def __init__(self, openai: FakeOpenAI, google: FakeGoogle) -> None:
        self.openai, self.google = openai, google
        self.tenant: Tenant = factories.make_tenant()
        self.key = factories.make_key(self.tenant)[1]
        self.names: list[str] = []
        self.budget = Budget.objects.create(tenant=self.tenant, limit_nano_usd=10_000 * NANO_PER_USD, hard=True)
        self.vendor = factories.make_provider(openai.base_url, secret=openai.api_key, kind="openai")
        self.veo = factories.make_provider(google.base_url, secret=google.api_key, kind="google")
        self.mock = factories.make_provider("mock://local", kind="mock")
        self.chat = self.add(self.vendor, input="1", output="8")
        self.closed = self.add(self.vendor, input="1", output="8")
        """For who has nobody to ask."""
        self.embed = self.add(self.vendor, ("embeddings",), input="1")
        self.image = self.add(self.vendor, ("image_generation", "image_edit"), images="40000")
        self.speech = self.add(self.vendor, ("speech",), characters="15")
        self.hearing = self.add(self.vendor, ("transcription",), seconds="100")
        self.film = self.add(self.vendor, FILM, seconds="100000")
        self.google_film = self.add(self.veo, FILM, seconds="50000")
        self.mock_chat = self.add(self.mock, input="1", output="1")
        self.mock_film = self.add(self.mock, FILM, seconds="100000")

    def add(self, provider: Any, capabilities: tuple[str, ...] = factories.CHAT, **prices: str) -> str:
        model: Model = factories.make_model(provider, capabilities=capabilities, prices=prices)
        factories.approve(self.tenant, model)
        self.names.append(model.name)
        return model.name

    def webhook(self, url: str) -> tuple[WebhookEndpoint, str]:
        """A webhook of the tenant's, and its secret."""
        endpoint = WebhookEndpoint(tenant=self.tenant, url=url, allow_private_network=True)
        return endpoint, create_endpoint(endpoint)

    def client(self, server: LiveServer, key: str = "") -> httpx.Client:
        """A plain client, once the server knows every model."""
        wait_for_models(server, self.key, *self.names)
        return server.client(key or self.key)

    def sdk(self, server: LiveServer) -> OpenAI:
        wait_for_models(server, self.key, *self.names)
        return OpenAI(base_url=server.base_url, api_key=self.key, max_retries=0)

    def charges(self, job_id: str) -> list[UsageRecord]:
        """What the ledger has of a job, once every attempt has ended."""
        until(lambda: not Attempt.objects.filter(tenant=self.tenant, state="open").exists(), what="the ends")
        return list(UsageRecord.objects.filter(tenant=self.tenant, request_id=job_id))

    def over(self, job_id: str, *, seconds: float = 20) -> Job:
        """A job of the tenant's, once it is over."""
        job: Job = until(
            lambda: Job.objects.filter(pk=job_id, status__in=FINAL).first(), seconds=seconds, what="the job's end"
        )
        return job


def verify_money() -> str:
    """The books, checked. Raises `SystemExit` where they do not add up."""
    said = StringIO()
    call_command("verify_money", stdout=said)
    return said.getvalue()


def hint() -> None:
    """What beat does every few seconds."""
    app.send_task("gateway.run_jobs", expires=5, ignore_result=True)


@pytest.fixture(scope="module")
def furnished(committed: None) -> Iterator[Bureau]:
    with FakeOpenAI() as openai, FakeGoogle() as google:
        yield Bureau(openai, google)


@pytest.fixture
def bureau(furnished: Bureau, worker: JobWorker) -> Bureau:
    furnished.openai.reset()
    furnished.google.reset()
    return furnished
