"""The CLI backend over HTTP: a pool of real processes that speak lines of JSON, behind every provider's pipeline."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from billing.models import Attempt, Budget, UsageRecord, UsageSource
from billing.money import NANO_PER_USD
from providers.models import Deployment, Model, Provider
from tenants.models import Tenant
from tests import factories
from tests.fakes.cli import COMMAND, cli_environment
from tests.gateway.conftest import wait_for_models
from tests.gateway.money import PER_CALL, books_balance
from tests.live import LiveServer, until

SECRET = "a-secret-of-the-program"
TOKEN = "an-operators-token"


@dataclass
class Shop:
    """A tenant with a model of the CLI, and a server with a pool of one and one overflow."""

    server: LiveServer
    tenant: Tenant
    key: str
    model: Model

    def post(self, text: str, **more: Any) -> httpx.Response:
        body = {"model": self.model.name, "messages": [{"role": "user", "content": text}], **more}
        with self.server.client(self.key) as client:
            return client.post("/chat/completions", json=body)

    def say(self, text: str, **more: Any) -> str:
        answer = self.post(text, **more)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["message"]["content"])

    def later(self, text: str, answers: list[httpx.Response]) -> threading.Thread:
        thread = threading.Thread(target=lambda: answers.append(self.post(text)))
        thread.start()
        return thread

    def sessions(self, **headers: str) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(f"{self.server.origin}/sessions", trust_env=False, headers=headers).json()
        return answer

    def rests(self) -> dict[str, Any]:
        """The pool's one session, once all is quiet."""

        def quiet() -> Any:
            found = self.sessions()
            return found["data"] if [session["state"] for session in found["data"]] == ["idle"] else None

        (session,) = until(quiet, what="a quiet pool")
        return dict(session)

    def charge(self, answer: httpx.Response) -> UsageRecord:
        record: UsageRecord = until(
            lambda: UsageRecord.objects.filter(request_id=answer.headers["x-request-id"]).first(), what="the charge"
        )
        return record


@pytest.fixture(scope="module", params=["uvicorn", "daphne"])
def shop(request: pytest.FixtureRequest, committed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    tenant = factories.make_tenant()
    model = factories.make_model(
        factories.make_provider("cli://pool", kind="cli"), capabilities=("chat", "stream"), prices=PER_CALL
    )
    factories.approve(tenant, model)
    settings = {
        "LLM_POOL_OVERFLOW": "1",
        "LLM_REQUEST_TIMEOUT": "3",
        "LLM_CLI_ENVIRONMENT": "CLI_SECRET",
        "CLI_SECRET": SECRET,
        "METRICS_TOKEN": TOKEN,
        "TRUSTED_PROXIES": "127.0.0.1",
    }
    environment = cli_environment("--slow", "0.3", **settings)
    server = LiveServer(request.param, tmp_path_factory.mktemp("cli"), **environment)
    try:
        found = Shop(server, tenant, factories.make_key(tenant)[1], model)
        wait_for_models(server, found.key, model.name)
        yield found
        pids = [session["pid"] for session in found.sessions()["data"]]
        assert pids and all(map(psutil.pid_exists, pids))
    finally:
        server.stop()
    books_balance()
    until(lambda: all(map(is_gone, pids)), what="the end of the server's sessions")


one_server = pytest.mark.parametrize("shop", ["uvicorn"], indirect=True, scope="module")
"""For what the web server has no part in."""


def is_gone(pid: int) -> bool:
    """Ended and reaped: a zombie still exists."""
    return not psutil.pid_exists(pid)


def test_warm_answers_come_from_one_process(shop: Shop) -> None:
    before = shop.rests()
    answer = shop.post("hello there")
    assert answer.json()["choices"][0] == {
        "index": 0,
        "message": {"role": "assistant", "content": "You said: hello there", "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert answer.json()["usage"]["total_tokens"] == 2 + 4
    assert shop.charge(answer).usage_source == UsageSource.PROVIDER_FINAL
    assert shop.charge(answer).cost_nano_usd == NANO_PER_USD // 1000
    cut = shop.post("one two three", max_tokens=3).json()["choices"][0]
    assert (cut["message"]["content"], cut["finish_reason"]) == ("You said: one", "length")
    after = shop.rests()
    assert (after["pid"], after["requests"], after["restarts"]) == (
        before["pid"],
        before["requests"] + 2,
        before["restarts"],
    )
    assert after["age_seconds"] >= before["age_seconds"]


def test_a_stream_comes_piece_by_piece(shop: Shop) -> None:
    answer = shop.post("a b c", stream=True, stream_options={"include_usage": True})
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert answer.text.endswith("data: [DONE]\n\n")
    said = [event["choices"][0]["delta"].get("content") for event in events if event["choices"]]
    assert [text for text in said if text] == ["You", " said:", " a", " b", " c"]
    assert events[-1]["usage"]["completion_tokens"] == 5
    assert shop.charge(answer).stream


@one_server
def test_every_request_carries_the_whole_conversation(shop: Shop) -> None:
    messages = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "line\nbreak"}]},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "request"},
    ]
    heard = json.loads(shop.say("", messages=messages, temperature=0.5, stop="END", max_completion_tokens=50))
    assert heard.pop("id")
    assert heard == {
        "type": "request",
        "model": shop.model.name,
        "stream": False,
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "line\nbreak"},
            {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": "request"},
        ],
        "max_tokens": 50,
        "stop": ["END"],
        "temperature": 0.5,
    }


