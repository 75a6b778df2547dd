"""`make run` from the outside: what it promises at the start, when stopped, and after it was killed."""

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from gateway.embedded import engine_urls
from tests.platform.running import ROOT, Platform, alive, platform, temporary_data_dir, wait_for

MARKER = "BURSAR_SUPERVISED_IN"


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """Shared by the module: only the first start has a database to create, and all others meet what was left."""
    with temporary_data_dir() as folder:
        yield folder


def remember(data_dir: Path) -> None:
    """Commit a row that a later start must still find."""
    with psycopg.connect(engine_urls(data_dir).database_url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (word text)")
        connection.execute("TRUNCATE kept")
        connection.execute("INSERT INTO kept VALUES ('still here')")


def recall(data_dir: Path) -> str:
    """The row of `remember`."""
    with psycopg.connect(engine_urls(data_dir).database_url) as connection:
        return str(connection.execute("SELECT word FROM kept").fetchall())


def stopped_by(running: Platform, number: signal.Signals) -> int:
    """The exit status after this signal; fails when any process of the platform is left."""
    family = running.family()
    assert len(family) > 3
    running.process.send_signal(number)
    status = running.wait_until_gone()
    assert alive(family) == []
    return status


def test_demo_access_works_and_is_private(data_dir: Path) -> None:
    with platform(data_dir) as running:
        demo = running.wait_until_ready()

        assert set(demo) == {"base_url", "api_key", "admin_url", "admin_user", "admin_password", "pid"}
        assert demo["base_url"] == f"http://127.0.0.1:{running.port}/v1"
        assert demo["pid"] == running.process.pid
        assert running.demo_file.stat().st_mode & 0o777 == 0o600
        models = httpx.get(f"{demo['base_url']}/models", headers={"Authorization": f"Bearer {demo['api_key']}"})
        assert "mock-chat" in {model["id"] for model in models.json()["data"]}
        assert httpx.get(demo["admin_url"], follow_redirects=True).status_code == 200
        assert demo["admin_user"] in running.output()
        assert demo["admin_password"] in running.output()


def test_printed_lines_work_when_pasted(data_dir: Path) -> None:
    with platform(data_dir) as running:
        running.wait_until_ready()
        wait_for(lambda: "Ctrl-C" in running.output(), 5)
        lines = running.output().splitlines()
        curl = next(line for line in lines if line.startswith("curl"))
        snippet = lines[lines.index("from openai import OpenAI") :]
        snippet = snippet[: snippet.index("")]

        # `shlex` reads the line as a shell does; `-f` makes curl fail when the gateway refuses.
        answer = subprocess.run([*shlex.split(curl), "-f"], check=True, capture_output=True, text=True).stdout
        assert '"assistant"' in answer
        said = subprocess.run([sys.executable, "-c", "\n".join(snippet)], check=True, capture_output=True, text=True)
        assert said.stdout.strip()


def test_a_second_start_is_refused(data_dir: Path) -> None:
    with platform(data_dir) as first:
        demo = first.wait_until_ready()
        with platform(data_dir) as second:
            assert second.wait_until_gone() == 1
            assert f"http://127.0.0.1:{first.port}" in second.output()
            assert str(first.process.pid) in second.output()

        assert first.process.poll() is None
        assert first.demo_file.exists()
        assert httpx.get(f"http://127.0.0.1:{first.port}/ready").status_code == 200
        assert demo["pid"] == first.process.pid


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_stops_every_process(data_dir: Path, number: signal.Signals, workers: str) -> None:
    with platform(data_dir, WORKERS=workers) as running:
        running.wait_until_ready()
        assert stopped_by(running, number) == 0
        assert not running.demo_file.exists()


def test_ctrl_c_reaches_the_whole_process_group(data_dir: Path) -> None:
    """A terminal signals the group; the children have groups of their own and are stopped in order instead."""
    with platform(data_dir) as running:
        running.wait_until_ready()
        family = running.family()
        os.killpg(running.process.pid, signal.SIGINT)
        assert running.wait_until_gone() == 0
        assert alive(family) == []
        assert "ended by itself" not in running.output()


def test_the_same_ctrl_c_may_arrive_several_times(data_dir: Path) -> None:
    """From the terminal, and from `make` that passes it on."""
    with platform(data_dir) as running:
        running.wait_until_ready()
        family = running.family()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGINT):
            running.process.send_signal(number)
        assert running.wait_until_gone() == 0
        assert alive(family) == []
        assert "Traceback" not in running.output()


