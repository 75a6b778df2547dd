"""A flood of guessed API keys from one address: it is not looked up for ever, and good keys go on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.bad_keys import ADDRESSES_KEPT, BadKeys
from gateway.errors import RateLimitedError
from tenants.keys import generate_key
from tenants.models import ApiKey
from tests import factories
from tests.gateway.conftest import Platform
from tests.live import LiveServer, until

PER_MINUTE = 5
ALLOWED_THEN_REFUSED = [401] * PER_MINUTE + [429] * 2
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, seeded: Platform) -> Iterator[LiveServer]:
    """Behind a proxy that is trusted, so that each test floods from an address of its own."""
    server = LiveServer(
        "uvicorn", tmp_path_factory.mktemp("guarded"), BAD_KEYS_PER_MINUTE=str(PER_MINUTE), TRUSTED_PROXIES="127.0.0.1"
    )
    yield server
    server.stop()


@pytest.fixture
def address() -> str:
    return f"198.51.100.{next(NUMBERS)}"


def models(server: LiveServer, key: str, address: str) -> httpx.Response:
    with server.client(key) as client:
        return client.get("/models", headers={"x-forwarded-for": address})


def flood(server: LiveServer, *addresses: str) -> list[int]:
    """The statuses of two guesses too many, from these addresses in turn."""
    turns = itertools.islice(itertools.cycle(addresses), PER_MINUTE + 2)
    return [models(server, generate_key(), address).status_code for address in turns]


def test_a_flood(guarded: LiveServer, platform: Platform, address: str) -> None:
    assert models(guarded, platform.key, address).status_code == 200
    assert flood(guarded, address) == ALLOWED_THEN_REFUSED
    refused = models(guarded, generate_key(), address)
    error = refused.json()["error"]
    assert (error["code"], error["scope"], error["limit"]) == ("rate_limited", "address", PER_MINUTE)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert models(guarded, "not even a key", address).status_code == 429
    assert models(guarded, platform.key, address).status_code == 200, "a good key goes on"


def test_a_good_key_goes_on_after_a_change(guarded: LiveServer, platform: Platform, address: str) -> None:
    """A change makes the process forget whom keys belong to, and it looks this one up again all the same."""
    key, text = factories.make_key(platform.tenant)
    assert models(guarded, text, address).status_code == 200
    assert flood(guarded, address)[-1] == 429
    for scopes, status in ((["chat"], 403), ([], 200)):
        ApiKey.objects.filter(pk=key.pk).update(scopes=scopes)
        until(lambda status=status: models(guarded, text, address).status_code == status, what=f"a {status}")


def test_no_key_is_no_guess(guarded: LiveServer, platform: Platform, address: str) -> None:
    with guarded.client() as client:
        asked = [client.get("/models", headers={"x-forwarded-for": address}) for _ in range(PER_MINUTE + 2)]
    assert {answer.status_code for answer in asked} == {401}


def test_the_share_of_another_address_is_its_own(guarded: LiveServer, platform: Platform, address: str) -> None:
    assert flood(guarded, address) == ALLOWED_THEN_REFUSED
    assert flood(guarded, "203.0.113.1") == ALLOWED_THEN_REFUSED
    many = [f"2001:db8::{number}" for number in range(1, PER_MINUTE + 3)]
    assert flood(guarded, *many) == ALLOWED_THEN_REFUSED, "who has one address of IPv6 has all of its network"


def test_a_claimed_address_counts_for_nothing(tmp_path: Path, platform: Platform) -> None:
    """Without a trusted proxy the peer is who floods, whatever it says."""
    server = LiveServer("uvicorn", tmp_path, BAD_KEYS_PER_MINUTE=str(PER_MINUTE))
    try:
        assert flood(server, *(f"203.0.113.{number}" for number in range(10))) == ALLOWED_THEN_REFUSED
    finally:
        server.stop()


def test_memory_is_bounded_and_zero_is_off() -> None:
    guard = BadKeys(1)
    for number in range(ADDRESSES_KEPT + 1):
        guard.refused(f"address {number}")
    assert len(guard._refused) == ADDRESSES_KEPT
    with pytest.raises(RateLimitedError):
        guard.refused(f"address {ADDRESSES_KEPT}")
    guard.refused("address 0")  # the oldest was forgotten
    off = BadKeys(0)
    for _ in range(100):
        off.refused("address")
    off.check("address", b"digest")
