"""Private PostgreSQL and Redis servers for the first run and the tests, out of PyPI wheels.

Real servers, the same that production has: there is no second code path for a laptop. They listen on unix sockets only
the owner can open, keep their data below one folder, and end with the process that started them. Nothing here knows
Django, so settings may ask `engine_urls` while they are being read.
"""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from gateway.embedded.places import make_data_dir
from gateway.embedded.postgres import postgres_url, start_postgres, wait_for_postgres
from gateway.embedded.processes import EngineError, SupervisedProcess
from gateway.embedded.redis import redis_url, start_redis, wait_for_redis

__all__ = ["EngineError", "Engines", "RunningEngines", "engine_urls", "start_engines"]


@dataclass(frozen=True)
class Engines:
    """Where both servers of one data folder listen: `postgresql://…?host=FOLDER` and `unix://PATH?db=0`."""

    database_url: str
    redis_url: str


@dataclass
class RunningEngines:
    """The servers that were started; a context manager that stops them."""

    database_url: str | None = None
    redis_url: str | None = None
    processes: list[SupervisedProcess] = field(default_factory=list)

    def stop(self) -> None:
        """Stop both, last started first; returns when they are gone."""
        with contextlib.ExitStack() as stack:
            for process in self.processes:
                stack.callback(process.stop)

    def __enter__(self) -> "RunningEngines":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()


def engine_urls(data_dir: Path) -> Engines:
    """Where the servers of `data_dir` listen, whether or not they run."""
    return Engines(database_url=postgres_url(data_dir), redis_url=redis_url(data_dir))


def start_engines(data_dir: Path, *, postgres: bool = True, redis: bool = True, durable: bool = True) -> RunningEngines:
    """Start the servers asked for and wait until they answer.

    Only one process at a time may do this for a data folder (the caller holds a lock): a server found working in it is
    taken for one that an earlier, killed run left behind, and stopped. `durable=False` is for tests: nothing waits for
    the disk. Raises EngineError with one sentence for the user; then nothing is left running.
    """
    make_data_dir(data_dir)
    logs = data_dir.resolve() / "logs"
    engines = RunningEngines()
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(engines.stop)
        # Redis comes up in the background while PostgreSQL does its longer preparations.
        if redis:
            engines.processes.append(start_redis(data_dir, logs / "redis.log", durable=durable))
            engines.redis_url = redis_url(data_dir)
        if postgres:
            engines.processes.append(start_postgres(data_dir, logs / "postgres.log", durable=durable))
            engines.database_url = postgres_url(data_dir)
            wait_for_postgres(engines.processes[-1], data_dir)
        if redis:
            wait_for_redis(engines.processes[0], data_dir)
        on_failure.pop_all()
    return engines
