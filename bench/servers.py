"""Starts the servers of the benchmark and ends them: the mock provider, the yardstick, and any other child."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.errors import BenchError
from bench.load import Target
from bench.native import build

ROOT = Path(__file__).parent.parent
START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 40  # a gateway may finish its open requests first
LOG_TAIL_CHARACTERS = 2000
UVICORN_OPTIONS = (
    "--http",
    "httptools",
    "--loop",
    "uvloop",
    "--no-access-log",
    "--no-proxy-headers",
    "--ws-per-message-deflate",
    "false",
    "--log-level",
    "warning",
)


@contextmanager
def running(
    command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a child in the project's folder while the block runs; its output goes to `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def mock_provider(scratch: Path, port: int = 0) -> Iterator[Target]:
    """The mock provider on this port; 0 takes a free one."""
    log = scratch / "mock_provider.log"
    with running([str(build("mock_provider")), "--port", str(port)], log=log) as process:
        _wait_until(process, log, is_ready=lambda: b"\n" in log.read_bytes())
        url = "http://" + log.read_text().split()[-1]
        yield Target("direct", url, process.pid)


@contextmanager
def uvicorn_server(
    application: str, name: str, *, scratch: Path, environment: Mapping[str, str], workers: int = 1
) -> Iterator[Target]:
    """uvicorn with the options production has, ready when its port answers."""
    port = free_port()
    log = scratch / f"{name}.log"
    command = [sys.executable, "-m", "uvicorn", application, "--port", str(port), *UVICORN_OPTIONS]
    command += ["--workers", str(workers)] if workers > 1 else []
    with running(command, log=log, environment=environment) as process:
        _wait_until(process, log, is_ready=lambda: _accepts_connections(port))
        yield Target(name, f"http://127.0.0.1:{port}", process.pid)


@contextmanager
def yardstick(provider_url: str, scratch: Path) -> Iterator[Target]:
    """The bare relay in front of this provider."""
    environment = {"PROVIDER_URL": provider_url}
    with uvicorn_server("bench.yardstick:app", "yardstick", scratch=scratch, environment=environment) as target:
        yield target


def _wait_until(process: subprocess.Popen[bytes], log: Path, *, is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            state = "did not start in time" if process.poll() is None else f"ended ({process.returncode})"
            tail = log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:]
            raise BenchError(f"{log.stem} {state}. The end of its output:\n{tail}")
        time.sleep(0.02)


def _accepts_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    """Return once somebody listens there. Raises BenchError."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not _accepts_connections(port):
        if time.monotonic() > deadline:
            raise BenchError(f"Nobody listens on port {port}.")
        time.sleep(0.02)
