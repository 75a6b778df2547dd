"""Keeping and reading files, through the seam that the rest of the gateway uses."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.media.errors import FileNotFoundInStorageError
from gateway.media.models import MediaObject, MediaSource, TenantStorage
from gateway.media.storage import NewFile, delete, keep, read, signed_url
from gateway.runtime import Gateway
from tests import factories
from tests.gateway.media.shop import png

Run = Callable[..., Any]


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 1000):
        yield content[start : start + 1000]


def test_what_is_kept_is_read_again(with_gateway: Run) -> None:
    tenant, outsider = factories.make_tenant(), factories.make_tenant()
    content = png(40, 30)

    async def work(gateway: Gateway) -> None:
        new = NewFile(tenant_id=tenant.pk, purpose="vision", source=MediaSource.UPLOAD, mime="image/png")
        kept = await keep(gateway, pieces(content), new=new)
        assert (kept.kind, kept.mime, kept.size_bytes) == ("image", "image/png", len(content))
        assert (kept.width, kept.height, kept.sha256) == (40, 30, hashlib.sha256(content).hexdigest())
        stored = await read(gateway, tenant_id=tenant.pk, file_id=kept.id)
        assert stored == kept
        assert await stored.read() == content
        assert b"".join([piece async for piece in stored.chunks(5, end=9)]) == content[5:9]
        assert signed_url(gateway, stored).startswith(f"http://127.0.0.1:5005/v1/files/{kept.id}/content?exp=")
        with pytest.raises(FileNotFoundInStorageError):
            await read(gateway, tenant_id=outsider.pk, file_id=kept.id)
        with pytest.raises(FileNotFoundInStorageError):
            await delete(gateway, tenant_id=outsider.pk, file_id=kept.id)
        assert await gateway.directory.query(used_by, tenant.pk) == len(content)
        await delete(gateway, tenant_id=tenant.pk, file_id=kept.id)
        with pytest.raises(FileNotFoundInStorageError):
            await read(gateway, tenant_id=tenant.pk, file_id=kept.id)
        assert await gateway.directory.query(used_by, tenant.pk) == 0

    asyncio.run(with_gateway(work))
    row = MediaObject.objects.get()
    assert row.name.startswith(f"t/{tenant.pk}/") and row.name.endswith(".png")


def used_by(tenant_id: int) -> int:
    return TenantStorage.objects.get(tenant=tenant_id).used_bytes
