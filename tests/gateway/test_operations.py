"""Health, readiness, metrics, the log, and stopping a server without losing a charge."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import orjson
import psycopg

from billing.models import Attempt
from tests import engines
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform
from tests.live import LiveServer, until

ASK = {"model": "fake-chat", "messages": [{"role": "user", "content": "a secret question"}]}


def test_health_and_ready(server: LiveServer) -> None:
    for path in ("/health", "/ready"):
        answer = httpx.get(server.origin + path, trust_env=False)
        assert answer.status_code == 200
        assert answer.json()["backends"] == {"postgres": "ok", "redis": "ok"}


def test_not_ready_without_redis(tmp_path: Path, platform: Platform) -> None:
    answer_to: dict[str, int] = {}
    server = _start_without_redis(tmp_path)
    try:
        for path in ("/health", "/ready"):
            answer_to[path] = httpx.get(server.origin + path, trust_env=False).status_code
        with server.client(platform.key) as client:
            assert client.get("/models").status_code == 200, "no call depends on it"
    finally:
        server.stop()
    assert answer_to == {"/health": 200, "/ready": 503}


class _HealthyIsEnough(LiveServer):
    def _ready(self) -> bool:
        try:
            return self.get("/health").status_code == 200
        except httpx.TransportError:
            return False


def _start_without_redis(folder: Path) -> LiveServer:
    return _HealthyIsEnough("uvicorn", folder, REDIS_URL=f"unix://{folder}/nobody-listens.sock?db=0")


def test_metrics_of_every_process(tmp_path: Path, platform: Platform, upstream: FakeOpenAI) -> None:
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    environment = {
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        "METRICS_TOKEN": "an-operators-token",
        "TRUSTED_PROXIES": "127.0.0.1",
    }
    servers = [LiveServer("uvicorn", tmp_path, **environment) for _ in range(2)]
    try:
        for server in servers:
            platform.known_to(server, "fake-chat")
            with server.client(platform.key) as client:
                assert client.post("/chat/completions", json=ASK).status_code == 200
                client.post("/chat/completions", json={**ASK, "model": "nope"})
        url = servers[0].origin + "/metrics"
        here = httpx.get(url, trust_env=False)
        outside = {"x-forwarded-for": "203.0.113.9"}
        stranger = httpx.get(url, headers=outside, trust_env=False)
        operator = httpx.get(url, headers={**outside, "authorization": "Bearer an-operators-token"}, trust_env=False)
    finally:
        for server in servers:
            server.stop()
    assert stranger.status_code == 401
    assert operator.status_code == here.status_code == 200
    ok = 'llm_requests_total{model="fake-chat",operation="chat",provider="fake",status="200"} 2.0'
    assert ok in here.text
    assert 'llm_requests_total{model="",operation="chat",provider="",status="404"} 2.0' in here.text
    assert "llm_request_duration_seconds_bucket" in here.text
    assert platform.tenant.name not in here.text and platform.key not in here.text


def test_one_line_for_each_call_and_nothing_secret(
    server: LiveServer, platform: Platform, upstream: FakeOpenAI
) -> None:
    platform.known_to(server, "fake-chat")
    upstream.script(Script(text="a secret answer"))
    with server.client(platform.key) as client:
        answer = client.post("/chat/completions", json=ASK, headers={"x-request-id": f"logged-{server.server}"})
    lines = until(
        lambda: [line for line in server.call_lines() if line["request_id"] == f"logged-{server.server}"],
        what="the line",
    )
    (line,) = lines
    assert line["tenant"] == platform.tenant.name and line["operation"] == "chat" and line["status"] == 200
    assert line["input_tokens"] == answer.json()["usage"]["prompt_tokens"]
    assert line["latency_ms"] >= 0 and line["cost_usd"] == answer.headers["x-gateway-cost-usd"]
    text = server.log.read_text()
    for secret in (platform.key, upstream.api_key, "a secret question", "a secret answer"):
        assert secret not in text


def test_stopping_a_server_loses_no_charge(tmp_path: Path, platform: Platform, upstream: FakeOpenAI) -> None:
    server = LiveServer("uvicorn", tmp_path)
    platform.known_to(server, "fake-chat")
    with server.client(platform.key) as client:
        ids = [client.post("/chat/completions", json=ASK).headers["x-request-id"] for _ in range(50)]
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=20) in (0, -signal.SIGTERM)
    states = set(Attempt.objects.filter(request_id__in=ids).values_list("state", flat=True))
    assert states == {"settled"} and len(platform.usage(request_id__in=ids)) == 50


def test_the_admin_stands_beside_the_data_plane(server: LiveServer) -> None:
    answer = httpx.get(f"{server.origin}/admin/login/", trust_env=False)
    assert answer.status_code == 200 and "csrfmiddlewaretoken" in answer.text


def test_a_database_that_goes_away_and_comes_back(tmp_path: Path, committed: None) -> None:
    """Under a hard budget nothing is spent without the books, and nobody has to restart anything."""
    name = f"away_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    database = engines.create_database(name)
    document = {
        "providers": [{"name": "mock", "kind": "mock", "base_url": "mock://local"}],
        "models": [
            {
                "name": "m",
                "capabilities": ["chat"],
                "prices": {"input": "1"},
                "deployments": [{"provider": "mock", "upstream_model": "m"}],
            }
        ],
        "tenants": [
            {
                "name": "t",
                "approved": ["m"],
                "budgets": [{"scope": "tenant", "period": "month", "limit_usd": "1", "hard": True}],
                "keys": [{"name": "warm"}, {"name": "cold"}],
            }
        ],
    }
    applied = subprocess.run(
        [sys.executable, "manage.py", "apply", "-", "--json"],
        input=orjson.dumps(document),
        cwd=engines.ROOT,
        env={**os.environ, "DATABASE_URL": database, "DJANGO_SETTINGS_MODULE": "gateway.settings"},
        capture_output=True,
        check=True,
    )
    keys = {key["name"]: key["key"] for key in orjson.loads(applied.stdout)["keys"]}
    ask = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    server = LiveServer("uvicorn", tmp_path, DATABASE_URL=database)
    try:
        with server.client(keys["warm"]) as warm, server.client(keys["cold"]) as cold:
            assert warm.post("/chat/completions", json=ask).status_code == 200
            with psycopg.connect(engines.database_url("postgres"), autocommit=True) as administrator:
                administrator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
                administrator.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
                )
                refused = [client.post("/chat/completions", json=ask) for client in (warm, cold)]
                health = server.get("/health")
                ready = server.get("/ready")
                administrator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            for answer in refused:
                assert answer.status_code == 503 and answer.json()["error"]["code"] == "overloaded"
                assert answer.headers["retry-after"] == "1"
            assert health.status_code == 200 and ready.status_code == 503
            for client in (warm, cold):
                until(lambda client=client: client.post("/chat/completions", json=ask).status_code == 200, what="calls")
    finally:
        server.stop()


def test_a_database_that_hangs_holds_up_neither_health_nor_ready(tmp_path: Path, committed: None) -> None:
    """It is the database that is away: whoever restarts processes that do not answer must leave this one alone."""
    database = engines.create_database(f"hangs_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}")
    server = LiveServer("uvicorn", tmp_path, DATABASE_URL=database)
    try:
        with psycopg.connect(database) as holder:
            holder.execute("LOCK tenants_configrevision, providers_provider IN ACCESS EXCLUSIVE MODE")
            health = httpx.get(f"{server.origin}/health", trust_env=False, timeout=10)
            ready = httpx.get(f"{server.origin}/ready", trust_env=False, timeout=10)
        assert (health.status_code, ready.status_code) == (200, 503)
        assert health.json()["backends"] == {"postgres": "unavailable", "redis": "ok"}
        assert health.json()["providers"] is None
        until(server.answers, what="being ready again")
    finally:
        server.stop()
