"""The board over a real Redis: what one process finds out, all know; and what each does while Redis is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from django.conf import settings

from gateway.health.board import KEY, Health, Ticket
from gateway.health.breaker import BreakerPolicy, State
from providers.errors import Failure, ProviderError
from providers.types import Target
from tests.live import free_port

BROKEN = ProviderError(Failure.BROKEN, "500")
SOON = BreakerPolicy(open_seconds=0.2, longest_open_seconds=0.4)
"""Short, so that nobody waits; how long ten seconds are is tested with time given by hand."""


def target(deployment_id: int = 1, *, version: int = 7) -> Target:
    return Target(
        deployment_id=deployment_id,
        model_id=1,
        model_name="m",
        provider_name="p",
        kind="mock",
        base_url="mock://local",
        allow_private_network=False,
        secret="s",
        credential_id=3,
        credential_version=version,
        upstream_model="m",
    )


@contextlib.asynccontextmanager
async def boards(count: int, *, url: str | None = None, policy: BreakerPolicy = SOON) -> AsyncIterator[list[Health]]:
    """So many processes' boards, over an empty Redis or over one that is not there."""
    if url is None:
        async with redis.asyncio.Redis.from_url(settings.REDIS_CONNECTION) as client:
            await client.delete(KEY)
    made = [Health(url or settings.REDIS_CONNECTION, timeout_seconds=5, policy=policy) for _ in range(count)]
    for board in made:
        await board.start()
    try:
        yield made
    finally:
        for board in made:
            await board.close()


async def begun(board: Health, *, pool: tuple[int, ...] = (1,), deployment: int = 1) -> Ticket:
    ticket = await board.begin(target(deployment), pool=pool)
    assert ticket is not None
    return ticket


async def fail(board: Health, times: int, *, pool: tuple[int, ...] = (1,), deployment: int = 1) -> None:
    tickets = [await begun(board, pool=pool, deployment=deployment) for _ in range(times)]
    for ticket in tickets:
        ticket.failed(BROKEN)


async def eventually(board: Health, state: State, *, deployment: int = 1) -> None:
    async with asyncio.timeout(5):
        while board.standing(deployment).circuit.state is not state:
            await asyncio.sleep(0.01)


async def test_all_processes_stop_try_with_three_and_recover() -> None:
    async with boards(4, policy=BreakerPolicy(open_seconds=1.5)) as processes:
        await fail(processes[0], 5)
        for board in processes:
            await eventually(board, State.OPEN)
            assert "circuit open" in (board.objection(target()) or "")
            assert await board.begin(target(), pool=(1,)) is None
        async with asyncio.timeout(5):
            while any(board.objection(target()) for board in processes):
                await asyncio.sleep(0.01)
        asked = await asyncio.gather(*(board.begin(target(), pool=(1,)) for board in processes for _ in range(10)))
        probes = [ticket for ticket in asked if ticket is not None]
        assert len(probes) == 3
        for ticket in probes:
            ticket.first_content(0.1, deadline_seconds=30)
        for board in processes:
            await eventually(board, State.CLOSED)
        for ticket in probes:
            ticket.succeeded()
        assert processes[0].standing(1).in_flight == 0


async def test_without_sharing_each_process_finds_out_for_itself() -> None:
    """The control of the test above: forty calls in four processes reach a dead deployment, and 12 more to try it."""
    async with boards(4, url=f"redis://127.0.0.1:{free_port()}") as processes:
        reached = 0
        for board in processes:
            while (ticket := await board.begin(target(), pool=(1,))) is not None:
                ticket.failed(BROKEN)
                reached += 1
        assert reached == 4 * 5
        async with asyncio.timeout(5):
            while any(board.objection(target()) for board in processes):
                await asyncio.sleep(0.01)
        asked = [await board.begin(target(), pool=(1,)) for board in processes for _ in range(10)]
        assert sum(ticket is not None for ticket in asked) == 4 * 3


async def test_a_failed_probe_opens_again_for_everybody() -> None:
    async with boards(2) as (one, other):
        await fail(one, 5)
        for board in (one, other):
            await eventually(board, State.OPEN)
        async with asyncio.timeout(5):
            while (ticket := await other.begin(target(), pool=(1,))) is None:
                await asyncio.sleep(0.01)
        ticket.failed(BROKEN)
        async with asyncio.timeout(5):
            while one.standing(1).circuit.level != 1 or one.standing(1).circuit.state is not State.OPEN:
                await asyncio.sleep(0.01)


async def test_never_more_than_half_of_a_pool() -> None:
    pool = (1, 2, 3, 4)
    async with boards(1, policy=BreakerPolicy(open_seconds=60)) as (board,):
        for deployment in pool:
            for _ in range(10):
                if ticket := await board.begin(target(deployment), pool=pool):
                    ticket.failed(BROKEN)
                await asyncio.sleep(0)
            await board.begin(target(deployment), pool=pool)  # waits for what was told before it, where it must ask
        async with asyncio.timeout(5):
            while sum(board.standing(one).circuit.state is State.OPEN for one in pool) < 2:
                await asyncio.sleep(0.01)
        assert sum(board.standing(one).circuit.state is not State.CLOSED for one in pool) == 2


@pytest.mark.parametrize("failure", [Failure.REFUSED_INPUT, Failure.THROTTLED])
async def test_client_errors_and_429_never_open(failure: Failure) -> None:
    async with boards(1) as (board,):
        tickets = [await begun(board) for _ in range(50)]
        for ticket in tickets:
            ticket.failed(ProviderError(failure, "no", retry_after_seconds=0.0))
        for ticket in [await begun(board) for _ in range(50)]:
            ticket.says_nothing()
        assert board.standing(1).circuit.state is State.CLOSED


async def test_a_throttled_deployment_cools_down_everywhere() -> None:
    async with boards(2) as (one, other):
        (await begun(one)).failed(ProviderError(Failure.THROTTLED, "429", retry_after_seconds=60.0))
        assert "cooling down" in (one.objection(target()) or "")
        async with asyncio.timeout(5):
            while other.objection(target()) is None:
                await asyncio.sleep(0.01)
        assert 55 < other.free_in_seconds([target()]) <= 60


async def test_a_refused_credential_is_off_until_its_secret_changes() -> None:
    async with boards(2) as (one, other):
        (await begun(one)).failed(ProviderError(Failure.REFUSED_CREDENTIAL, "401", status=401))
        async with asyncio.timeout(5):
            while other.objection(target()) is None:
                await asyncio.sleep(0.01)
        assert other.objection(target(2)) == "its credential was refused", "wherever it is used"
        assert other.objection(target(version=8)) is None


async def test_emptied_redis_does_not_let_everybody_try_at_once() -> None:
    async with boards(3, policy=BreakerPolicy(open_seconds=1)) as processes:
        await fail(processes[0], 5)
        for board in processes:
            await eventually(board, State.OPEN)
        async with redis.asyncio.Redis.from_url(settings.REDIS_CONNECTION) as client:
            await client.delete(KEY)
        async with asyncio.timeout(5):
            while any(board.objection(target()) for board in processes):
                await asyncio.sleep(0.01)
        asked = await asyncio.gather(*(board.begin(target(), pool=(1,)) for board in processes for _ in range(5)))
        assert sum(ticket is not None for ticket in asked) == 3
