"""Where a request comes from, for both planes."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

SMALLEST_NETWORK_BITS = 64
"""Whoever has one IPv6 address has at least so many others."""


def client_address(meta: Mapping[str, Any], *, trusted_proxies: Sequence[IpNetwork]) -> IpAddress | None:
    """The peer, or whom the trusted proxies in front of us saw; None when that is no address."""
    hops = [part.strip() for part in meta.get("HTTP_X_FORWARDED_FOR", "").split(",") if part.strip()]
    hops.append(meta.get("REMOTE_ADDR", ""))
    address: IpAddress | None = None
    while hops:
        try:
            address = ipaddress.ip_address(hops.pop())
        except ValueError:
            return None
        if not any(address in network for network in trusted_proxies):
            return address
    return address


def counted_as(address: IpAddress | None) -> str:
    """Under which name what an address does is counted: all of an IPv6 network as one."""
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, SMALLEST_NETWORK_BITS), strict=False))
    return str(address)
