"""Ending what a process does on the side."""

from __future__ import annotations

import asyncio

from gateway.stopping import cancelled


async def test_a_task_that_takes_a_cancellation_for_its_own_is_ended_all_the_same() -> None:
    """As redis-py does while it connects: a process hung at its end, with nobody listening any more."""
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 2:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.sleep(3600)

    task = asyncio.get_running_loop().create_task(stubborn())
    await asyncio.sleep(0)
    await cancelled(task)
    assert task.cancelled() and swallowed == 2
