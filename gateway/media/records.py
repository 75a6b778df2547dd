"""What is written down of files, for code that may block. The async side is `gateway.media.storage`."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.db import transaction
from django.db.models import F, Q

from gateway.media.errors import NothingIsKeptError, StorageQuotaError
from gateway.media.models import MediaObject, MediaSource, TenantStorage
from tenants.models import TenantStatus


@dataclass(frozen=True, slots=True)
class Room:
    """What a tenant may keep, with the defaults filled in."""

    quota_bytes: int
    used_bytes: int
    kept: dt.timedelta
    """How long a new file of this source lives; zero: nothing is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """For tenants for which an operator has set nothing."""

    quota_bytes: int
    uploads_kept: dt.timedelta
    generated_kept: dt.timedelta


def room_of(tenant_id: int, source: str, *, defaults: Defaults) -> Room:
    """How much room a tenant has for a file. One query."""
    row = TenantStorage.objects.filter(tenant=tenant_id).first()
    is_generated = source == MediaSource.GENERATED
    kept = defaults.generated_kept if is_generated else defaults.uploads_kept
    if row is None:
        return Room(defaults.quota_bytes, 0, kept)
    hours = row.generated_kept_hours if is_generated else row.uploads_kept_hours
    quota = defaults.quota_bytes if row.quota_bytes is None else row.quota_bytes
    return Room(quota, row.used_bytes, kept if hours is None else dt.timedelta(hours=hours))


def check_room(room: Room, size_bytes: int) -> None:
    """Raise `NothingIsKeptError` or `StorageQuotaError` where a file of this size has no place."""
    if not room.kept or room.quota_bytes == 0:
        raise NothingIsKeptError
    if room.used_bytes + size_bytes > room.quota_bytes:
        raise StorageQuotaError(quota_bytes=room.quota_bytes, used_bytes=room.used_bytes, needed_bytes=size_bytes)


@transaction.atomic
def add_file(row: MediaObject, defaults: Defaults) -> int:
    """Write down a file whose bytes are stored, count it, and return the tenant's key version of signed URLs.

    The tenant's row is locked, so that two files at once cannot both take the last room. Raises `StorageQuotaError`.
    """
    TenantStorage.objects.get_or_create(tenant_id=row.tenant_id)
    held = TenantStorage.objects.select_for_update().get(tenant=row.tenant_id)
    quota = defaults.quota_bytes if held.quota_bytes is None else held.quota_bytes
    if held.used_bytes + row.size_bytes > quota:
        raise StorageQuotaError(quota_bytes=quota, used_bytes=held.used_bytes, needed_bytes=row.size_bytes)
    row.save(force_insert=True)
    held.used_bytes += row.size_bytes
    held.save(update_fields=["used_bytes"])
    return held.url_key_version


def find_file(tenant_id: int | None, file_id: str, *, now: dt.datetime) -> tuple[MediaObject, int] | None:
    """A file that can be read, with its tenant's key version; None for another tenant's. One query.

    `tenant_id` None looks at every tenant's: only for whoever brings a signature that is checked next.
    """
    readable = MediaObject.objects.filter(pk=file_id, deleted_at=None).exclude(expires_at__lte=now)
    if tenant_id is None:
        readable = readable.filter(tenant__status=TenantStatus.ACTIVE)
    else:
        readable = readable.filter(tenant=tenant_id)
    row = readable.annotate(key_version=F("tenant__file_storage__url_key_version")).first()
    return None if row is None else (row, row.key_version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which part of a tenant's list is asked for."""

    purpose: str
    """Empty: any."""
    after: str
    """The id of the file before the first one; empty: from the beginning."""
    limit: int
    is_oldest_first: bool


def list_files(tenant_id: int, page: Page, *, now: dt.datetime) -> tuple[list[MediaObject], bool, int] | None:
    """A page of a tenant's files, whether there are more, and its key version; None where `after` is no file of its.

    At most three queries, by an index however long the list is.
    """
    readable = MediaObject.objects.filter(tenant=tenant_id, deleted_at=None).exclude(expires_at__lte=now)
    if page.purpose:
        readable = readable.filter(purpose=page.purpose)
    if page.after:
        last = MediaObject.objects.filter(tenant=tenant_id, pk=page.after).first()
        if last is None:
            return None
        side = "gt" if page.is_oldest_first else "lt"
        beyond = Q(**{f"created_at__{side}": last.created_at}) | Q(
            created_at=last.created_at, **{f"pk__{side}": last.pk}
        )
        bound = f"created_at__{side}e"  # for the index, which cannot use an alternative
        readable = readable.filter(beyond, **{bound: last.created_at})
    order = ("created_at", "pk") if page.is_oldest_first else ("-created_at", "-pk")
    rows = list(readable.order_by(*order)[: page.limit + 1])
    held = TenantStorage.objects.filter(tenant=tenant_id).first()
    return rows[: page.limit], len(rows) > page.limit, held.url_key_version if held else 1


@transaction.atomic
def mark_deleted(tenant_id: int, file_id: str, *, now: dt.datetime) -> bool:
    """Take a file away from everybody and give its room back; whether there was one. Its bytes go at the next purge."""
    row = MediaObject.objects.select_for_update().filter(tenant=tenant_id, pk=file_id, deleted_at=None).first()
    if row is None:
        return False
    row.deleted_at = now
    row.save(update_fields=["deleted_at"])
    TenantStorage.objects.filter(tenant=tenant_id).update(used_bytes=F("used_bytes") - row.size_bytes)
    return True


def revoke_urls(held: TenantStorage) -> None:
    """Make every signed URL that was given out for a tenant's files worthless; new ones are good."""
    TenantStorage.objects.filter(pk=held.pk).update(url_key_version=F("url_key_version") + 1)
