"""The coalescer: one batch at a time, nothing lost, each row its own outcome."""

from __future__ import annotations

import asyncio

import pytest

from billing.coalescer import BATCH_LIMIT, Coalescer


async def test_what_arrives_during_a_batch_forms_the_next() -> None:
    batches: list[list[int]] = []
    may_go = asyncio.Event()

    async def write(rows: list[int]) -> list[BaseException | None]:
        batches.append(rows)
        await may_go.wait()
        return [None] * len(rows)

    coalescer = Coalescer(write)
    futures = [coalescer.add(0)]
    await asyncio.sleep(0)
    futures += [coalescer.add(number) for number in range(1, 6)]
    assert batches == [[0]] and coalescer.pending == 5
    may_go.set()
    await asyncio.gather(*futures)
    assert batches == [[0], [1, 2, 3, 4, 5]]


async def test_each_row_has_its_own_outcome() -> None:
    async def write(rows: list[int]) -> list[BaseException | None]:
        return [ValueError(str(row)) if row % 2 else None for row in rows]

    outcomes = await asyncio.gather(*map(Coalescer(write).add, range(6)), return_exceptions=True)
    assert [isinstance(outcome, ValueError) for outcome in outcomes] == [False, True] * 3


async def test_a_caller_that_gives_up_takes_nothing_along() -> None:
    written: list[int] = []

    async def write(rows: list[int]) -> list[BaseException | None]:
        await asyncio.sleep(0)
        written.extend(rows)
        return [None] * len(rows)

    coalescer = Coalescer(write)
    first, second = coalescer.add(1), coalescer.add(2)
    first.cancel()
    await second
    assert written == [1, 2]


async def test_batches_are_bounded_and_idle_waits_for_all() -> None:
    sizes: list[int] = []

    async def write(rows: list[int]) -> list[BaseException | None]:
        sizes.append(len(rows))
        await asyncio.sleep(0)
        return [None] * len(rows)

    coalescer = Coalescer(write)
    for number in range(2 * BATCH_LIMIT + 1):
        coalescer.add(number)
    await coalescer.idle()
    assert sizes == [BATCH_LIMIT, BATCH_LIMIT, 1]


async def test_a_writer_that_breaks_does_not_leave_its_callers_waiting() -> None:
    async def write(rows: list[int]) -> list[BaseException | None]:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError):
        await Coalescer(write).add(1)


async def test_what_nobody_waits_for_waits_for_company() -> None:
    batches: list[list[int]] = []

    async def write(rows: list[int]) -> list[BaseException | None]:
        batches.append(rows)
        return [None] * len(rows)

    coalescer = Coalescer(write)
    patient = coalescer.add(1, within_seconds=60)
    await asyncio.sleep(0)
    assert batches == [] and coalescer.busy
    await coalescer.add(2)
    assert batches == [[1, 2]] and patient.done()
    coalescer.add(3, within_seconds=60)
    await coalescer.urge(wait_seconds=60)
    coalescer.add(4, within_seconds=60)
    await coalescer.idle()
    assert batches == [[1, 2], [3], [4]]
    late = coalescer.add(5, within_seconds=0.001)
    await late
    assert not coalescer.busy
    coalescer.add(6, within_seconds=60)
    assert await coalescer.abandon() == 1
