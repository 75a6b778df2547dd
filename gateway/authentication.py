"""From the headers of a request to who is calling. The only reader of the key."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.db import InterfaceError, OperationalError

from gateway.context import Caller
from gateway.errors import InvalidApiKeyError, OverloadedError, PermissionDeniedError, TenantSuspendedError
from tenants.keys import digest_key, is_well_formed
from tenants.models import Scope

if TYPE_CHECKING:
    from gateway.runtime import Gateway

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


async def authenticate(gateway: Gateway, meta: Mapping[str, Any], *, scope: Scope) -> Caller:
    """Say who is calling and that the key may. Raises the 401 or 403 a client is told; 503 without a database."""
    key = presented_key(meta)
    if key is None or not is_well_formed(key):
        raise InvalidApiKeyError
    try:
        caller = await gateway.directory.caller(digest_key(key, gateway.config.api_key_pepper))
    except (OperationalError, InterfaceError) as error:
        raise OverloadedError("Keys cannot be looked up at the moment; the database does not answer.") from error
    if caller is None:
        raise InvalidApiKeyError
    principal = caller.principal
    if principal.expires_at is not None and principal.expires_at <= dt.datetime.now(dt.UTC):
        raise InvalidApiKeyError
    if not principal.tenant_active:
        raise TenantSuspendedError(f"Tenant {principal.tenant_name!r} is suspended; its operator can resume it.")
    if principal.networks:
        address = client_address(gateway, meta)
        if not any(address in network for network in principal.networks if address is not None):
            raise PermissionDeniedError("This key may not be used from this address.")
    if not principal.may(scope):
        raise PermissionDeniedError(f"This key has no {scope.value!r} scope.")
    return caller


def presented_key(meta: Mapping[str, Any]) -> str | None:
    """The key in `Authorization: Bearer`, `x-api-key` or `api-key`; None without any."""
    authorization: str | None = meta.get("HTTP_AUTHORIZATION")
    if authorization is not None:
        kind, _, key = authorization.partition(" ")
        return key.strip() if kind.lower() == "bearer" else None
    return meta.get("HTTP_X_API_KEY") or meta.get("HTTP_API_KEY")


def client_address(gateway: Gateway, meta: Mapping[str, Any]) -> IpAddress | None:
    """Where a request comes from: the peer, or whom the trusted proxies in front of us saw."""
    hops = [part.strip() for part in meta.get("HTTP_X_FORWARDED_FOR", "").split(",") if part.strip()]
    hops.append(meta.get("REMOTE_ADDR", ""))
    address: IpAddress | None = None
    while hops:
        try:
            address = ipaddress.ip_address(hops.pop())
        except ValueError:
            return None
        if not any(address in network for network in gateway.config.trusted_proxies):
            return address
    return address
