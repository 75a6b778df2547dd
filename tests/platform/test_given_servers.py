"""With DATABASE_URL and REDIS_URL of servers that somebody else runs: Debian's PostgreSQL 15 and Redis 7."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psycopg
import pytest
import redis

from gateway.embedded.places import make_private, server_account
from gateway.embedded.processes import Launch, SupervisedProcess
from tests.platform.running import alive, free_port, platform, temporary_data_dir

POSTGRES_PROGRAMS = Path("/usr/lib/postgresql/15/bin")
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


def missing(what: str) -> None:
    """On the build server everything is installed, so there a missing server is a failure."""
    message = f"{what} is not installed (Debian: apt-get install postgresql-15 redis-server): NOT TESTED with it"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary_data_dir() as data_dir:
        yield data_dir.parent


@pytest.fixture
def database_url(folder: Path) -> Iterator[str]:
    """A PostgreSQL 15 on a TCP port with a user, a password and an empty database."""
    if not POSTGRES_PROGRAMS.exists():
        missing("PostgreSQL 15")
    home, port = folder / "postgres-15", free_port()
    account = server_account(home)
    make_private(home, account)
    identity = {"user": account.uid, "group": account.gid} if account else {}
    initdb = [POSTGRES_PROGRAMS / "initdb", "-D", home / "data", "-U", "postgres", "--auth-host=scram-sha-256"]
    subprocess.run(initdb, check=True, capture_output=True, cwd=home, env=ENVIRONMENT, **identity)
    options = {"unix_socket_directories": home, "listen_addresses": "127.0.0.1", "port": port, "fsync": "off"}
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    launch = Launch(
        name="given PostgreSQL",
        command=(str(POSTGRES_PROGRAMS / "postgres"), "-D", str(home / "data"), *settings),
        environment=ENVIRONMENT,
        working_folder=home,
        log_path=folder / "logs" / "postgres-15.log",
        stop_signal=signal.SIGINT,
        account=account,
    )
    with ExitStack() as cleanup:
        server = SupervisedProcess(launch)
        cleanup.callback(server.stop)
        server.wait_until(lambda: create_database(home, port), 30)
        yield f"postgresql://bursar:s%40cret@127.0.0.1:{port}/gateway"


def create_database(socket_folder: Path, port: int) -> bool:
    """As an administrator would by hand; False while the server is not up."""
    try:
        connection = psycopg.connect(f"host={socket_folder} port={port} user=postgres dbname=postgres", autocommit=True)
    except psycopg.OperationalError:
        return False
    with connection:
        connection.execute("CREATE ROLE bursar LOGIN PASSWORD 's@cret'")
        connection.execute("CREATE DATABASE gateway OWNER bursar")
    return True


@pytest.fixture
def redis_url(folder: Path) -> Iterator[str]:
    """A Redis 7 on a TCP port with a password."""
    program = shutil.which("redis-server")
    if program is None:
        missing("Redis 7")
    home, port = folder / "redis-7", free_port()
    make_private(home, None)
    launch = Launch(
        name="given Redis",
        command=(str(program), "--bind", "127.0.0.1", "--port", str(port), "--requirepass", "secret", "--save", ""),
        environment=ENVIRONMENT,
        working_folder=home,
        log_path=folder / "logs" / "redis-7.log",
    )
    url = f"redis://:secret@127.0.0.1:{port}/3"
    with ExitStack() as cleanup:
        server = SupervisedProcess(launch)
        cleanup.callback(server.stop)
        client = cleanup.enter_context(redis.Redis.from_url(url))
        server.wait_until(lambda: answers(client), 30)
        version = client.info("server")["redis_version"]
        assert version.startswith("7."), f"this is Redis {version}"
        yield url


def answers(client: redis.Redis) -> bool:
    """Whether the server is up."""
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_the_given_servers_are_used_and_left_running(folder: Path, database_url: str, redis_url: str) -> None:
    with platform(folder / "data", DATABASE_URL=database_url, REDIS_URL=redis_url) as running:
        demo = running.wait_until_ready()
        family = running.family()
        assert not {"postgres", "redis-server"} & {process.name() for process in family}

        question = {"model": "mock-chat", "messages": [{"role": "user", "content": "Hello"}]}
        headers = {"Authorization": f"Bearer {demo['api_key']}"}
        answer = httpx.post(f"{demo['base_url']}/chat/completions", json=question, headers=headers)
        assert answer.status_code == 200, answer.text

        running.process.send_signal(signal.SIGTERM)
        assert running.wait_until_gone() == 0
        assert alive(family) == []

    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) > 0 FROM django_migrations").fetchone() == (True,)
        assert connection.info.server_version // 10_000 == 15
    with redis.Redis.from_url(redis_url) as client:
        assert client.ping()
