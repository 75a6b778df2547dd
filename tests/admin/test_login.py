"""The admin's login holds off who tries too often: by address, by username, over processes, with and without Redis."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
import time_machine
from django.http import HttpRequest
from django.test import Client
from django_ratelimit.core import get_usage
from redis import Redis

from tenants.models import Operator, Role
from tests import engines
from tests.live import LiveServer

TRIES = 5
PASSWORD = "correct horse battery"
NOBODY_LISTENS = "unix:///nowhere/nobody-listens.sock?db=0"


@pytest.fixture(autouse=True)
def _nothing_counted(settings: Any) -> None:
    with Redis.from_url(settings.REDIS_CONNECTION) as redis:
        redis.flushdb()


@pytest.fixture
def _within_a_minute() -> Iterator[None]:
    """Tries are counted by the minute of the clock, and a password takes its time to check."""
    with time_machine.travel(dt.datetime.now(dt.UTC), tick=False):
        yield


@pytest.fixture
def somebody(db: None, _within_a_minute: None, settings: Any) -> Operator:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the usual one is slow on purpose
    return Operator.objects.create_user("somebody", password=PASSWORD, role=Role.VIEWER, is_staff=True)


def attempt(username: str, password: str = "wrong", *, address: str = "198.51.100.7", **headers: str) -> Any:
    return Client(REMOTE_ADDR=address, **headers).post("/admin/login/", {"username": username, "password": password})


def test_one_address_tries_one_password_on_many_usernames(somebody: Operator) -> None:
    statuses = [attempt(f"user-{number}").status_code for number in range(TRIES + 2)]
    assert statuses == [200] * TRIES + [429] * 2
    refused = attempt(somebody.username, PASSWORD)
    assert refused.status_code == 429, "the right password too"
    seconds = int(refused["Retry-After"])
    assert 1 <= seconds <= 60 and f"Try again in {seconds} second" in refused.content.decode()
    assert Client(REMOTE_ADDR="198.51.100.7").get("/admin/login/").status_code == 200
    assert attempt(somebody.username, PASSWORD, address="198.51.100.8").status_code == 302, "others may"


def test_many_addresses_try_one_username(somebody: Operator) -> None:
    statuses = [attempt("SomeBody", address=f"198.51.100.{number}").status_code for number in range(2 * TRIES + 1)]
    assert statuses == [200] * 2 * TRIES + [429]
    assert attempt("somebody", PASSWORD, address="203.0.113.1").status_code == 429
    assert attempt("somebody-else", address="203.0.113.1").status_code == 200


def test_one_address_cannot_keep_an_operator_out(somebody: Operator) -> None:
    for _ in range(20):
        attempt(somebody.username)
    assert attempt(somebody.username, PASSWORD, address="203.0.113.1").status_code == 302


def test_a_claimed_address_counts_for_nothing(somebody: Operator) -> None:
    forged = [
        attempt(f"user-{number}", HTTP_X_FORWARDED_FOR=f"192.0.2.{number}").status_code for number in range(TRIES + 1)
    ]
    assert forged == [200] * TRIES + [429]


def test_addresses_behind_a_trusted_proxy(somebody: Operator, settings: Any) -> None:
    settings.TRUSTED_PROXIES = (ip_network("10.0.0.0/8"),)
    statuses = [
        attempt(f"user-{number}", address="10.0.0.1", HTTP_X_FORWARDED_FOR=f"192.0.2.{number}").status_code
        for number in range(TRIES + 1)
    ]
    assert statuses == [200] * (TRIES + 1)
    one = [
        attempt(f"user-{number}", address="10.0.0.1", HTTP_X_FORWARDED_FOR="192.0.2.1, 192.0.2.99").status_code
        for number in range(TRIES + 1)
    ]
    assert one == [200] * TRIES + [429], "what the client itself claims stands before it"


def test_without_redis(somebody: Operator, settings: Any) -> None:
    """Nobody is counted, and nobody is kept out; a session is read from the database."""
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": NOBODY_LISTENS}}
    assert {attempt("user").status_code for _ in range(TRIES + 2)} == {200}
    client = Client()
    answer = client.post("/admin/login/", {"username": "somebody", "password": PASSWORD, "next": "/admin/"})
    assert answer.status_code == 302
    assert client.get("/admin/").status_code == 200
    assert client.post("/admin/logout/").status_code in (200, 302)


@pytest.fixture
def two(tmp_path: Path, django_db_setup: None, django_db_blocker: Any) -> Iterator[list[LiveServer]]:
    with django_db_blocker.unblock():
        servers = [LiveServer("uvicorn", tmp_path, TRUSTED_PROXIES="127.0.0.1") for _ in range(2)]
        yield servers
        for server in servers:
            server.stop()
        engines.empty_database()


def address_with_time_left() -> str:
    """One whose minute has just begun: here nobody can stop the clock."""

    def seconds_left(address: str) -> int:
        usage = get_usage(HttpRequest(), group="any", key=lambda *_: address, rate=f"{TRIES}/m")
        assert usage is not None
        return int(usage["time_left"])

    return max((f"192.0.2.{number}" for number in range(256)), key=seconds_left)


def test_the_other_process_knows(two: list[LiveServer]) -> None:
    address = address_with_time_left()
    statuses = []
    for number in range(TRIES + 1):
        with httpx.Client(
            base_url=two[number % 2].origin, trust_env=False, headers={"x-forwarded-for": address}
        ) as client:
            page = client.get("/admin/login/")
            token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
            assert token is not None
            form = {"csrfmiddlewaretoken": token[1], "username": f"user-{number}", "password": "wrong"}
            statuses.append(client.post("/admin/login/", data=form).status_code)
    assert statuses == [200] * TRIES + [429]
