"""What the data plane's tests share: live servers, a fake provider behind them, and a tenant that may use it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings

from billing.models import Attempt, GatewayProcess, UsageRecord
from gateway.health.board import KEY, SCRIPT
from providers.models import Model
from tenants.models import Tenant
from tests import engines, factories
from tests.fakes.cli import cli_environment
from tests.fakes.openai_server import FakeOpenAI
from tests.live import LiveServer, until


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, _engines: None) -> Iterator[_Servers]:
    """The live servers of this worker, started when first asked for."""
    running = _Servers(tmp_path_factory.mktemp("servers"))
    yield running
    for server in running.values():
        server.stop()


class _Servers(dict[str, LiveServer]):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._processes: dict[int, GatewayProcess] = {}

    def __missing__(self, name: str) -> LiveServer:
        self[name] = LiveServer(name, self._folder, **cli_environment())
        return self[name]

    def note_processes(self) -> None:
        """Remember what the books know of them."""
        pids = [server.process.pid for server in self.values()]
        self._processes |= {process.pid: process for process in GatewayProcess.objects.filter(pid__in=pids)}

    def sign_on_again(self) -> None:
        """Put them back into the books that were emptied: a process that is not there is dead, and what it has under
        way may be ended for it, or done again."""
        GatewayProcess.objects.bulk_create(self._processes.values(), ignore_conflicts=True)


@pytest.fixture(params=["uvicorn", "daphne"])
def server(request: pytest.FixtureRequest, servers: dict[str, LiveServer]) -> LiveServer:
    """Both servers in turn."""
    return servers[request.param]


@pytest.fixture
def uvicorn(servers: dict[str, LiveServer]) -> LiveServer:
    """For what does not depend on the server."""
    return servers["uvicorn"]


@pytest.fixture(scope="module")
def committed(servers: _Servers, django_db_blocker: Any) -> Iterator[None]:
    """Rows that other processes see, gone when the module is done."""
    with django_db_blocker.unblock():
        servers.sign_on_again()
        yield
        servers.note_processes()
        engines.empty_database()


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


@dataclass
class Platform:
    """A seeded registry: chat and embeddings models at the fake provider and at the mock."""

    tenant: Tenant
    key: str
    chat: Model
    embed: Model
    mock_chat: Model
    mock_embed: Model
    newest: str
    """The model made last: a server that lists it has seen everything of this module and nothing older."""
    _known_at: set[str] = field(default_factory=set)

    def known_to(self, server: LiveServer, *names: str) -> None:
        """Wait until a server knows this registry and these models."""
        wait_for_models(server, self.key, self.newest, *names)
        self._known_at.add(server.origin)

    def known_to_all(self, running: Iterable[LiveServer]) -> None:
        """Wait until each of these servers knows this registry; asked once of each."""
        for server in running:
            if server.origin not in self._known_at:
                self.known_to(server)

    def usage(self, **filters: Any) -> list[UsageRecord]:
        return list(UsageRecord.objects.filter(tenant=self.tenant, **filters).order_by("attempt_id"))

    def settled(self, request_id: str) -> UsageRecord:
        """The charge of a request, once it is written: the answer does not wait for it."""
        record: UsageRecord = until(
            lambda: UsageRecord.objects.filter(tenant=self.tenant, request_id=request_id).first(), what="the charge"
        )
        return record

    def ended(self, request_id: str) -> Attempt:
        """The attempt of a request, once it has ended."""
        attempt: Attempt = until(
            lambda: Attempt.objects.filter(request_id=request_id).exclude(state="open").first(), what="the end"
        )
        return attempt


@pytest.fixture(scope="module")
def seeded(committed: None, upstream: FakeOpenAI) -> Platform:
    tenant = factories.make_tenant()
    provider = factories.make_provider(upstream.base_url, secret=upstream.api_key, name="fake")
    mock = factories.make_provider("mock://local", kind="mock", name="mock")
    platform = Platform(
        tenant=tenant,
        key=factories.make_key(tenant)[1],
        chat=factories.make_model(provider, name="fake-chat", upstream_model="gpt-5.2"),
        embed=factories.make_model(
            provider, name="fake-embed", capabilities=("embeddings",), upstream_model="text-embedding-3-small"
        ),
        mock_chat=factories.make_model(mock, name="mock-chat"),
        mock_embed=factories.make_model(mock, name="mock-embed", capabilities=("embeddings",)),
        newest=factories.unique("newest"),
    )
    newest = factories.make_model(mock, name=platform.newest)
    factories.approve(tenant, platform.chat, platform.embed, platform.mock_chat, platform.mock_embed, newest)
    return platform


@pytest.fixture
def platform(seeded: Platform, upstream: FakeOpenAI) -> Platform:
    """The seeded registry, with a fake provider that has forgotten how earlier tests went."""
    upstream.reset()
    return seeded


@pytest.fixture(autouse=True)
def _known_registry(request: pytest.FixtureRequest) -> None:
    """The servers of this worker know the rows of the module, whichever of its tests comes first here.

    One that is started later loads them as it starts.
    """
    if {"servers", "seeded"} <= set(request.fixturenames):
        seeded: Platform = request.getfixturevalue("seeded")
        seeded.known_to_all(request.getfixturevalue("servers").values())


@pytest.fixture(autouse=True)
def _forgotten_health(request: pytest.FixtureRequest) -> None:
    """No deployment is distrusted for what earlier tests had it do."""
    if not {"servers", "committed"}.isdisjoint(request.fixturenames):
        forget_health(*request.getfixturevalue("servers").values())


def forget_health(*running: LiveServer) -> None:
    """Have these servers trust every deployment and credential again. They all know once they know of a mark."""
    with redis.Redis.from_url(settings.REDIS_CONNECTION) as client:
        fields = [field.decode() for field in client.hkeys(KEY)]
        if not fields:
            return
        deployments = {field[2:] for field in fields if not field.startswith("k:")}
        client.eval(SCRIPT, 1, KEY, "trust", *deployments)
        for field in fields:
            if field.startswith("k:"):
                client.eval(SCRIPT, 1, KEY, "allow", field[2:])
        mark = time.time_ns() // 1_000_000  # Lua counts up to 2^53
        client.eval(SCRIPT, 1, KEY, "trip", mark, 60_000, 60_000, 1)
        for server in running:
            shown = f'llm_breaker_state{{deployment="{mark}"}} 1.0'
            until(lambda shown=shown, server=server: shown in server.get("/metrics").text, what=shown)
        client.delete(KEY)


def wait_for_models(server: LiveServer, key: str, *names: str) -> None:
    """Wait until a server knows these models; it may take as long as any change of configuration."""
    with server.client(key) as client:
        until(
            lambda: set(names) <= {entry["id"] for entry in client.get("/models").json().get("data", [])},
            what=f"{names} in the model list",
        )
