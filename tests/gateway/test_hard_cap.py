"""M1: 200 clients, four processes, a budget for exactly 37 calls, on a calm day and on three bad ones; M6 and M11."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import connection
from django.db.models import F
from redis import Redis

from bench import hard_budget
from billing.models import Attempt, BudgetAlert, BudgetWindow, GatewayProcess, UsageRecord
from gateway.embedded import RunningEngines, start_engines
from tenants.models import RateLimit
from tests.billing.guards import HARD_CAP, without
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform
from tests.gateway.money import MILLI_USD, Payer, ask_all, books_balance, make_payer
from tests.live import LiveServer, until

CLIENTS, AFFORDABLE = 200, 37
REFUSED = CLIENTS - AFFORDABLE
NO_LIMIT_IN_REACH = 1_000_000


class OwnRedis:
    """A Redis of these tests alone, that may be stopped and started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._engines: RunningEngines | None = None
        self.url = self.start()

    def start(self) -> str:
        self._engines = start_engines(self._folder, postgres=False, durable=False)
        assert self._engines.redis_url is not None
        return self._engines.redis_url

    def stop(self) -> None:
        if self._engines is not None:
            self._engines.stop()
        self._engines = None


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    own = OwnRedis(tmp_path_factory.mktemp("redis"))
    yield own
    own.stop()


Start = Callable[..., LiveServer]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, redis: OwnRedis, committed: None) -> Iterator[Start]:
    """Starts processes over that Redis; all are gone after the module."""
    running: list[LiveServer] = []

    def start(**environment: str) -> LiveServer:
        folder = tmp_path_factory.mktemp("server")
        running.append(LiveServer("uvicorn", folder, REDIS_URL=redis.url, **environment))
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture(scope="module")
def three(start: Start) -> list[LiveServer]:
    return [start() for _ in range(3)]


@pytest.fixture(scope="module")
def fourth(start: Start) -> LiveServer:
    return start()


@pytest.fixture
def payer(platform: Platform) -> Payer:
    """With a rate limit that is never reached: each call asks Redis."""
    payer = make_payer(platform)
    RateLimit.objects.create(tenant=payer.tenant, requests_per_minute=NO_LIMIT_IN_REACH)
    return payer


def race(servers: list[LiveServer], payer: Payer) -> Counter[int]:
    """The benchmark's own race, which anyone may run against another gateway."""
    payer.known_to(*servers)
    urls = [argument for server in servers for argument in ("--base-url", server.base_url)]
    rest = ("--key", payer.key, "--model", payer.model.name, "--affordable", str(AFFORDABLE))
    return asyncio.run(hard_budget.race(hard_budget.read_arguments([*urls, *rest])))


def exactly_the_budget(payer: Payer, upstream: FakeOpenAI, statuses: Counter[int]) -> None:
    """What every day must show, the calm and the bad."""
    assert (len(upstream.all_ended()), statuses[402]) == (AFFORDABLE, REFUSED)
    books_balance()
    window = BudgetWindow.objects.get(budget__tenant=payer.tenant)
    assert (window.spent_nano_usd, window.reserved_nano_usd) == (AFFORDABLE * MILLI_USD, 0)
    assert UsageRecord.objects.filter(tenant=payer.tenant).count() == AFFORDABLE
    assert set(BudgetAlert.objects.filter(window=window).values_list("percent", flat=True)) == {50, 100}


@contextmanager
def flushed_every_200_ms(redis: OwnRedis) -> Iterator[None]:
    stop = threading.Event()

    def flush() -> None:
        with Redis.from_url(redis.url) as client:
            while not stop.wait(0.2):
                client.flushall()

    thread = threading.Thread(target=flush)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def stopped_once_calls_are_under_way(redis: OwnRedis, upstream: FakeOpenAI) -> Iterator[None]:
    def stop() -> None:
        upstream.wait_until(lambda records: len(records) > 0, timeout_seconds=30)
        redis.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield
        thread.join()
    finally:
        thread.join()
        redis.start()


def test_on_a_calm_day(three: list[LiveServer], fourth: LiveServer, payer: Payer, upstream: FakeOpenAI) -> None:
    payer.budget(limit_nano_usd=AFFORDABLE * MILLI_USD, alert_at=[50, 100])
    upstream.script(Script(delay_seconds=0.05), times=None)
    statuses = race([*three, fourth], payer)
    assert statuses == {200: AFFORDABLE, 402: REFUSED}
    exactly_the_budget(payer, upstream, statuses)


