"""A process whose database lacks a migration is not ready, and says so; one whose database has more is."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from tests import engines
from tests.live import LiveServer, until

LAST = max(path.stem for path in (engines.ROOT / "providers/migrations").glob("0*.py"))


@pytest.fixture
def database(django_db_setup: None) -> str:
    return engines.create_database(f"schema_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}")


@contextmanager
def recorded(database: str) -> Iterator[psycopg.Connection]:
    """The table in which migrations are written down."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def forget(database: str) -> None:
    with recorded(database) as connection:
        assert connection.execute("DELETE FROM django_migrations WHERE name = %s", [LAST]).rowcount == 1


def remember(database: str, name: str = LAST) -> None:
    with recorded(database) as connection:
        connection.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('providers', %s, now())", [name])


def check_schema(database: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "check_schema", *options],
        cwd=engines.ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "gateway.settings", "DATABASE_URL": database},
        capture_output=True,
        text=True,
        check=False,
    )


class _Alive(LiveServer):
    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.origin}/health", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


def test_a_process_is_not_ready_before_its_migrations(database: str, tmp_path: Path) -> None:
    forget(database)
    server = _Alive("uvicorn", tmp_path, DATABASE_URL=database)
    try:
        answer = httpx.get(f"{server.origin}/ready", trust_env=False)
        assert answer.status_code == 503
        assert answer.json()["schema"] == "mismatch" and answer.json()["backends"]["postgres"] == "ok"
        assert f'"schema.behind","missing":["providers.{LAST}"]' in server.log.read_text()
        remember(database)
        until(server.answers, what="being ready once they are applied")
        remember(database, "9999_of_the_next_release")
        assert server.answers(), "a release that is rolled out migrates first; the old processes go on"
    finally:
        server.stop()


def test_the_command_says_it_by_its_exit_code(database: str) -> None:
    assert check_schema(database).returncode == 0
    forget(database)
    behind = check_schema(database)
    assert behind.returncode == 1 and f"Not applied: providers.{LAST}. Run `manage.py migrate`." in behind.stderr
    nowhere = check_schema("postgresql://nobody@127.0.0.1:9/nowhere")
    assert nowhere.returncode == 1 and "The database cannot be asked" in nowhere.stderr


def test_the_command_waits_for_the_migrations(database: str) -> None:
    forget(database)
    waiting: list[subprocess.CompletedProcess[str]] = []
    waiter = threading.Thread(target=lambda: waiting.append(check_schema(database, "--wait", "30")))
    waiter.start()
    with recorded(database) as connection:
        until(
            lambda: connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchone()[0],
            seconds=30,
            what="the command having asked",
        )
    remember(database)
    waiter.join()
    assert waiting[0].returncode == 0, waiting[0].stderr