@one_server
def test_what_it_does_not_count_is_counted(shop: Shop) -> None:
    answer = shop.post("uncounted")
    assert shop.charge(answer).usage_source == UsageSource.LOCAL_COUNT
    assert shop.charge(answer).output_tokens > 0


def test_a_killed_session_is_started_again(shop: Shop) -> None:
    before = shop.rests()
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: is_gone(before["pid"]), what="the end of the old process")
    after = shop.rests()
    assert (after["id"], after["restarts"]) == (before["id"], before["restarts"] + 1)
    assert after["pid"] != before["pid"]
    assert shop.say("still there?") == "You said: still there?"
    assert shop.rests()["pid"] == after["pid"]


def test_a_busy_pool_overflows_and_then_queues(shop: Shop, tmp_path: Path) -> None:
    warm = shop.rests()
    gate = tmp_path / "gate"
    answers: list[httpx.Response] = []
    threads = [shop.later(f"wait for {gate}", answers)]
    until(lambda: shop.sessions()["pool"]["busy"] == 1, what="a busy session")
    threads.append(shop.later(f"wait for {gate}", answers))
    until(lambda: shop.sessions()["pool"]["busy"] == 2, what="a busy overflow")
    threads.append(shop.later("third", answers))
    until(lambda: shop.sessions()["pool"]["waiting"] == 1, what="a queue")
    found = shop.sessions()
    gate.touch()
    for thread in threads:
        thread.join()
    assert found["pool"] | {"size": 1, "overflow_limit": 1, "busy": 2, "overflow": 1, "waiting": 1} == found["pool"]
    assert [(session["kind"], session["state"]) for session in found["data"]] == [
        ("pool", "busy"),
        ("overflow", "busy"),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert shop.rests()["pid"] == warm["pid"], "the warm session stays, the overflow goes"
    until(lambda: is_gone(found["data"][1]["pid"]), what="the end of the overflow")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_hang_is_cut_by_the_timeout(shop: Shop, stream: bool) -> None:
    before = shop.rests()
    answer = shop.post("silence", stream=stream)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "provider_timeout")
    assert "total deadline of 3 s" in answer.json()["error"]["message"]
    until(lambda: is_gone(before["pid"]), what="the end of the hanging process")
    assert shop.say("again") == "You said: again"


@one_server
def test_a_stream_that_stops_half_way_ends_with_an_error(shop: Shop) -> None:
    before = shop.rests()
    answer = shop.post("hang", stream=True)
    assert answer.status_code == 200 and '"I "' in answer.text
    assert "total deadline of 3 s" in answer.text and "[DONE]" not in answer.text
    until(lambda: is_gone(before["pid"]), what="the end of the hanging process")
    assert shop.charge(answer).ending == "failed"


def test_what_a_session_started_ends_with_it_when_the_client_leaves(shop: Shop) -> None:
    before = shop.rests()
    body = {"model": shop.model.name, "messages": [{"role": "user", "content": "child"}], "stream": True}
    with shop.server.client(shop.key) as client, client.stream("POST", "/chat/completions", json=body) as answer:
        heard = ""
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                heard = json.loads(line[6:])["choices"][0]["delta"]["content"]
            if heard:
                break
    # In a container nobody may reap what has lost its parent: a zombie there runs no more.
    child = int(heard)
    until(lambda: is_gone(child) or psutil.Process(child).status() == "zombie", what="the end of the child")
    until(lambda: is_gone(before["pid"]), what="the end of the session")
    assert shop.charge(answer).ending == "client_left"
    assert shop.rests()["restarts"] == before["restarts"] + 1


@one_server
@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("refuse", 400, "validation_error"),
        ("break", 502, "provider_error"),
        ("noise", 502, "provider_error"),
        ("die", 502, "provider_error"),
        ("die later", 502, "provider_error"),
    ],
)
def test_how_a_program_fails_is_told(shop: Shop, text: str, status: int, code: str) -> None:
    shop.rests()
    answer = shop.post(text)
    assert answer.status_code in (status, 503 if status == 502 else status)
    assert answer.json()["error"]["code"] in (code, "provider_unavailable" if status == 502 else code)
    ended = until(
        lambda: Attempt.objects.filter(request_id=answer.headers["x-request-id"]).exclude(state="open").first(),
        what="its end",
    )
    assert ended.state == "voided"
    assert shop.say("and now?") == "You said: and now?"


