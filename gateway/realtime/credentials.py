"""Who opens a session: an API key in a header or, from browsers, among the subprotocols; or a client secret."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import InterfaceError, OperationalError

from gateway.authentication import authenticate, check_scope, check_standing, origin_of, presented_key
from gateway.context import Caller
from gateway.directory import StaleDirectoryError
from gateway.errors import InvalidApiKeyError, OverloadedError
from gateway.realtime.models import RealtimeClientSecret
from tenants.keys import digest_key
from tenants.models import ApiKey, Scope

if TYPE_CHECKING:
    from gateway.runtime import Gateway

SECRET_PREFIX = "ek_"  # noqa: S105 -- what the SDKs know a client secret by
SECRET_LENGTH = len(SECRET_PREFIX) + 43
SUBPROTOCOL = "realtime"
KEY_SUBPROTOCOL = "openai-insecure-api-key."


@dataclass(frozen=True, slots=True)
class Grant:
    """What a client secret allows."""

    key_digest: bytes
    user: str
    session: dict[str, Any]
    expires_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Identity:
    """Who opens a session. `grant` is None for a key."""

    caller: Caller
    key_digest: bytes
    grant: Grant | None = None


def headers_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """A handshake's headers as Django names them, with the peer's address; several of one name joined by commas."""
    meta = {"REMOTE_ADDR": (scope.get("client") or ("",))[0]}
    for raw_name, raw_value in scope["headers"]:
        name = "HTTP_" + raw_name.decode("latin-1").upper().replace("-", "_")
        value = raw_value.decode("latin-1")
        meta[name] = f"{meta[name]},{value}" if name in meta else value
    return meta


def subprotocol_key(scope: Mapping[str, Any]) -> str | None:
    """The key that a browser sends among its subprotocols, since it cannot send headers."""
    for offered in scope.get("subprotocols") or ():
        if offered.startswith(KEY_SUBPROTOCOL):
            return str(offered.removeprefix(KEY_SUBPROTOCOL))
    return None


async def identify(gateway: Gateway, meta: Mapping[str, Any], *, offered_key: str | None) -> Identity:
    """Say who opens a session. A key in a header counts before one among the subprotocols.

    Raises the 401, 403 or 429 a client is told; 503 without a database.
    """
    if presented_key(meta) is None and "HTTP_AUTHORIZATION" not in meta and offered_key is not None:
        meta = {**meta, "HTTP_AUTHORIZATION": f"Bearer {offered_key}"}
    key = presented_key(meta) or ""
    if key.startswith(SECRET_PREFIX):
        return await _by_secret(gateway, key, meta=meta)
    caller = await authenticate(gateway, meta, scope=Scope.CHAT)
    return Identity(caller, digest_key(key, gateway.config.api_key_pepper))


async def _by_secret(gateway: Gateway, secret: str, *, meta: Mapping[str, Any]) -> Identity:
    if len(secret) != SECRET_LENGTH or not secret.isascii():
        raise InvalidApiKeyError
    digest = digest_key(secret, gateway.config.api_key_pepper)
    gateway.bad_keys.check(origin_of(gateway, meta))
    try:
        grant = await gateway.directory.query(find_grant, digest)
        caller = await gateway.directory.caller(grant.key_digest) if grant is not None else None
    except (OperationalError, InterfaceError, StaleDirectoryError) as error:
        raise OverloadedError("Keys cannot be looked up at the moment; the database does not answer.") from error
    if grant is None or caller is None or grant.expires_at <= dt.datetime.now(dt.UTC):
        gateway.bad_keys.refused(origin_of(gateway, meta))
        raise InvalidApiKeyError
    check_standing(caller)
    check_scope(caller, Scope.CHAT)
    return Identity(caller, grant.key_digest, grant)


def find_grant(digest: bytes) -> Grant | None:
    """What a client secret with this digest allows. One query."""
    row = RealtimeClientSecret.objects.select_related("api_key").filter(digest=digest).first()
    if row is None:
        return None
    return Grant(bytes(row.api_key.digest), row.user, row.session, row.expires_at)


def mint_secret(
    key_digest: bytes, *, pepper: bytes, user: str, session: dict[str, Any], seconds: int
) -> tuple[str, dt.datetime]:
    """Make a client secret of a key; returns it, which is not kept, and when it expires."""
    secret = SECRET_PREFIX + secrets.token_urlsafe(32)
    api_key = ApiKey.objects.get(digest=key_digest)
    now = dt.datetime.now(dt.UTC)
    expires_at = now + dt.timedelta(seconds=seconds)
    RealtimeClientSecret.objects.create(
        digest=digest_key(secret, pepper),
        tenant_id=api_key.tenant_id,
        api_key=api_key,
        user=user,
        session=session,
        created_at=now,
        expires_at=expires_at,
    )
    return secret, expires_at


def purge_secrets() -> int:
    """Delete the client secrets that have expired; returns how many."""
    return RealtimeClientSecret.objects.filter(expires_at__lte=dt.datetime.now(dt.UTC)).delete()[0]
