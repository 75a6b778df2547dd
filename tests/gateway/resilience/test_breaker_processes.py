"""A deployment that dies, seen by four processes: all stop within two seconds, three calls try whether it is back, and
all recover together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.forked import ForkedServer, Forkery
from tests.gateway.conftest import Platform
from tests.gateway.resilience.conftest import HELLO, make_deployed
from tests.live import free_port, until


@pytest.fixture(params=["shared", "alone"])
def four(
    request: pytest.FixtureRequest, platform: Platform, tmp_path: Path
) -> Iterator[tuple[str, list[ForkedServer]]]:
    """Four processes, that hear of each other or, as the control, have no Redis."""
    away = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}"} if request.param == "alone" else {}
    with Forkery(tmp_path, **away) as forkery:
        servers = [forkery.serve() for _ in range(4)]
        for server in servers:
            until(lambda server=server: is_up(server), seconds=30, what="a forked server")
        yield request.param, servers


def is_up(server: ForkedServer) -> bool:
    try:
        return server.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def test_a_dead_deployment_over_four_processes(
    four: tuple[str, list[ForkedServer]], platform: Platform, upstream: FakeOpenAI
) -> None:
    kind, servers = four
    model = make_deployed(platform, upstream)
    platform.known_to(servers[0], model.name)
    for server in servers[1:]:
        platform.known_to(server, model.name)
    body = {"model": model.name, "messages": HELLO}
    upstream.script(Script(status=500), times=None)

    def ask(client: httpx.Client) -> int:
        return client.post("/chat/completions", json=body).status_code

    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(4))
        clients = [stack.enter_context(server.client(platform.key)) for server in servers]

        def ask_all() -> set[int]:
            return set(pool.map(ask, clients))

        opened = all_stop(ask, clients)
        if kind == "alone":
            assert len(upstream.records) >= 4 * 5, "each process had to find out for itself"
            return
        assert time.time() - opened < 2, "all stop within two seconds"
        upstream.reset()  # it is back
        until(lambda: ask_all() == {200}, seconds=15 - (time.time() - opened), what="recovery of all within 15 s")

        upstream.script(Script(status=500), times=None)
        opened = all_stop(ask, clients)
        reached = len(upstream.records)
        while time.time() < opened + 9:
            assert ask_all() == {503}
            time.sleep(0.1)
        assert len(upstream.records) == reached, "while it is open, nobody tries"
        until(lambda: ask_all() and len(upstream.records) > reached, what="the first try")
        until(lambda: not upstream.counters.in_flight, what="the end of the tries")
        assert ask_all() == {503}
        assert len(upstream.records) - reached <= 3


def all_stop(ask: Callable[[httpx.Client], int], clients: list[httpx.Client]) -> float:
    """The deployment dies: ask until no process does any more. Returns when the first had found out."""
    while 502 in {ask(clients[0]) for _ in range(2)}:
        pass
    opened = time.time()
    with ThreadPoolExecutor(len(clients)) as pool:
        while 502 in set(pool.map(ask, clients[1:])):
            pass
    return opened
