"""Operators of each role, logged in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from gateway.desk import kept
from tenants.models import Operator, Role
from tests.admin import seeding

PASSWORD = "correct horse battery"
LogIn = Callable[[str], Client]


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test has seen on the home page is not the next one's."""
    monkeypatch.setattr(kept, "SECONDS", 0)


@pytest.fixture
def log_in(db: None) -> LogIn:
    """A client of an operator with this role; "" for nobody."""

    def log_in(role: str) -> Client:
        client = Client()
        if role:
            operator, _ = Operator.objects.get_or_create(
                username=f"an-{role}", defaults={"role": role, "is_staff": True}
            )
            client.force_login(operator)
        return client

    return log_in


@pytest.fixture
def owner(log_in: LogIn) -> Client:
    return log_in(Role.OWNER)


@pytest.fixture
def operator(log_in: LogIn) -> Client:
    return log_in(Role.OPERATOR)


@pytest.fixture
def viewer(log_in: LogIn) -> Client:
    return log_in(Role.VIEWER)


@pytest.fixture
def seeded(db: None) -> seeding.Seeded:
    first = seeding.begin()
    seeding.grow(first, 3)
    return first