def test_while_redis_loses_everything_every_200_ms(
    three: list[LiveServer], fourth: LiveServer, payer: Payer, upstream: FakeOpenAI, redis: OwnRedis
) -> None:
    payer.budget(limit_nano_usd=AFFORDABLE * MILLI_USD, alert_at=[50, 100])
    upstream.script(Script(delay_seconds=0.3), times=None)
    with flushed_every_200_ms(redis):
        statuses = race([*three, fourth], payer)
    assert statuses == {200: AFFORDABLE, 402: REFUSED}
    exactly_the_budget(payer, upstream, statuses)


def test_while_redis_is_stopped(
    three: list[LiveServer], fourth: LiveServer, payer: Payer, upstream: FakeOpenAI, redis: OwnRedis
) -> None:
    payer.budget(limit_nano_usd=AFFORDABLE * MILLI_USD, alert_at=[50, 100])
    upstream.script(Script(delay_seconds=0.3), times=None)
    with stopped_once_calls_are_under_way(redis, upstream):
        statuses = race([*three, fourth], payer)
        refused = payer.ask(three[0])
        assert (refused.status_code, refused.headers["x-gateway-ratelimit"]) == (402, "degraded"), "Redis is gone"
    assert statuses == {200: AFFORDABLE, 402: REFUSED}
    exactly_the_budget(payer, upstream, statuses)


def refused_so_far(servers: list[LiveServer], payer: Payer) -> int:
    """By the servers' own logs."""
    lines = (line for server in servers for line in server.call_lines())
    return sum(line["tenant"] == payer.tenant.name and line["status"] == 402 for line in lines)


def test_control_without_the_guard_all_pass_and_the_books_say_so(
    three: list[LiveServer], fourth: LiveServer, payer: Payer, upstream: FakeOpenAI
) -> None:
    payer.budget(limit_nano_usd=AFFORDABLE * MILLI_USD)
    with without(*HARD_CAP):
        assert race([*three, fourth], payer) == {200: CLIENTS}
        assert len(upstream.all_ended()) == CLIENTS
        with pytest.raises(CommandError, match="do not balance"):
            books_balance()
    broken = BudgetWindow.objects.filter(budget__tenant=payer.tenant)
    broken.update(ceiling_nano_usd=F("spent_nano_usd"))  # so that the books of the next test balance
    books_balance()


def test_a_soft_budget_alerts_and_lets_pass(
    three: list[LiveServer], fourth: LiveServer, payer: Payer, upstream: FakeOpenAI
) -> None:
    budget = payer.budget(limit_nano_usd=AFFORDABLE * MILLI_USD, hard=False, alert_at=[50, 100, 500, 600])
    assert race([*three, fourth], payer) == {200: CLIENTS}
    books_balance()
    window = BudgetWindow.objects.get(budget=budget)
    assert window.spent_nano_usd == CLIENTS * MILLI_USD
    assert set(window.alerts.values_list("percent", flat=True)) == {50, 100, 500}


@pytest.mark.parametrize("trouble", ["flushed", "control: calm"])
def test_losing_redis_moves_no_money(
    three: list[LiveServer], payer: Payer, upstream: FakeOpenAI, redis: OwnRedis, trouble: str
) -> None:
    """M11: a load with failures in it; what is spent afterwards is what was, plus what the calls cost."""
    budget = payer.budget(limit_nano_usd=1000 * MILLI_USD)
    payer.known_to(*three)
    assert payer.ask(three[0]).status_code == 200
    books_balance()
    before = BudgetWindow.objects.get(budget=budget).spent_nano_usd
    upstream.script(Script(status=400), marker="fails", times=None)
    upstream.script(Script(delay_seconds=0.1), times=None)
    bodies = [payer.body(stream=number % 2 == 0, user="fails" if number % 10 == 0 else "u") for number in range(300)]
    disturbed: AbstractContextManager[Any] = flushed_every_200_ms(redis) if trouble == "flushed" else nullcontext()
    with disturbed:
        statuses = asyncio.run(ask_all(three, payer.key, bodies))
    books_balance()
    assert statuses == {200: 270, 400: 30}
    window = BudgetWindow.objects.get(budget=budget)
    assert (window.spent_nano_usd - before, window.reserved_nano_usd) == (270 * MILLI_USD, 0)


def deadlocks() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


USERS, AT_ONCE, ROUNDS, MODEL_AFFORDS = 6, 50, 4, 23


