"""From the headers of a request to who is calling. The only reader of the key."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.db import InterfaceError, OperationalError

from gateway.context import Caller
from gateway.directory import StaleDirectoryError
from gateway.errors import (
    InvalidApiKeyError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitedError,
    TenantSuspendedError,
)
from tenants.client_addresses import client_address, counted_as
from tenants.keys import digest_key, is_well_formed
from tenants.models import Scope

if TYPE_CHECKING:
    from gateway.runtime import Gateway


REFUSALS = (InvalidApiKeyError, PermissionDeniedError, RateLimitedError, TenantSuspendedError)
KEY_DIGEST = "bursar.key_digest"
"""In the scope of a call that this process makes itself, as for the playground: whose key it is. No server puts what a
client sends there."""


async def authenticate_inside(gateway: Gateway, digest: bytes, *, scope: Scope | tuple[Scope, ...]) -> Caller:
    """Say for whom a call of this process's own is. Raises as `authenticate` does."""
    try:
        caller = await gateway.directory.caller(digest)
    except (OperationalError, InterfaceError, StaleDirectoryError) as error:
        raise OverloadedError("Keys cannot be looked up at the moment; the database does not answer.") from error
    if caller is None:
        raise InvalidApiKeyError
    check_standing(caller)
    check_scope(caller, scope)
    return caller


async def authenticate(gateway: Gateway, meta: Mapping[str, Any], *, scope: Scope | tuple[Scope, ...]) -> Caller:
    """Say who is calling and that the key may; one of several scopes is enough. Raises the 401, 403 or 429 a client is
    told; 503 without a database."""
    caller: Caller | None = None
    try:
        key = presented_key(meta)
        if key is None:
            raise InvalidApiKeyError
        caller = await _look_up(gateway, key, meta=meta) if is_well_formed(key) else None
        if caller is None:
            gateway.bad_keys.refused(origin_of(gateway, meta))
            raise InvalidApiKeyError
        _check(gateway, caller, meta=meta, scope=scope)
    except REFUSALS as error:
        gateway.audit.refused(caller, error, meta=meta, address=origin_of(gateway, meta))
        raise
    return caller


def _check(gateway: Gateway, caller: Caller, *, meta: Mapping[str, Any], scope: Scope | tuple[Scope, ...]) -> None:
    """Whether a key that was found may do this, from there. Raises the 401 or 403 a client is told."""
    principal = caller.principal
    check_standing(caller)
    if principal.networks:
        address = client_address(meta, trusted_proxies=gateway.config.trusted_proxies)
        if not any(address in network for network in principal.networks if address is not None):
            raise PermissionDeniedError("This key may not be used from this address.")
    check_scope(caller, scope)


def check_standing(caller: Caller) -> None:
    """Whether a key that was found still holds. Raises the 401 or 403 a client is told."""
    principal = caller.principal
    if principal.expires_at is not None and principal.expires_at <= dt.datetime.now(dt.UTC):
        raise InvalidApiKeyError
    if not principal.tenant_active:
        raise TenantSuspendedError(f"Tenant {principal.tenant_name!r} is suspended; its operator can resume it.")


def check_scope(caller: Caller, scope: Scope | tuple[Scope, ...]) -> None:
    """Whether a key may call what the scope names, or one of several. Raises the 403 a client is told."""
    scopes = scope if isinstance(scope, tuple) else (scope,)
    if not any(map(caller.principal.may, scopes)):
        raise PermissionDeniedError(f"This key has no {' or '.join(repr(one.value) for one in scopes)} scope.")


async def _look_up(gateway: Gateway, key: str, *, meta: Mapping[str, Any]) -> Caller | None:
    """Whose key it is. One that this process holds costs no query and is no guess."""
    digest = digest_key(key, gateway.config.api_key_pepper)
    is_held = gateway.directory.holds(digest)
    if not is_held:
        gateway.bad_keys.check(origin_of(gateway, meta), digest)
    try:
        caller = await gateway.directory.caller(digest)
    except (OperationalError, InterfaceError, StaleDirectoryError) as error:
        raise OverloadedError("Keys cannot be looked up at the moment; the database does not answer.") from error
    if caller is not None and not is_held:
        gateway.bad_keys.good(digest)
    return caller


def origin_of(gateway: Gateway, meta: Mapping[str, Any]) -> str:
    """Under which name refused keys of this address are counted."""
    return counted_as(client_address(meta, trusted_proxies=gateway.config.trusted_proxies))


def presented_key(meta: Mapping[str, Any]) -> str | None:
    """The key in `Authorization: Bearer`, `x-api-key` or `api-key`; None without any."""
    authorization: str | None = meta.get("HTTP_AUTHORIZATION")
    if authorization is not None:
        kind, _, key = authorization.partition(" ")
        return key.strip() if kind.lower() == "bearer" else None
    return meta.get("HTTP_X_API_KEY") or meta.get("HTTP_API_KEY")
