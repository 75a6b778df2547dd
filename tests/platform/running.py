"""The real `manage.py run_platform` as a process of its own, with a data folder and a port of its own."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
READY_TIMEOUT_SECONDS = 90.0
STOP_TIMEOUT_SECONDS = 20.0
# What of this process's environment the platform gets: nothing that names the test run's own engines.
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR")


class Platform:
    """One start of the platform; everything it and its children are is known through `family`."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.data_dir = data_dir
        self.port = int(environment.setdefault("PORT", str(free_port())))
        self.demo_file = data_dir / "demo.json"
        self._environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        self._environment |= {"DATA_DIR": str(data_dir), **environment}
        self._output: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - read until the object goes
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "run_platform"],
            cwd=ROOT,
            env=self._environment,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait_until_ready(self) -> dict[str, Any]:
        """Returns demo.json, which appears when the platform answers; one of a killed run may lie there before."""
        wait_for(lambda: self._demo().get("pid") == self.process.pid or not self.is_running, READY_TIMEOUT_SECONDS)
        assert self.is_running, self.output()
        return self._demo()

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def _demo(self) -> dict[str, Any]:
        try:
            demo: dict[str, Any] = json.loads(self.demo_file.read_text())
        except FileNotFoundError:
            return {}
        return demo

    def wait_until_gone(self) -> int:
        """Returns the exit status."""
        return self.process.wait(STOP_TIMEOUT_SECONDS)

    def output(self) -> str:
        """What it has printed so far."""
        self._output.seek(0)
        return self._output.read()

    def family(self) -> list[psutil.Process]:
        """The supervisor and everything below it."""
        supervisor = psutil.Process(self.process.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def kill_everything(self) -> None:
        """`kill -9` of all at once: the supervisor is halted first, so that it can neither notice nor clean up."""
        with contextlib.suppress(psutil.NoSuchProcess):
            supervisor, *children = self.family()
            supervisor.suspend()
            for process in (*children, supervisor):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait(STOP_TIMEOUT_SECONDS)

    def end(self) -> None:
        """Leave nothing behind, whatever the test did."""
        self.kill_everything()
        self._output.close()


@contextlib.contextmanager
def platform(data_dir: Path, **environment: str) -> Iterator[Platform]:
    """A platform that is starting; stopped in the end by force if the test has not done so."""
    started = Platform(data_dir, **environment)
    try:
        yield started
    finally:
        started.end()


@contextlib.contextmanager
def temporary_data_dir() -> Iterator[Path]:
    """A folder with a short name that PostgreSQL's own account may enter; pytest's is neither for root."""
    folder = Path(tempfile.mkdtemp(prefix="bursar-run-"))
    folder.chmod(0o711)
    try:
        yield folder / "data"
    finally:
        shutil.rmtree(folder)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still do something; a dead process nobody has collected yet does not."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def wait_for(condition: Callable[[], bool], timeout_seconds: float) -> None:
    """Poll until `condition()` holds; fails the test when it never does."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_seconds:g} s"
        time.sleep(0.05)


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
