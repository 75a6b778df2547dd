"""Forgetting files: those that have expired, those that were deleted, and bytes that nobody knows of.

In two phases, each of which may be killed and repeated: first a row is marked, from when on nobody reads it; then its
bytes are deleted, and only after them the row. So there is never a readable row without bytes, and no bytes are
forgotten.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections import Counter
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from gateway.media.backends import Backend, backend
from gateway.media.config import ALIAS
from gateway.media.models import MediaObject, TenantStorage

logger = logging.getLogger(__name__)

BATCH = 500
ORPHAN_AFTER = dt.timedelta(hours=6)
"""Bytes are stored before their row is written. What has none so much later never gets one."""


def purge_media(now: dt.datetime | None = None) -> int:
    """Mark what has expired, then delete the bytes and rows of all that is marked; returns how many rows went."""
    moment = now or timezone.now()
    while mark_expired(moment):
        pass
    return _delete_marked()


@transaction.atomic
def mark_expired(now: dt.datetime) -> int:
    """Take up to `BATCH` expired files away from everybody and give their room back; returns how many."""
    due = MediaObject.objects.filter(deleted_at=None, expires_at__lte=now).order_by("expires_at")
    rows = list(due.select_for_update(skip_locked=True)[:BATCH])
    MediaObject.objects.filter(pk__in=[row.pk for row in rows]).update(deleted_at=now)
    freed: Counter[int] = Counter()
    for row in rows:
        freed[row.tenant_id] += row.size_bytes
    for tenant_id, size_bytes in sorted(freed.items()):  # in one order, so that two of us do not wait for each other
        TenantStorage.objects.filter(tenant=tenant_id).update(used_bytes=F("used_bytes") - size_bytes)
    return len(rows)


def _delete_marked() -> int:
    """Where a storage does not answer, its files wait for the next time."""
    purged = 0
    last = ""
    while rows := list(MediaObject.objects.exclude(deleted_at=None).filter(pk__gt=last).order_by("pk")[:BATCH]):
        last = rows[-1].pk
        gone = [row.pk for row in rows if _delete_bytes(row)]
        purged += MediaObject.objects.filter(pk__in=gone).delete()[0]
    return purged


def _delete_bytes(row: MediaObject) -> bool:
    try:
        backend(row.storage).delete(row.name)
    except OSError as error:
        logger.error("media.purge_failed", extra={"file": row.pk, "reason": str(error)[:500]})
        return False
    return True


def sweep_orphans(now: dt.datetime | None = None) -> int:
    """Delete stored bytes that have no row, and what dead processes left half-written; returns how many files.

    Lists all that is stored. Raises `OSError` where the storage does not answer.
    """
    moment = now or timezone.now()
    store, oldest = backend(ALIAS), moment - ORPHAN_AFTER
    swept = 0
    names: list[str] = []
    for name, stored_at in store.walk():
        if stored_at < oldest:
            names.append(name)
        if len(names) >= BATCH:
            swept += _sweep(store, names)
            names = []
    swept += _sweep(store, names) + _sweep_spool(settings.MEDIA_SPOOL_DIR, oldest)
    if swept:
        logger.warning("media.orphans_swept", extra={"files": swept})
    return swept


def _sweep(store: Backend, names: list[str]) -> int:
    known = set(MediaObject.objects.filter(name__in=names).values_list("name", flat=True))
    orphans = [name for name in names if name not in known]
    for name in orphans:
        store.delete(name)
    return len(orphans)


def _sweep_spool(folder: Path, oldest: dt.datetime) -> int:
    swept = 0
    for path in folder.glob("spool-*"):
        try:
            if path.stat().st_mtime < oldest.timestamp():
                path.unlink()
                swept += 1
        except FileNotFoundError:
            continue  # its process has just closed it
    return swept
