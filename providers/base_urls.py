"""Which base URLs a provider row may carry."""

from __future__ import annotations

from urllib.parse import urlsplit

from tenants.addresses import is_literal_private


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
