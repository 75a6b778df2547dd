"""What every test may use."""

# First of all: it names the engines in the environment before anything reads the settings.
from tests import engines

# isort: split
import os
from collections.abc import Iterator

import pytest
from django.db import connection, connections
from django.test import TransactionTestCase
from hypothesis import settings
from xdist import is_xdist_controller

# A busy machine may take a second over what takes a millisecond on another.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

pytest_plugins = ["tests.fakes.fixtures"]


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: many tests wait for other processes."""
    return (os.cpu_count() or 1) + 1


def pytest_sessionstart(session: pytest.Session) -> None:
    """Before xdist makes its workers: they share these engines and copy this template."""
    if is_xdist_controller(session):
        engines.start()
        engines.create_template()


@pytest.fixture(scope="session", autouse=True)
def _engines() -> None:
    engines.start()


@pytest.fixture(scope="session")
def django_db_setup(_engines: None) -> Iterator[None]:
    """Instead of pytest-django's own, which would run all migrations in every process."""
    engines.create_template()
    engines.create_own_database()
    with pytest.MonkeyPatch.context() as patch:  # what pytest-django's transactional tests end with
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _: engines.empty_database())
        yield
    connections.close_all()
    connection.close_pool()
