"""What /health says of providers and to whom, and a provider that is added while calls are answered."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import redis
from django.conf import settings

from providers.breakers import KEY
from providers.health_checks import check_providers
from providers.models import Deployment, ProviderHealth
from tests import engines
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform
from tests.live import CHANGES_SEEN_SECONDS, LiveServer, until

TOKEN = "an-operators-token"
OUTSIDE = {"x-forwarded-for": "203.0.113.9"}
ASK = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def behind_a_proxy(tmp_path: Path, platform: Platform) -> Iterator[LiveServer]:
    server = LiveServer("uvicorn", tmp_path, METRICS_TOKEN=TOKEN, TRUSTED_PROXIES="127.0.0.1")
    yield server
    server.stop()


def test_names_are_for_operators_and_counts_for_anybody(
    behind_a_proxy: LiveServer, platform: Platform, upstream: FakeOpenAI
) -> None:
    upstream.script(Script(status=500, error={"message": "an inner secret"}), path="/v1/models")
    check_providers()
    deployment = Deployment.objects.get(model=platform.chat)
    with redis.Redis.from_url(settings.REDIS_CONNECTION) as board:
        board.hset(KEY, f"b:{deployment.pk}", f"1 {int((time.time() + 60) * 1000)} 0 1 0 0 0")

    def ask(**headers: str) -> Any:
        answer = httpx.get(f"{behind_a_proxy.origin}/health", headers=headers, trust_env=False)
        assert answer.status_code == 200
        return answer.json()

    counted = {"ok": 1, "failing": 1, "unknown": 0}
    until(lambda: ask(**OUTSIDE)["providers"] == counted, what="the probe being seen")
    for stranger in (OUTSIDE, {**OUTSIDE, "authorization": "Bearer guess"}, {**OUTSIDE, "x-api-key": platform.key}):
        found = ask(**stranger)
        assert set(found) == {"status", "backends", "sessions", "providers"} and found["providers"] == counted
    for operator in ({**OUTSIDE, "authorization": f"Bearer {TOKEN}"}, {}):
        fake, mock = ask(**operator)["provider_status"]
        assert (fake["name"], fake["status"], fake["last_error"]) == ("fake", "failing", "HTTP 500: an inner secret")
        assert fake["latency_ms"] >= 0 and fake["checked_at"]
        breakers = {row["model"]: row["breaker"] for row in fake["deployments"]}
        assert breakers["fake-chat"].startswith("open for ") and breakers["fake-embed"] == "closed"
        assert (mock["name"], mock["status"], mock["last_error"]) == ("mock", "ok", "")
    ProviderHealth.objects.all().delete()


class Traffic:
    """One client that keeps asking a model, and what it was answered."""

    def __init__(self, server: LiveServer, key: str, model: str) -> None:
        self.answers: list[int] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_asking, args=(server, key, model))

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _keep_asking(self, server: LiveServer, key: str, model: str) -> None:
        with server.client(key) as client:
            while not self._ended.is_set():
                self.answers.append(client.post("/chat/completions", json={**ASK, "model": model}).status_code)


def test_a_provider_added_under_traffic_serves_within_two_seconds(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI
) -> None:
    """By `manage.py apply`, in a process of its own; the server is not restarted and no call under way suffers."""
    platform.known_to(uvicorn, "fake-chat")
    with FakeOpenAI(api_key="sk-of-the-newcomer") as newcomer:
        document = {
            "providers": [{
                "name": "newcomer", "kind": "openai_compatible", "base_url": newcomer.base_url,
                "allow_private_network": True, "api_key_env": "NEWCOMER_API_KEY",
            }],
            "models": [{
                "name": "newcomer-chat", "capabilities": ["chat", "stream"], "prices": {"input": "1"},
                "deployments": [{"provider": "newcomer", "upstream_model": "gpt-4o-mini"}],
            }],
            "tenants": [{"name": platform.tenant.name, "approved": ["newcomer-chat"]}],
        }  # fmt: skip
        ask = {**ASK, "model": "newcomer-chat"}
        with Traffic(uvicorn, platform.key, "fake-chat") as traffic, uvicorn.client(platform.key) as client:
            assert client.post("/chat/completions", json=ask).status_code == 404
            _apply(document, NEWCOMER_API_KEY=newcomer.api_key)
            until(
                lambda: client.post("/chat/completions", json=ask).status_code == 200,
                seconds=CHANGES_SEEN_SECONDS,
                what="an answer of the new provider",
            )
            with client.stream("POST", "/chat/completions", json={**ask, "stream": True}) as stream:
                assert stream.read().endswith(b"data: [DONE]\n\n")
        assert len(newcomer.records) == 2
    assert len(traffic.answers) > 1 and set(traffic.answers) == {200}


def _apply(document: dict[str, Any], **environment: str) -> None:
    subprocess.run(
        [sys.executable, "manage.py", "apply", "-"],
        input=orjson.dumps(document),
        cwd=engines.ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "gateway.settings", **environment},
        capture_output=True,
        check=True,
    )
