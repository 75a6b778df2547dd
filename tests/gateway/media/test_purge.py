"""Forgetting, by a clock that the test turns."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.storage import storages

from gateway.media import purge
from gateway.media.models import MediaObject, TenantStorage
from gateway.media.purge import mark_expired, purge_media, sweep_orphans
from gateway.media.records import Defaults, add_file
from gateway.media.storage import new_file_id
from tenants.models import Tenant
from tests import factories

NOON = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
DEFAULTS = Defaults(quota_bytes=10_000, uploads_kept=24 * HOUR, generated_kept=HOUR)


@pytest.fixture
def tenant(db: None) -> Tenant:
    MediaObject.objects.all().delete()
    return factories.make_tenant()


def location() -> Path:
    return Path(storages["media_gateway"].location)  # type: ignore[attr-defined]


def plant(name: str, content: bytes = b"12345", *, at: dt.datetime = NOON) -> Path:
    """Bytes in the storage, as old as that."""
    path = location() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (at.timestamp(), at.timestamp()))
    return path


def make_file(tenant: Tenant, *, expires_at: dt.datetime) -> tuple[MediaObject, Path]:
    row = MediaObject(
        id=new_file_id(), tenant=tenant, kind="other", source="upload", purpose="user_data", mime="text/plain",
        size_bytes=5, sha256="0" * 64, storage="media_gateway", created_at=NOON, expires_at=expires_at,
    )  # fmt: skip
    row.name = f"t/{tenant.pk}/2026/11/{row.id}.txt"
    add_file(row, DEFAULTS)
    return row, plant(row.name)


def used(tenant: Tenant) -> int:
    return TenantStorage.objects.get(tenant=tenant).used_bytes


def test_what_has_expired_goes_and_nothing_else(tenant: Tenant) -> None:
    _, its_path = make_file(tenant, expires_at=NOON + HOUR)
    later, other_path = make_file(tenant, expires_at=NOON + 2 * HOUR)
    assert (purge_media(NOON + HOUR - dt.timedelta(seconds=1)), used(tenant)) == (0, 10)
    assert purge_media(NOON + HOUR) == 1
    assert (its_path.exists(), other_path.exists(), used(tenant)) == (False, True, 5)
    assert list(MediaObject.objects.values_list("pk", flat=True)) == [later.pk]
    assert purge_media(NOON + 3 * HOUR) == 1
    assert (other_path.exists(), used(tenant)) == (False, 0)


def test_a_purge_that_dies_between_its_phases_is_taken_up(tenant: Tenant) -> None:
    _, path = make_file(tenant, expires_at=NOON)
    assert mark_expired(NOON) == 1
    assert path.exists() and used(tenant) == 0
    assert mark_expired(NOON) == 0, "its room is given back once"
    path.unlink()  # and here it died again, after the bytes and before the row
    assert purge_media(NOON) == 1
    assert not MediaObject.objects.exists() and used(tenant) == 0


def test_a_storage_that_does_not_answer_is_asked_again(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    row, path = make_file(tenant, expires_at=NOON)
    _, other_path = make_file(tenant, expires_at=NOON)
    real = storages["media_gateway"].delete

    def delete(name: str) -> None:
        if name == row.name:
            raise OSError("away")
        real(name)

    with monkeypatch.context() as patch:
        patch.setattr(storages["media_gateway"], "delete", delete)
        assert purge_media(NOON) == 1
    assert path.exists() and not other_path.exists()
    assert "media.purge_failed" in caplog.text
    assert purge_media(NOON) == 1
    assert not path.exists()


def test_many_at_once(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "BATCH", 2)
    paths = [make_file(tenant, expires_at=NOON)[1] for _ in range(5)]
    assert purge_media(NOON) == 5
    assert not any(path.exists() for path in paths) and used(tenant) == 0


def test_the_sweep_finds_a_planted_orphan(tenant: Tenant) -> None:
    _, kept = make_file(tenant, expires_at=NOON + 1000 * HOUR)
    orphan = plant(f"t/{tenant.pk}/2026/11/orphan.bin")
    young = plant(f"t/{tenant.pk}/2026/11/young.bin", at=NOON + 5 * HOUR)
    settings.MEDIA_SPOOL_DIR.mkdir(parents=True, exist_ok=True)
    torn = settings.MEDIA_SPOOL_DIR / "spool-torn"
    torn.write_bytes(b"half")
    os.utime(torn, (NOON.timestamp(), NOON.timestamp()))
    assert sweep_orphans(NOON + 6 * HOUR) == 0, "not yet: its row may still come"
    assert sweep_orphans(NOON + 7 * HOUR) == 2
    assert (orphan.exists(), torn.exists()) == (False, False)
    assert kept.exists() and young.exists()
    young.unlink()
