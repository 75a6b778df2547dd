"""Health, readiness, metrics, the log, and stopping a server without losing a charge."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx

from billing.models import Attempt
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
            return httpx.get(f"{self.origin}/health", trust_env=False).status_code == 200
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
