"""Which addresses on the network may be dialled for a tenant."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "fec0::/10", "2001::/32", "::/96")
)
"""Python 3.11 calls NAT64, 6to4, site-local, Teredo and `::127.0.0.1` global; they lead to private IPv4 addresses."""


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Say whether an address is reachable on the public internet and may be dialled for a client."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if any(address in network for network in NOT_PUBLIC):
            return False
    return address.is_global and not address.is_multicast


def is_literal_private(host: str) -> bool:
    """Say whether a host is written as an address that is not public, or is a name of this machine."""
    if host.lower().rstrip(".") in ("localhost", "localhost.localdomain"):
        return True
    try:
        return not is_public(ipaddress.ip_address(host))
    except ValueError:
        return False


def check_webhook_url(url: str, *, allow_private_network: bool) -> str | None:
    """Say what is wrong with a webhook's URL, in words for the operator; None when it may be used.

    The address a name resolves to is checked when the connection is made, not here.
    """
    try:
        parts = urlsplit(url)
        is_valid = (parts.port is None or parts.port > 0) and bool(parts.hostname)
    except ValueError:
        is_valid = False
    is_plain = url.isascii() and url.isprintable() and " " not in url
    if not is_valid or not is_plain or parts.scheme not in ("http", "https"):
        return "Give a URL such as https://hooks.example.com/bursar."
    if parts.username or parts.password:
        return "A webhook's URL has no user and password: its calls are signed instead."
    if parts.fragment:
        return "A webhook's URL has no fragment."
    if allow_private_network:
        return None
    if parts.scheme != "https":
        return "Use https."
    if is_literal_private(parts.hostname or ""):
        return "This address is private."
    return None