def test_all_scopes_or_none_among_crossing_windows(three: list[LiveServer], payer: Payer, upstream: FakeOpenAI) -> None:
    """M6: four scopes, of which the third is too small; 50 clients over two processes, a window for each user."""
    two = three[:2]
    for scope, limit in (("tenant", 1000), ("key", 1000), ("model", MODEL_AFFORDS), ("user", 1000)):
        payer.budget(scope=scope, limit_nano_usd=limit * MILLI_USD)
    payer.known_to(*two)
    before = deadlocks()
    rng = random.Random(11)
    upstream.script(Script(status=400), marker="fails", times=None)
    upstream.script(Script(delay_seconds=0.02), times=None)
    statuses: Counter[int] = Counter()
    for _ in range(ROUNDS):
        bodies = [
            payer.body(user=f"u{rng.randrange(USERS)}", stop="fails" if rng.random() < 0.1 else "never")
            for _ in range(AT_ONCE)
        ]
        statuses += asyncio.run(ask_all(two, payer.key, bodies))
        books_balance()
    assert set(statuses) == {200, 400, 402} and statuses[200] == MODEL_AFFORDS, (
        "no 503 of a deadlock that was not mended"
    )
    assert deadlocks() == before
    assert len(upstream.all_ended()) == statuses[200] + statuses[400]
    windows = payer.windows()
    users = {subject: money for (scope, subject), money in windows.items() if scope == "user"}
    whole = (MODEL_AFFORDS * MILLI_USD, 0)
    assert windows["tenant", ""] == windows["model", payer.model.name] == whole
    assert [money for (scope, _), money in windows.items() if scope == "key"] == [whole]
    assert sum(spent for spent, _ in users.values()) == MODEL_AFFORDS * MILLI_USD, "no increment is lost"
    assert {reserved for _, reserved in users.values()} == {0}, "a refused call holds nothing anywhere"
    refused = statuses[402]
    assert Attempt.objects.filter(tenant=payer.tenant).count() == ROUNDS * AT_ONCE - refused


def holder_of_most(servers: list[LiveServer], payer: Payer) -> tuple[LiveServer, int]:
    """The process with the most calls under way, and how many."""
    processes = Attempt.objects.filter(tenant=payer.tenant).values_list("process", flat=True)
    process, calls = Counter(processes).most_common(1)[0]
    pid = GatewayProcess.objects.get(pk=process).pid
    return next(server for server in servers if server.process.pid == pid), calls


def test_while_a_process_is_killed(start: Start, payer: Payer, upstream: FakeOpenAI) -> None:
    """What it held stays held until a sweep has seen to it: never more than the budget, killed or not. With four
    processes of its own, because the other tests need all of theirs."""
    budget = payer.budget(limit_nano_usd=AFFORDABLE * MILLI_USD)
    servers = [start() for _ in range(4)]
    upstream.script(Script(hold_before_headers=True), times=None)
    with ThreadPoolExecutor() as pool:
        racing = pool.submit(race, servers, payer)
        upstream.wait_until(lambda records: upstream.counters.held == AFFORDABLE, timeout_seconds=30)
        until(lambda: refused_so_far(servers, payer) == REFUSED, what="the refusals")
        doomed, lost = holder_of_most(servers, payer)
        doomed.process.kill()
        doomed.process.wait()
        upstream.release()
        statuses = racing.result()
    assert len(upstream.all_ended()) == AFFORDABLE, "the provider's own log"
    assert (statuses[200], statuses[402], statuses[0]) == (AFFORDABLE - lost, REFUSED, lost) and lost > 0
    window = BudgetWindow.objects.filter(budget=budget)
    until(lambda: window.get().spent_nano_usd == statuses[200] * MILLI_USD, what="the charges of the living")
    assert window.get().reserved_nano_usd == lost * MILLI_USD, "held still, so nobody else gets it"
    survivor = start(HEARTBEAT_SECONDS="1", PROCESS_DEAD_SECONDS="2")
    try:
        until(lambda: window.get().reserved_nano_usd == 0, seconds=45, what="the sweep")
        books_balance()
    finally:
        survivor.stop()
    charges = UsageRecord.objects.filter(tenant=payer.tenant)
    unknown = charges.filter(usage_source="unknown").count()
    assert charges.count() == AFFORDABLE, "each call that the provider saw is charged, or listed as unknown"
    assert window.get().spent_nano_usd == (AFFORDABLE - unknown) * MILLI_USD and unknown in (0, lost)
