"""Which base URLs a provider row may carry."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def check_base_url(url: str, *, allow_private_network: bool) -> str | None:
    """Say what is wrong with a base URL, in words for the operator; None when it may be used.

    The address a name resolves to is checked when the connection is made (`providers.transport`), not here.
    """
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        port_is_valid = False
    if not port_is_valid or parts.scheme not in ("http", "https") or not parts.hostname:
        return "Give a URL such as https://api.example.com/v1."
    if parts.username or parts.password:
        return "Put the credential into a Credential, not into the URL."
    if parts.query or parts.fragment:
        return "A base URL has no query and no fragment."
    if allow_private_network:
        return None
    if parts.scheme != "https":
        return "Use https, or allow the private network for a server of your own."
    if is_literal_private(parts.hostname):
        return "This address is private: allow the private network for a server of your own."
    return None


def is_literal_private(host: str) -> bool:
    """Say whether a host is written as an address that is not public, or is a name of this machine."""
    if host.lower().rstrip(".") in ("localhost", "localhost.localdomain"):
        return True
    try:
        return not is_public(ipaddress.ip_address(host))
    except ValueError:
        return False


NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "fec0::/10", "2001::/32")
)
"""Python 3.11's `is_global` says yes to NAT64, 6to4, site-local and Teredo, which lead to private IPv4 addresses."""


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Say whether an address is reachable on the public internet and may be dialled for a client."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if any(address in network for network in NOT_PUBLIC):
            return False
    return address.is_global and not address.is_multicast