def test_ctrl_c_while_starting_leaves_nothing(data_dir: Path) -> None:
    with platform(data_dir) as running:
        wait_for(lambda: "database schema" in running.output(), 60)
        family = running.family()
        running.process.send_signal(signal.SIGINT)
        assert running.wait_until_gone() == 0
        assert alive(family) == []


def test_recovers_after_kill_of_the_supervisor(data_dir: Path) -> None:
    with platform(data_dir, WORKERS="2") as killed:
        killed.wait_until_ready()
        remember(data_dir)
        family = killed.family()
        killed.process.kill()
        killed.process.wait()
        with platform(data_dir) as running:
            demo = running.wait_until_ready()
            assert demo["pid"] == running.process.pid
            assert alive(family) == []
            assert "still here" in recall(data_dir)
            assert stopped_by(running, signal.SIGTERM) == 0


def test_recovers_after_kill_of_everything(data_dir: Path) -> None:
    with platform(data_dir) as killed:
        killed.wait_until_ready()
        remember(data_dir)
        killed.kill_everything()
        with platform(data_dir) as running:
            running.wait_until_ready()
            assert "still here" in recall(data_dir)
            assert stopped_by(running, signal.SIGTERM) == 0


def test_leftovers_are_stopped_and_bystanders_are_not(data_dir: Path) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    environment = {"PATH": os.environ["PATH"]}
    programs = {
        "leftover": {**environment, MARKER: str(data_dir)},
        "of another folder": {**environment, MARKER: f"{data_dir}-other"},
    }
    started = {
        name: subprocess.Popen([sys.executable, "-c", stubborn], env=variables, stdout=subprocess.PIPE)
        for name, variables in programs.items()
    }
    try:
        for process in started.values():
            assert process.stdout
            process.stdout.readline()  # from here on it ignores SIGTERM
        with platform(data_dir) as running:
            running.wait_until_ready()
            assert started["leftover"].poll() == -signal.SIGKILL
            assert started["of another folder"].poll() is None
    finally:
        for process in started.values():
            process.kill()
            process.communicate()


def test_a_port_in_use_is_named(data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with platform(data_dir, PORT=port) as running:
            assert running.wait_until_gone() == 1
            assert f"PORT={port}" in running.output()
            assert "PostgreSQL" not in running.output()


@pytest.mark.parametrize(("name", "shown"), [("python", "web"), ("postgres", "PostgreSQL"), ("redis", "Redis")])
def test_the_death_of_a_part_stops_the_rest_and_is_told(data_dir: Path, name: str, shown: str) -> None:
    with platform(data_dir) as running:
        running.wait_until_ready()
        family = running.family()
        victim = next(child for child in psutil.Process(running.process.pid).children() if name in child.name())
        victim.kill()
        assert running.wait_until_gone() == 1
        assert f"{shown} ended by itself" in running.output()
        assert alive(family) == []


def test_an_unreachable_database_is_told_at_once(data_dir: Path) -> None:
    with platform(data_dir, DATABASE_URL="postgresql://nobody:secret@127.0.0.1:1/none") as running:
        assert running.wait_until_gone() == 1
        assert "DATABASE_URL cannot be reached" in running.output()
        assert "secret" not in running.output()


def test_commands_find_the_running_engines(data_dir: Path) -> None:
    with platform(data_dir) as running:
        running.wait_until_ready()
        environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(data_dir)}
        command = [sys.executable, "manage.py", "migrate", "--check"]
        assert subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0