@one_server
def test_budgets_hold_for_it(shop: Shop) -> None:
    tenant = factories.make_tenant()
    factories.approve(tenant, shop.model)
    Budget.objects.create(tenant=tenant, limit_nano_usd=NANO_PER_USD // 1000, period="total")
    poor = Shop(shop.server, tenant, factories.make_key(tenant)[1], shop.model)
    wait_for_models(shop.server, poor.key, shop.model.name)
    first, second = poor.post("one"), poor.post("two")
    assert (first.status_code, second.status_code) == (200, 402)
    assert poor.charge(first).cost_nano_usd == NANO_PER_USD // 1000
    books_balance()


def test_the_program_gets_nothing_of_the_platform(shop: Shop) -> None:
    environment = json.loads(shop.say("env"))
    assert environment["CLI_SECRET"] == SECRET
    allowed = {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "CLI_SECRET", "LC_CTYPE", "PWD"}
    assert set(environment) <= allowed, "LC_CTYPE is Python's own doing"


@one_server
def test_its_log_tells_of_the_start_and_neither_secrets_nor_calls(shop: Shop) -> None:
    shop.say("a very private question")
    log = shop.server.log.read_text()
    assert "starting with key [redacted] [redacted]" in log
    assert SECRET not in log and "sk-abcdefgh" not in log and "private question" not in log
    assert '"cli.session_started"' in log


@one_server
def test_who_may_see_the_sessions(shop: Shop) -> None:
    url, outside = f"{shop.server.origin}/sessions", {"x-forwarded-for": "203.0.113.9"}
    assert httpx.get(url, headers=outside, trust_env=False).status_code == 401
    tenants_key = {**outside, "authorization": f"Bearer {shop.key}"}
    assert httpx.get(url, headers=tenants_key, trust_env=False).status_code == 401
    found = shop.sessions(**outside, authorization=f"Bearer {TOKEN}")
    assert found["process"] == shop.server.process.pid
    shop.rests()
    health = shop.server.get("/health").json()
    assert health["sessions"] == {
        "starting": 0, "idle": 1, "checking": 0, "busy": 0, "dead": 0, "overflow": 0, "waiting": 0,
    }  # fmt: skip
    metrics = shop.server.get("/metrics").text
    assert 'llm_sessions_total{status="idle"} 1.0' in metrics and "llm_sessions_waiting 0.0" in metrics


@one_server
def test_a_command_in_a_row_is_never_executed(shop: Shop, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    command = f"touch {marker}"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\n{command}\n")
    script.chmod(0o755)
    rows = [
        Provider.objects.create(name=factories.unique(command), kind="cli", base_url=base_url)
        for base_url in (command, str(script), f"cli://{script}", f"cli:{command}", f"file://{script}")
    ]
    injected = f"$({script}) | {script}"
    for provider in rows:
        model = factories.make_model(provider, capabilities=("chat", "stream"))
        Deployment.objects.filter(model=model).update(upstream_model=injected)
        factories.approve(shop.tenant, model)
        asker = Shop(shop.server, shop.tenant, shop.key, model)
        wait_for_models(shop.server, shop.key, model.name)
        said = json.loads(asker.say("argv"))
        assert said == [COMMAND[1], "--slow", "0.3", injected]
    other = Provider.objects.create(name=factories.unique("other"), kind="openai_compatible", base_url=f"cli:{script}")
    model = factories.make_model(other)
    factories.approve(shop.tenant, model)
    wait_for_models(shop.server, shop.key, model.name)
    assert Shop(shop.server, shop.tenant, shop.key, model).post("hello").status_code >= 500
    assert not marker.exists()


@one_server
def test_a_server_that_is_killed_takes_even_deaf_sessions_with_it(shop: Shop, tmp_path: Path) -> None:
    server = LiveServer("uvicorn", tmp_path, **cli_environment("--slow", "3600"))
    try:
        doomed = Shop(server, shop.tenant, shop.key, shop.model)
        pid = until(lambda: doomed.sessions()["data"][0]["pid"], what="its process")
        assert doomed.sessions()["data"][0]["state"] == "starting" and psutil.pid_exists(pid)
    finally:
        server.process.kill()
        server.process.wait()
    until(lambda: is_gone(pid) or psutil.Process(pid).status() == "zombie", what="the end of the session")


@one_server
def test_without_a_command_there_is_no_process(shop: Shop, tmp_path: Path) -> None:
    server = LiveServer("uvicorn", tmp_path, LLM_BACKEND="cli")
    try:
        other = Shop(server, shop.tenant, shop.key, shop.model)
        wait_for_models(server, shop.key, shop.model.name)
        answer = other.post("hello")
        assert other.sessions() == {"object": "list", "process": server.process.pid, "pool": None, "data": []}
        assert psutil.Process(server.process.pid).children() == []
    finally:
        server.stop()
    assert answer.status_code in (502, 503) and "LLM_CLI_COMMAND" in answer.text
