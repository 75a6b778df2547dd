"""SIGTERM: a process that ends loses no whole answer, and ends streams by an error event at the latest."""

from __future__ import annotations

import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.forked import ForkedServer, Forkery
from tests.gateway.conftest import Platform
from tests.gateway.money import books_balance
from tests.gateway.resilience.conftest import HELLO
from tests.live import until

BODY = {"model": "fake-chat", "messages": HELLO}


def some_more(statuses: list[int]) -> None:
    enough = len(statuses) + 40
    until(lambda: len(statuses) >= enough, seconds=30, what="some answers")


def test_rolling_over_two_processes_under_load(platform: Platform, upstream: FakeOpenAI, tmp_path: Path) -> None:
    """A client with connections that it keeps, and that asks the other process where one takes no connection."""
    upstream.script(Script(delay_seconds=0.1), times=None)
    statuses: list[int] = []
    over = threading.Event()
    with Forkery(tmp_path) as forkery:
        two = [forkery.serve(shutdown_notice_seconds=1, shutdown_seconds=5) for _ in range(2)]
        for server in two:
            server.wait_until_ready()
            platform.known_to(server, "fake-chat")

        def load(number: int) -> None:
            clients: dict[ForkedServer, httpx.Client] = {}
            while not over.is_set():
                for server in two[number % 2 :] + two[: number % 2]:
                    client = clients.get(server) or clients.setdefault(server, server.client(platform.key))
                    try:
                        statuses.append(client.post("/chat/completions", json=BODY).status_code)
                    except httpx.ConnectError:
                        continue  # nothing was sent: any load balancer tries the next
                    break
            for client in clients.values():
                client.close()

        with ThreadPoolExecutor(8) as pool:
            loads = [pool.submit(load, number) for number in range(8)]
            for index in range(2):
                some_more(statuses)
                new = forkery.serve(shutdown_notice_seconds=1, shutdown_seconds=5)
                new.wait_until_ready()
                platform.known_to(new, "fake-chat")
                old, two[index] = two[index], new
                os.kill(old.pid, signal.SIGTERM)
                until(lambda old=old: not old.answers(), what="503 at /ready, or nobody there")
                old.wait_until_dead()
            some_more(statuses)
            over.set()
            for running in loads:
                running.result()
    assert set(statuses) == {200}
    books_balance()


def test_a_stream_that_takes_too_long_gets_an_error_event(
    platform: Platform, upstream: FakeOpenAI, tmp_path: Path
) -> None:
    upstream.script(Script(pieces=("word ",) * 1000, chunk_pause_seconds=0.05), times=None)
    with Forkery(tmp_path) as forkery:
        server: ForkedServer = forkery.serve(shutdown_notice_seconds=1, shutdown_seconds=1)
        server.wait_until_ready()
        platform.known_to(server, "fake-chat")
        with (
            server.client(platform.key) as client,
            client.stream("POST", "/chat/completions", json={**BODY, "stream": True}) as answer,
        ):
            lines = answer.iter_lines()
            next(lines)
            os.kill(server.pid, signal.SIGTERM)
            until(lambda: httpx.get(f"{server.origin}/ready").json()["status"] == "stopping", what="the notice")
            last = [line for line in lines if line][-1]
        server.wait_until_dead()
    error = json.loads(last.removeprefix("data: "))["error"]
    assert (error["code"], error["finish_reason"]) == ("overloaded", "error")
    charge = platform.settled(answer.headers["x-request-id"])
    assert charge.ending == "failed" and charge.cost_nano_usd > 0
    books_balance()


def test_more_than_a_process_can_serve(platform: Platform, upstream: FakeOpenAI, tmp_path: Path) -> None:
    upstream.script(Script(hold_before_headers=True), times=2)
    with Forkery(tmp_path) as forkery:
        server = forkery.serve(max_in_flight=2)
        server.wait_until_ready()
        platform.known_to(server, "fake-chat")
        with ThreadPoolExecutor(3) as pool, server.client(platform.key) as client:
            held = [pool.submit(client.post, "/chat/completions", json=BODY) for _ in range(2)]
            until(lambda: upstream.counters.held == 2, what="two calls under way")
            refused = client.post("/chat/completions", json=BODY, headers={"x-request-id": "mine"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
            assert refused.headers["retry-after"] == "1" and refused.headers["x-request-id"] == "mine"
            for path in ("/health", "/ready", "/metrics"):
                assert httpx.get(f"{server.origin}{path}").status_code == 200, path
            assert "llm_requests_shed_total 1.0" in httpx.get(f"{server.origin}/metrics").text
            waiting = pool.submit(client.post, "/chat/completions", json=BODY)
            upstream.release()
            assert [call.result().status_code for call in (*held, waiting)] == [200, 200, 200]
