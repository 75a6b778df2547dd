"""Changes to tenants and keys that are more than saving a form."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from tenants.errors import InvalidKeyError, KeyRotationError
from tenants.keys import digest_key, generate_key, is_well_formed, key_hint
from tenants.models import ApiKey, Operator, Project, Tenant, TenantStatus


@dataclass(frozen=True, kw_only=True)
class KeySettings:
    """What a new key is allowed: empty means no restriction beyond its tenant's."""

    project: Project | None = None
    user: str = ""
    scopes: tuple[str, ...] = ()
    ip_allow_list: tuple[str, ...] = ()
    expires_at: dt.datetime | None = None


def create_key(
    tenant: Tenant,
    name: str,
    *,
    allowed: KeySettings = KeySettings(),
    secret: str | None = None,
    created_by: Operator | None = None,
) -> tuple[ApiKey, str]:
    """Store a new key and return it with its text, which cannot be had again.

    `secret` brings a key of one's own, of the same form. Raises `InvalidKeyError` for another form and
    `django.core.exceptions.ValidationError` for fields that do not hold.
    """
    text = secret if secret is not None else generate_key()
    if not is_well_formed(text):
        raise InvalidKeyError(
            "A key is bsr_live_ followed by 30 letters or digits and their 6-character checksum; "
            "leave the secret out and one is made."
        )
    key = ApiKey(
        tenant=tenant,
        name=name,
        project=allowed.project,
        user=allowed.user,
        scopes=list(allowed.scopes),
        ip_allow_list=list(allowed.ip_allow_list),
        expires_at=allowed.expires_at,
        created_by=created_by,
    )
    set_secret(key, text)
    key.full_clean()
    key.save()
    return key, text


def set_secret(key: ApiKey, text: str) -> None:
    """Put the digest and the recognisable beginning of a key's text on the row, unsaved."""
    key.digest = digest_key(text, settings.API_KEY_PEPPER)
    key.hint = key_hint(text)


def revoke_key(key: ApiKey) -> None:
    """Refuse the key from now on, in every process within two seconds."""
    if key.revoked_at is None:
        key.revoked_at = timezone.now()
        key.save(update_fields=["revoked_at"])


@transaction.atomic
def rotate_key(key: ApiKey, overlap: dt.timedelta) -> str:
    """Give a key a new text and return it, which cannot be had again; the text before works until the overlap is over.

    It stays the same key, so that its budgets, limits and usage go on. A text that was still working from an earlier
    rotation ends at once. Raises `KeyRotationError` for a key that works no more.
    """
    locked = ApiKey.objects.select_for_update().get(pk=key.pk)
    now = timezone.now()
    if locked.revoked_at is not None or (locked.expires_at is not None and locked.expires_at <= now):
        raise KeyRotationError(f"{key} works no more: make a new key.")
    locked.previous_digest, locked.previous_hint, locked.previous_until = locked.digest, locked.hint, now + overlap
    text = generate_key()
    set_secret(locked, text)
    locked.save(update_fields=["digest", "hint", "previous_digest", "previous_hint", "previous_until"])
    key.refresh_from_db()
    return text


def set_tenant_status(tenant: Tenant, status: TenantStatus) -> None:
    """Suspend or resume a tenant; its keys follow in every process within two seconds."""
    if tenant.status != status:
        tenant.status = status
        tenant.save(update_fields=["status"])
