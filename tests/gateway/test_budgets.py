"""Hard budgets under concurrency, over several processes and through the public door."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from django.conf import settings
from django.core.management import call_command
from redis import Redis

from billing.models import Attempt, Budget, BudgetAlert, BudgetOverride, BudgetWindow
from billing.money import NANO_PER_USD
from providers.models import Model
from tenants.models import Tenant
from tests import factories
from tests.engines import ROOT
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform, wait_for_models
from tests.live import LiveServer, until

MILLI_USD = NANO_PER_USD // 1000
PER_CALL = {"requests": "1000"}
"""USD per million calls: one call costs a thousandth of a USD, whatever is said."""
CLIENTS, AFFORDABLE = 200, 37


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory, committed: None) -> Iterator[list[LiveServer]]:
    folder = tmp_path_factory.mktemp("four")
    servers = [LiveServer("uvicorn", folder) for _ in range(4)]
    yield servers
    for server in servers:
        server.stop()


def tenant_with(model: Model) -> tuple[Tenant, str]:
    tenant = factories.make_tenant()
    factories.approve(tenant, model)
    return tenant, factories.make_key(tenant)[1]


def books_balance() -> None:
    until(lambda: not Attempt.objects.filter(state="open").exists(), what="the end of every attempt")
    call_command("verify_money", stdout=StringIO())


async def ask_all(servers: list[LiveServer], key: str, model: str) -> Counter[int]:
    """`CLIENTS` calls at once, spread over the servers; how many of each status came back."""
    body = {"model": model, "messages": [{"role": "user", "content": "x"}]}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers={"authorization": f"Bearer {key}"}) as session:

        async def ask(number: int) -> int:
            url = f"{servers[number % len(servers)].base_url}/chat/completions"
            try:
                async with session.post(url, json=body) as answer:
                    await answer.read()
                    return answer.status
            except aiohttp.ClientError:
                return 0

        return Counter(await asyncio.gather(*(ask(number) for number in range(CLIENTS))))


@pytest.mark.parametrize("hard", [True, False], ids=["hard", "control: soft"])
def test_exactly_as_many_calls_as_the_budget_affords(
    four: list[LiveServer], platform: Platform, upstream: FakeOpenAI, hard: bool
) -> None:
    provider = platform.chat.deployments.get().provider
    model = factories.make_model(provider, prices=PER_CALL, upstream_model="gpt-5.2")
    tenant, key = tenant_with(model)
    Budget.objects.create(tenant=tenant, limit_nano_usd=AFFORDABLE * MILLI_USD, hard=hard, alert_at=[50, 100])
    for server in four:
        wait_for_models(server, key, model.name)
    upstream.script(Script(delay_seconds=0.05), times=None)
    statuses = asyncio.run(ask_all(four, key, model.name))
    books_balance()
    window = BudgetWindow.objects.get(budget__tenant=tenant)
    if hard:
        assert statuses == {200: AFFORDABLE, 402: CLIENTS - AFFORDABLE}
        assert window.spent_nano_usd == AFFORDABLE * MILLI_USD
    else:
        assert statuses == {200: CLIENTS}, "without the guard the same clients spend five times as much"
        assert window.spent_nano_usd == CLIENTS * MILLI_USD
    assert len(upstream.all_ended()) == statuses[200], "the provider's own log"
    assert set(BudgetAlert.objects.filter(window=window).values_list("percent", flat=True)) == {50, 100}


@contextlib.contextmanager
def redis_keeps_losing_everything() -> Iterator[None]:
    """FLUSHALL every 200 ms, as the worst of days would have it."""
    stop = threading.Event()

    def flush() -> None:
        with Redis.from_url(settings.REDIS_CONNECTION) as redis:
            while not stop.wait(0.2):
                redis.flushall()

    thread = threading.Thread(target=flush)
    thread.start()
    yield
    stop.set()
    thread.join()


def test_the_race_itself_while_redis_loses_everything(
    four: list[LiveServer], platform: Platform, upstream: FakeOpenAI
) -> None:
    """The command of the benchmark, which anyone may point at another gateway."""
    provider = platform.chat.deployments.get().provider
    model = factories.make_model(provider, prices=PER_CALL, upstream_model="gpt-5.2")
    tenant, key = tenant_with(model)
    Budget.objects.create(tenant=tenant, limit_nano_usd=AFFORDABLE * MILLI_USD)
    for server in four:
        wait_for_models(server, key, model.name)
    upstream.script(Script(delay_seconds=0.3), times=None)
    urls = [argument for server in four for argument in ("--base-url", server.base_url)]
    with redis_keeps_losing_everything():
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "bench.hard_budget", *urls, "--key", key, "--model", model.name),
                *("--affordable", str(AFFORDABLE)),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "37 of 200 were let through" in ended.stdout and "163 answered 402" in ended.stdout
    assert len(upstream.all_ended()) == AFFORDABLE
    books_balance()


def test_a_killed_process_does_not_let_more_through(
    tmp_path: Path, four: list[LiveServer], platform: Platform, upstream: FakeOpenAI
) -> None:
    """What it held stays held until a sweep has seen to it: never more than the budget, killed or not."""
    provider = platform.chat.deployments.get().provider
    model = factories.make_model(provider, prices=PER_CALL, upstream_model="gpt-5.2")
    tenant, key = tenant_with(model)
    Budget.objects.create(tenant=tenant, limit_nano_usd=AFFORDABLE * MILLI_USD)
    doomed = LiveServer("uvicorn", tmp_path)
    servers = [*four[:3], doomed]
    for server in servers:
        wait_for_models(server, key, model.name)
    upstream.script(Script(hold_before_headers=True), times=None)

    async def race_and_kill() -> Counter[int]:
        racing = asyncio.create_task(ask_all(servers, key, model.name))
        await asyncio.to_thread(upstream.wait_until, lambda records: upstream.counters.held == AFFORDABLE)
        doomed.process.kill()
        await asyncio.to_thread(doomed.process.wait)
        upstream.release()
        return await racing

    statuses = asyncio.run(race_and_kill())
    assert len(upstream.all_ended()) == AFFORDABLE, "the provider's own log"
    assert statuses[200] <= AFFORDABLE and statuses[200] + statuses[402] + statuses[0] == CLIENTS
    window = BudgetWindow.objects.get(budget__tenant=tenant)
    assert window.spent_nano_usd + window.reserved_nano_usd == AFFORDABLE * MILLI_USD
    survivor = LiveServer("uvicorn", tmp_path, HEARTBEAT_SECONDS="1", PROCESS_DEAD_SECONDS="2")
    try:
        books_balance()
    finally:
        survivor.stop()
    window.refresh_from_db()
    assert window.spent_nano_usd == AFFORDABLE * MILLI_USD, "what the dead one had asked is charged by its recorder"


@pytest.fixture
def ask(uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI) -> Any:
    def ask(key: str, model: Model, **more: Any) -> Any:
        wait_for_models(uvicorn, key, model.name)
        body = {"model": model.name, "messages": [{"role": "user", "content": "x"}], **more}
        with uvicorn.client(key) as client:
            return client.post("/chat/completions", json=body)

    return ask


def test_a_refusal_explains_itself(ask: Any, platform: Platform, upstream: FakeOpenAI) -> None:
    model = factories.make_model(platform.chat.deployments.get().provider, prices=PER_CALL, upstream_model="gpt-5.2")
    tenant, key = tenant_with(model)
    budget = Budget.objects.create(tenant=tenant, limit_nano_usd=MILLI_USD, period="day")
    assert ask(key, model).status_code == 200
    books_balance()
    answer = ask(key, model)
    error = answer.json()["error"]
    assert answer.status_code == 402 and answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers, "nothing is held that may come free"
    assert error["type"] == "insufficient_quota" and error["code"] == "budget_exceeded"
    told = {name: error[name] for name in ("scope", "period", "limit_usd", "spent_usd", "reserved_usd", "needed_usd")}
    assert told == {
        "scope": "tenant", "period": "day", "limit_usd": "0.001", "spent_usd": "0.001", "reserved_usd": "0",
        "needed_usd": "0.001",
    }  # fmt: skip
    assert error["resets_at"]
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    BudgetOverride.objects.create(budget=budget, extra_nano_usd=MILLI_USD, expires_at=soon, reason="a launch")
    assert ask(key, model).status_code == 200, "an extra counts from the next call on"
    Budget.objects.filter(pk=budget.pk).update(limit_nano_usd=0)
    assert ask(key, model).status_code == 402, "a limit below its use is accepted and blocks"
    books_balance()


def test_all_scopes_or_none(ask: Any, platform: Platform, upstream: FakeOpenAI) -> None:
    model = factories.make_model(platform.chat.deployments.get().provider, prices=PER_CALL, upstream_model="gpt-5.2")
    tenant, key = tenant_with(model)
    for scope, limit in (("tenant", 100), ("key", 100), ("model", 2), ("user", 100)):
        Budget.objects.create(tenant=tenant, scope=scope, limit_nano_usd=limit * MILLI_USD)
    statuses = [ask(key, model, user=f"u-{number}").status_code for number in range(4)]
    assert statuses == [200, 200, 402, 402]
    books_balance()
    spent = {
        (row.budget.scope, row.subject): row.spent_nano_usd
        for row in BudgetWindow.objects.filter(budget__tenant=tenant)
    }
    assert spent[("tenant", "")] == spent[("model", model.name)] == 2 * MILLI_USD
    assert spent[("user", "u-0")] == MILLI_USD and spent[("user", "u-3")] == 0, "each user has a window of its own"


def test_an_answer_is_cut_to_what_is_left(ask: Any, platform: Platform, upstream: FakeOpenAI) -> None:
    model = factories.make_model(
        platform.chat.deployments.get().provider, prices={"output": "10000"}, upstream_model="gpt-5.2"
    )
    Model.objects.filter(pk=model.pk).update(max_output_tokens=1000)
    tenant, key = tenant_with(model)
    # 10,000 USD per million tokens is 0.01 USD a token
    Budget.objects.create(tenant=tenant, limit_nano_usd=NANO_PER_USD)
    assert ask(key, model).status_code == 200
    assert upstream.all_ended()[-1].body["max_tokens"] == 100, "one USD affords a hundred tokens"
    books_balance()
    refused = ask(key, model, max_tokens=500)
    assert refused.status_code == 402, "a limit of the client's own is not cut"


def test_absurd_limits_are_clamped_to_the_model(ask: Any, platform: Platform, upstream: FakeOpenAI) -> None:
    model = factories.make_model(platform.chat.deployments.get().provider, upstream_model="gpt-5.2")
    Model.objects.filter(pk=model.pk).update(max_output_tokens=1000)
    _, key = tenant_with(model)
    until(lambda: ask(key, model, max_tokens=10**9).status_code == 200, what="the call")
    until(
        lambda: ask(key, model, max_tokens=10**9) and upstream.all_ended()[-1].body["max_tokens"] == 1000,
        what="the limit being known",
    )


def test_a_hard_budget_needs_a_price(ask: Any, platform: Platform, upstream: FakeOpenAI) -> None:
    model = factories.make_model(platform.chat.deployments.get().provider, prices=None, upstream_model="gpt-5.2")
    tenant, key = tenant_with(model)
    Budget.objects.create(tenant=tenant, limit_nano_usd=NANO_PER_USD)
    answer = ask(key, model)
    assert answer.status_code == 402 and answer.json()["error"]["code"] == "price_unknown"
    assert upstream.records == []


def test_the_payer_is_the_target(ask: Any, platform: Platform, upstream: FakeOpenAI) -> None:
    """A free model that fails does not hand its call to a paid one that the budget has no room for."""
    dead = factories.make_provider("http://127.0.0.1:1/v1")
    free = factories.make_model(dead, prices={"output": "0"})
    paid = factories.make_model(platform.chat.deployments.get().provider, prices=PER_CALL, upstream_model="gpt-5.2")
    group = factories.make_group(free, paid)
    tenant = factories.make_tenant()
    factories.approve(tenant, group)
    _, key = factories.make_key(tenant)
    Budget.objects.create(tenant=tenant, limit_nano_usd=MILLI_USD - 1)
    assert ask(key, group).status_code == 402
    assert upstream.records == []
    books_balance()


def test_a_call_that_failed_gives_its_room_back(ask: Any, platform: Platform, upstream: FakeOpenAI) -> None:
    model = factories.make_model(platform.chat.deployments.get().provider, prices=PER_CALL, upstream_model="gpt-5.2")
    tenant, key = tenant_with(model)
    Budget.objects.create(tenant=tenant, limit_nano_usd=MILLI_USD)
    upstream.script(Script(status=500), times=1)
    assert ask(key, model).status_code == 502
    books_balance()
    assert ask(key, model).status_code == 200


def test_verify_money_finds_a_cooked_book(ask: Any, platform: Platform, upstream: FakeOpenAI) -> None:
    model = factories.make_model(platform.chat.deployments.get().provider, prices=PER_CALL, upstream_model="gpt-5.2")
    tenant, key = tenant_with(model)
    Budget.objects.create(tenant=tenant, limit_nano_usd=MILLI_USD)
    assert ask(key, model).status_code == 200
    books_balance()
    window = BudgetWindow.objects.filter(budget__tenant=tenant)
    for change in ({"spent_nano_usd": 5}, {"reserved_nano_usd": 1}, {"ceiling_nano_usd": 0}):
        before = window.values(*change).get()
        window.update(**change)
        with pytest.raises(Exception, match="do not balance"):
            call_command("verify_money", stdout=StringIO())
        window.update(**before)
    books_balance()
