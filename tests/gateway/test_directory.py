"""How the directory ends: with its connections closed, and also while the database does not answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
from django.db import OperationalError, connection

from gateway import directory
from gateway.directory import QUERY_THREADS, Directory
from tests.live import until

SLEEPERS = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep%'"

pytestmark = pytest.mark.usefixtures("committed")


def backend(together: threading.Barrier) -> int:
    """The PostgreSQL process behind the thread that runs this; together, so that each thread tells."""
    together.wait(timeout=10)
    return found("SELECT pg_backend_pid()")


def found(question: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(question)
        return int(cursor.fetchone()[0])


def is_there(process: int) -> bool:
    return found(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {process}") == 1


def wait_for_sleepers(count: int) -> None:
    """In a thread of its own."""
    try:
        until(lambda: found(f"SELECT count(*) {SLEEPERS}") == count, what="the questions")
    finally:
        connection.close()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("directory")]


def test_closing_closes_the_connections_of_both_threads() -> None:
    async def run() -> list[int]:
        asked = Directory(stale_seconds=60)
        await asked.start()
        together = threading.Barrier(QUERY_THREADS)
        processes = await asyncio.gather(*(asked.query(backend, together) for _ in range(QUERY_THREADS)))
        assert len(set(processes)) == QUERY_THREADS
        await asked.close()
        return processes

    for process in asyncio.run(run()):
        until(lambda process=process: not is_there(process), what="the end of its connection")
    until(lambda: not threads(), what="the end of the threads")


@pytest.fixture
def _awake() -> Iterator[None]:
    """The database goes on with what nobody waits for."""
    yield
    found(f"SELECT count(pg_terminate_backend(pid, 5000)) {SLEEPERS}")


@pytest.mark.usefixtures("_awake")
@pytest.mark.parametrize("busy", range(1, QUERY_THREADS + 1))
def test_closing_ends_while_the_database_is_silent(monkeypatch: pytest.MonkeyPatch, busy: int) -> None:
    monkeypatch.setattr(directory, "CLOSE_SECONDS", 0.2)

    async def run() -> list[BaseException | int]:
        asked = Directory(stale_seconds=60)
        await asked.start()
        asking = [asyncio.create_task(asked.query(found, "SELECT pg_sleep(60), 1")) for _ in range(busy)]
        await asyncio.to_thread(wait_for_sleepers, busy)
        await asked.close()
        return await asyncio.gather(*asking, return_exceptions=True)

    began = time.monotonic()
    answers = asyncio.run(run())
    assert [type(answer) for answer in answers] == [OperationalError] * busy
    assert time.monotonic() - began < 30, "it did not wait for the database"
    until(lambda: not threads(), what="the end of the threads")
