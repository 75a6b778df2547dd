"""Which addresses a provider may have."""

from __future__ import annotations

import ipaddress

import pytest

from providers.base_urls import check_base_url
from tenants.addresses import is_public


@pytest.mark.parametrize("url", ["https://api.openai.com/v1", "https://api.example.com:8443", "https://8.8.8.8/v1"])
def test_public_https(url: str) -> None:
    assert check_base_url(url, allow_private_network=False) is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/v1", "http://gpu-box:8000/v1", "http://[::1]:1/"])
def test_a_server_of_ones_own_needs_permission(url: str) -> None:
    assert check_base_url(url, allow_private_network=True) is None
    assert check_base_url(url, allow_private_network=False) is not None


@pytest.mark.parametrize(
    "url",
    [
        "", "api.example.com", "ftp://example.com", "file:///etc/passwd", "https://", "https://user:pass@example.com",
        "https://example.com/v1?key=x", "https://example.com/#x", "https://example.com:99999/", "https://[bad/",
    ],
)  # fmt: skip
def test_never(url: str) -> None:
    for allowed in (False, True):
        assert check_base_url(url, allow_private_network=allowed) is not None


@pytest.mark.parametrize(
    "url", ["https://localhost/", "https://127.0.0.1/", "https://10.1.2.3/", "https://[::ffff:169.254.169.254]/"]
)
def test_private_addresses_in_disguise(url: str) -> None:
    assert check_base_url(url, allow_private_network=False) is not None


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "0.0.0.0", "224.0.0.1", "100.64.0.1", "::1", "::",
        "fe80::1", "fc00::1", "fec0::1", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::", "2001:0:1::",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


def test_addresses_that_are() -> None:
    assert is_public(ipaddress.ip_address("8.8.8.8")) and is_public(ipaddress.ip_address("2606:4700::1111"))
