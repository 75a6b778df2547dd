"""What `make run` does: bring the whole platform up on this machine, watch it, and take all of it down again.

Every process it starts is its child, so Ctrl-C stops them in order, a child that dies takes the platform with it, and
nothing is left behind (gateway/embedded/processes.py has the two nets for `kill -9`).
"""

import contextlib
import errno
import http.client
import io
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO

import psutil
import psycopg
import redis
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection

from gateway import demo_access
from gateway.embedded import EngineError, start_engines
from gateway.embedded.lock import FolderInUseError, FolderLock
from gateway.embedded.places import make_data_dir
from gateway.embedded.processes import Launch, SupervisedProcess, stop_orphans
from gateway.settings import child_environment

_READY_TIMEOUT_SECONDS = 60.0
_CONNECT_TIMEOUT_SECONDS = 5
# Requests under way get this long when the platform is stopped; a person is waiting for the prompt.
_DRAIN_SECONDS = 3
# Set for every child and inherited by theirs: who carries it while nobody holds the lock is a leftover of a killed run.
_MARKER = "BURSAR_SUPERVISED_IN"


class PlatformError(Exception):
    """The platform cannot run; the text is meant for the person at the terminal."""


def run_platform(out: TextIO) -> int:
    """Run until stopped by Ctrl-C, SIGTERM or a closed terminal. Returns the exit status: 0, or 1 after a failure."""
    _interrupt_on(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    status = 0
    with contextlib.ExitStack() as cleanup:
        try:
            _watch(_start(cleanup, out))
        except KeyboardInterrupt:
            _tell(out, "\nStopping ...\n")
        except (PlatformError, EngineError) as error:
            sys.stderr.write(f"error: {error}\n")
            status = 1
        finally:
            # After a failure too all goes down: a Ctrl-C now must not leave the rest running.
            _ignore(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    if status == 0:
        _tell(out, "Stopped.\n")
    return status


def _start(cleanup: contextlib.ExitStack, out: TextIO) -> list[SupervisedProcess]:
    """Start everything, in order, registering how each part is undone; returns what has to stay alive."""
    started = time.monotonic()
    data_dir: Path = settings.DATA_DIR
    _lock(cleanup, data_dir)
    _tell(out, f"Starting Bursar, data in {data_dir}\n")
    demo_access.withdraw(data_dir)
    if leftovers := stop_orphans(_carries_marker, signal.SIGTERM, timeout_seconds=_DRAIN_SECONDS + 2):
        _tell(out, f"Stopped {leftovers} process(es) that an earlier run left behind.\n")
    _check_port()
    processes = _start_given_or_embedded(cleanup, out)
    with _step(out, "database schema"):
        _prepare("migrate", interactive=False, verbosity=0)
    with _step(out, "demo tenant, key and operator"):
        demo = json.loads(_prepare("seed_demo", base_url=f"{_local_url()}/v1", pid=os.getpid()))
    # The pool keeps threads; children are better forked without any.
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]
    _empty_metrics_folder()
    for launch in _launches():
        with _step(out, launch.name):
            processes.append(SupervisedProcess(launch))
            cleanup.callback(processes[-1].stop)
            if launch.name == "web":
                _wait_until_ready(processes[-1])
    cleanup.callback(demo_access.withdraw, data_dir)
    demo_access.publish(data_dir, demo)
    _tell(out, f"  {'ready':<34}{time.monotonic() - started:6.2f} s in all\n")
    _tell(out, demo_access.welcome(data_dir, _local_url(), demo=demo))
    return processes


def _launches() -> list[Launch]:
    """The platform's own processes, in starting order."""
    return [_web(), _worker(), _job_worker(), _beat()]


def _web() -> Launch:
    command = [
        *(sys.executable, "-m", "uvicorn", "gateway.asgi:application"),
        *("--host", settings.HOST, "--port", str(settings.PORT), "--workers", str(settings.WORKERS)),
        *("--http", "httptools", "--loop", "uvloop", "--lifespan", "on"),
        *("--no-access-log", "--no-proxy-headers", "--log-level", "warning"),
        *("--ws-per-message-deflate", "false"),  # sound does not shrink by it, and it costs more than relaying
        *("--timeout-graceful-shutdown", str(_DRAIN_SECONDS)),
    ]
    return _launch("web", command)


def _worker() -> Launch:
    command = [*(sys.executable, "-m", "celery", "--quiet", "--app", "gateway", "worker"), *("--loglevel", "WARNING")]
    # SIGQUIT: tasks get a moment to finish, then they go back to the queue. SIGTERM would wait for the longest.
    return replace(_launch("worker", command), stop_signal=signal.SIGQUIT)


def _job_worker() -> Launch:
    """Apart from the other: a statement must not wait behind a call that takes minutes."""
    command = [*(sys.executable, "-m", "celery", "--quiet", "--app", "gateway", "worker"), *("--loglevel", "WARNING")]
    queue = ("--queues", "jobs", "--concurrency", str(settings.JOB_WORKER_CONCURRENCY))
    return replace(_launch("jobs", [*command, *queue]), stop_signal=signal.SIGQUIT)


def _beat() -> Launch:
    # Without a pid file: one that a killed run left behind would keep the next from starting.
    command = [*(sys.executable, "-m", "celery", "--quiet", "--app", "gateway", "beat"), *("--loglevel", "WARNING")]
    return _launch("beat", [*command, "--pidfile", ""])


def _launch(name: str, command: list[str]) -> Launch:
    return Launch(
        name=name,
        command=tuple(command),
        environment=child_environment(
            DATABASE_URL=settings.DATABASE_CONNINFO,
            REDIS_URL=settings.REDIS_CONNECTION,
            PROMETHEUS_MULTIPROC_DIR=str(_metrics_folder()),
            DRAIN_SHUTDOWN_SECONDS="1",
            SHUTDOWN_NOTICE_SECONDS="0",
            SHUTDOWN_SECONDS=str(_DRAIN_SECONDS - 1),
            **{_MARKER: str(settings.DATA_DIR)},
        ),
        working_folder=settings.BASE_DIR,
        log_path=settings.DATA_DIR / "logs" / f"{name}.log",
        stop_timeout_seconds=_DRAIN_SECONDS + 2,
    )


def _lock(cleanup: contextlib.ExitStack, data_dir: Path) -> None:
    try:
        make_data_dir(data_dir)
        cleanup.enter_context(FolderLock(data_dir / "run.lock", _local_url()))
    except FolderInUseError as error:
        raise PlatformError(
            f"Bursar already runs on {data_dir}: {error.url or 'just starting'} (process {error.pid or 'unknown'}). "
            "Use that one, or stop it first with Ctrl-C in its terminal."
        ) from error
    except OSError as error:
        raise PlatformError(f"DATA_DIR={data_dir} cannot be used: {error.strerror}.") from error


def _carries_marker(process: psutil.Process) -> bool:
    return process.environ().get(_MARKER) == str(settings.DATA_DIR)


def _check_port() -> None:
    """Find out before anything starts what would otherwise be the last thing to fail."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(settings.HOST, settings.PORT, type=socket.SOCK_STREAM)[
            0
        ]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            hint = f"PORT={settings.PORT + 1} make run"
            raise PlatformError(
                f"PORT={settings.PORT} is in use by another program. Stop it, or choose another port: {hint}"
            ) from error
        raise PlatformError(f"cannot listen on HOST={settings.HOST} PORT={settings.PORT}: {error.strerror}") from error


def _start_given_or_embedded(cleanup: contextlib.ExitStack, out: TextIO) -> list[SupervisedProcess]:
    """Check the servers that were given, start those that were not."""
    if settings.DATABASE_URL:
        with _step(out, "PostgreSQL of DATABASE_URL"):
            try:
                psycopg.connect(settings.DATABASE_URL, connect_timeout=_CONNECT_TIMEOUT_SECONDS).close()
            except psycopg.OperationalError as error:
                raise PlatformError(f"the database of DATABASE_URL cannot be reached: {error}") from error
    if settings.REDIS_URL:
        with _step(out, "Redis of REDIS_URL"):
            try:
                with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=_CONNECT_TIMEOUT_SECONDS) as client:
                    client.ping()
            except (redis.RedisError, ValueError) as error:
                raise PlatformError(f"the Redis of REDIS_URL cannot be reached: {error}") from error
    embedded = [name for name, url in (("PostgreSQL", settings.DATABASE_URL), ("Redis", settings.REDIS_URL)) if not url]
    if not embedded:
        return []
    with _step(out, f"embedded {' and '.join(embedded)}"):
        engines = start_engines(settings.DATA_DIR, postgres="PostgreSQL" in embedded, redis="Redis" in embedded)
        cleanup.callback(engines.stop)
    return list(engines.processes)


def _prepare(command: str, **options: object) -> str:
    """Run a management command in this process (a new interpreter would cost a second); returns what it printed."""
    printed = io.StringIO()
    try:
        call_command(command, stdout=printed, **options)
    except (CommandError, DatabaseError) as error:
        raise PlatformError(f"`manage.py {command}` failed: {error}") from error
    return printed.getvalue()


def _metrics_folder() -> Path:
    return Path(settings.DATA_DIR) / "metrics"


def _empty_metrics_folder() -> None:
    """The counters of processes that are gone would be added to those of the new ones."""
    shutil.rmtree(_metrics_folder(), ignore_errors=True)
    _metrics_folder().mkdir(mode=0o700)


def _local_host() -> str:
    """Where a client on this machine reaches us."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.HOST, settings.HOST)  # noqa: S104 - read, not bound


def _local_url() -> str:
    host = _local_host()
    return f"http://[{host}]:{settings.PORT}" if ":" in host else f"http://{host}:{settings.PORT}"


def _wait_until_ready(web: SupervisedProcess) -> None:
    last_answer = "nothing"

    def is_ready() -> bool:
        nonlocal last_answer
        request = http.client.HTTPConnection(_local_host(), settings.PORT, timeout=_CONNECT_TIMEOUT_SECONDS)
        with contextlib.closing(request), contextlib.suppress(OSError, http.client.HTTPException):
            request.request("GET", "/ready")
            response = request.getresponse()
            last_answer = f"{response.status} {response.read(500).decode(errors='replace')}"
            return response.status == http.client.OK
        return False

    try:
        web.wait_until(is_ready, _READY_TIMEOUT_SECONDS)
    except EngineError as error:
        raise PlatformError(f"{error}\n  GET /ready last answered: {last_answer}") from error


def _watch(processes: list[SupervisedProcess]) -> NoReturn:
    while True:
        for process in processes:
            if process.exit_code is not None:
                raise PlatformError(process.obituary())
        time.sleep(0.25)


@contextlib.contextmanager
def _step(out: TextIO, title: str) -> Iterator[None]:
    """Show what is being done and, when it is done, how long it took."""
    started = time.monotonic()
    _tell(out, f"  {title:<34}")
    outcome = "not finished"
    try:
        yield
        outcome = f"{time.monotonic() - started:6.2f} s"
    finally:
        _tell(out, f"{outcome}\n")


def _tell(out: TextIO, text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone; what it asked for still has to be done
        out.write(text)
        out.flush()


def _interrupt_on(*signals: signal.Signals) -> None:
    for number in signals:
        # Under nohup a closed terminal is ignored on purpose; a shell's `&` ignores Ctrl-C without meaning `kill -INT`.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt_once)


def _interrupt_once(_number: int, _frame: FrameType | None) -> NoReturn:
    """A terminal and `make` may both pass on one Ctrl-C: the second must not break into the stopping."""
    _ignore(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    raise KeyboardInterrupt


def _ignore(*signals: signal.Signals) -> None:
    """By a handler that does nothing: Python complains of one that was pending when it is set to SIG_IGN."""
    for number in signals:
        signal.signal(number, lambda _number, _frame: None)
