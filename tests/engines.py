"""The test run's own PostgreSQL and Redis: fresh, private, and gone at the end.

Importing this module names the engines in the environment and sets Django up, so it has to come first in conftest.py.
One process starts the engines: the only one, or xdist's controller before it makes its workers. The migrations run
once, into a template database; every process that runs tests gets a copy of it, and a Redis database of its own.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import django
import psycopg
import pytest
from django.conf import settings
from django.db import OperationalError, connection, transaction
from psycopg import errors, sql

from gateway.embedded import RunningEngines, engine_urls, start_engines

ROOT = Path(__file__).resolve().parent.parent
_TEMPLATE = "bursar_template"
# How the controller tells its workers where the engines are.
_FOLDER_VARIABLE = "BURSAR_TEST_FOLDER"
# "gw0", "gw1" and so on in a worker of xdist.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
_running: RunningEngines | None = None
# What `migrate` fills and no test changes for others to see. Nothing in them refers to any other table.
_MIGRATED = {
    "auth_permission",
    "django_celery_beat_clockedschedule",
    "django_celery_beat_crontabschedule",
    "django_celery_beat_intervalschedule",
    "django_celery_beat_periodictask",
    "django_celery_beat_periodictasks",
    "django_celery_beat_solarschedule",
    "django_content_type",
}
# Less than `deadlock_timeout`: PostgreSQL might end the statement of a server instead.
_LOCK_TIMEOUT_MS = 300
_EMPTYING_SECONDS = 30.0


def start() -> None:
    """Start the engines, unless this process has already or is a worker of the one that did."""
    global _running
    if _running is None and not _WORKER:
        _running = start_engines(_folder() / "engines", durable=False)


def create_template() -> None:
    """Run the migrations, once, into the database all others are copied from."""
    if _WORKER:
        return
    with _administration() as administration:
        administration.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_TEMPLATE)))
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database_url(_TEMPLATE)},
        check=True,
    )


def create_own_database() -> None:
    """Make the database that settings name in this process."""
    create_database(_own_database())


def create_database(name: str) -> str:
    """Make a fresh copy of the migrated, empty database; returns its URL. For servers that run beside the test."""
    with _administration() as administration:
        copy, template = sql.Identifier(name), sql.Identifier(_TEMPLATE)
        administration.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(copy))
        administration.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(copy, template))
    return database_url(name)


def empty_database() -> None:
    """Delete all rows of this process's database but those that migrating it made, also while servers write to it.

    Django's `flush` would lock every table in an order that is not the servers', and then make permissions and the
    schedule anew, which takes ten times as long. Numbers are not given out again: servers and Redis remember what
    belonged to them.
    """
    deadline = time.monotonic() + _EMPTYING_SECONDS
    while True:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}")
                _truncate(cursor)
            return
        except OperationalError as error:
            is_locked = isinstance(error.__cause__, (errors.LockNotAvailable, errors.DeadlockDetected))
            if not is_locked or time.monotonic() > deadline:
                raise
        time.sleep(_LOCK_TIMEOUT_MS / 1000)  # whoever writes has the tables for as long as it was kept from them


def _truncate(cursor: Any) -> None:
    """Only tables with rows: a new file for each of seventy takes longer than a look into them."""
    names = sorted(set(connection.introspection.django_table_names(only_existing=True)) - _MIGRATED)
    tables = [sql.Identifier(name) for name in names]
    looks = sql.SQL(", ").join(sql.SQL("EXISTS (SELECT FROM {})").format(table) for table in tables)
    cursor.execute(sql.SQL("SELECT {}").format(looks))
    full = [table for table, has_rows in zip(tables, cursor.fetchone(), strict=True) if has_rows]
    if full:
        cursor.execute(sql.SQL("TRUNCATE {} CASCADE").format(sql.SQL(", ").join(full)))


def database_url(name: str) -> str:
    """The URL of the database `name` on the run's own server."""
    return urlunsplit(urlsplit(engine_urls(_folder() / "engines").database_url)._replace(path=f"/{name}"))


def _redis_url() -> str:
    number = int(_WORKER.removeprefix("gw") or 0)
    return engine_urls(_folder() / "engines").redis_url.replace("?db=0", f"?db={number}")


def _own_database() -> str:
    return f"bursar_{_WORKER or 'main'}"


def _administration() -> psycopg.Connection:
    return psycopg.connect(database_url("postgres"), autocommit=True)


def _folder() -> Path:
    return Path(os.environ[_FOLDER_VARIABLE])


def _stop() -> None:
    if _running is not None:
        _running.stop()
    shutil.rmtree(_folder(), ignore_errors=True)


def _prepare() -> None:
    if settings.configured:
        raise pytest.UsageError("settings were read before the engines had names: unset DJANGO_SETTINGS_MODULE")
    if not _WORKER:
        os.environ[_FOLDER_VARIABLE] = tempfile.mkdtemp(prefix="bursar-tests-")
        atexit.register(_stop)  # also after Ctrl-C, and when conftest.py itself cannot be loaded
        # Run by root, PostgreSQL has an account of its own that must pass through.
        _folder().chmod(0o711)
    for name in ("DATABASE_URL_FILE", "REDIS_URL_FILE", "PROMETHEUS_MULTIPROC_DIR"):
        os.environ.pop(name, None)
    # Each of hundreds of processes would compile the platform anew, a fifth of what its start takes.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["DATA_DIR"] = str(_folder() / f"data-{_WORKER or 'main'}")
    os.environ["DATABASE_URL"] = database_url(_own_database())
    os.environ["REDIS_URL"] = _redis_url()
    # Only while Django is set up: workers inherit the environment, and pytest-django would read the settings there
    # before this module has given them a database of their own.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_SETTINGS_MODULE", "gateway.settings")
        django.setup()


_prepare()
