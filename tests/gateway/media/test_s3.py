"""A bucket instead of a folder: moto's server."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from django.core.files.storage import storages

from gateway.media.errors import FileNotFoundInStorageError, NotKeptError, StorageUnavailableError
from gateway.media.models import MediaObject, MediaSource
from gateway.media.purge import purge_media, sweep_orphans
from gateway.media.spool import spool
from gateway.media.storage import NewFile, delete, keep, read
from gateway.runtime import Gateway
from tests import factories
from tests.engines import ROOT
from tests.gateway.media.memory import ALLOWED_BYTES, growth_of
from tests.gateway.media.shop import png
from tests.gateway.media.test_memory import fetched, send
from tests.live import LiveServer, free_port, until

BUCKET = "files"
KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        cwd=ROOT, env={**os.environ, "MOTO_S3_CUSTOM_ENDPOINTS": ""},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(url, trust_env=False).status_code < 500
        except httpx.TransportError:
            return False

    try:
        until(answers, seconds=60, what="moto's server")
        boto3.client("s3", endpoint_url=url, **KEYS).create_bucket(Bucket=BUCKET)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def storage_settings(endpoint: str) -> dict[str, Any]:
    options = {
        "bucket_name": BUCKET, "endpoint_url": endpoint, "access_key": "testing", "secret_key": "testing",
        "region_name": "us-east-1", "location": "below", "file_overwrite": False, "default_acl": None,
    }  # fmt: skip
    return {"BACKEND": "gateway.media.s3.S3MediaStorage", "OPTIONS": options}


@pytest.fixture
def bucket(endpoint: str, settings: Any) -> Any:
    settings.STORAGES = {**settings.STORAGES, "media_gateway": storage_settings(endpoint)}
    yield boto3.resource("s3", endpoint_url=endpoint, **KEYS).Bucket(BUCKET)
    storages["media_gateway"].connection.meta.client.close()  # type: ignore[attr-defined]


def test_kept_read_purged_and_swept(with_gateway: Callable[..., Any], bucket: Any) -> None:
    tenant, outsider = factories.make_tenant(), factories.make_tenant()
    content = png(40, 30)

    async def work(gateway: Gateway) -> None:
        new = NewFile(tenant_id=tenant.pk, purpose="vision", source=MediaSource.UPLOAD, mime="image/png")
        stored = await keep(gateway, content, new=new)
        assert await stored.read() == content
        assert b"".join([piece async for piece in stored.chunks(3, end=7)]) == content[3:7]
        with pytest.raises(FileNotFoundInStorageError):
            await read(gateway, tenant_id=outsider.pk, file_id=stored.id)
        empty = await keep(gateway, b"", new=NewFile(tenant_id=tenant.pk, purpose="batch", source=MediaSource.UPLOAD))
        assert await empty.read() == b""
        await delete(gateway, tenant_id=tenant.pk, file_id=stored.id)

    asyncio.run(with_gateway(work))
    keys = {found.key for found in bucket.objects.all()}
    assert keys == {f"below/{row.name}" for row in MediaObject.objects.filter(tenant=tenant)}
    assert purge_media() == 1
    bucket.put_object(Key=f"below/t/{tenant.pk}/2026/11/orphan.bin", Body=b"x")
    bucket.put_object(Key="elsewhere/t/1", Body=b"somebody else's")
    assert sweep_orphans() == 0
    assert sweep_orphans(dt.datetime.now(dt.UTC) + dt.timedelta(hours=7)) == 1
    kept = MediaObject.objects.get(tenant=tenant)
    assert {found.key for found in bucket.objects.all()} == {f"below/{kept.name}", "elsewhere/t/1"}
    bucket.Object(f"below/{kept.name}").delete()

    async def lost(gateway: Gateway) -> None:
        stored = await read(gateway, tenant_id=tenant.pk, file_id=kept.pk)
        with pytest.raises(FileNotFoundInStorageError):
            async for _ in stored.chunks(0, end=1):
                pass

    asyncio.run(with_gateway(lost))


def test_a_bucket_that_does_not_answer(with_gateway: Callable[..., Any], settings: Any, caplog: Any) -> None:
    """What was paid for is still at hand, and the operator sees it."""
    tenant = factories.make_tenant()
    away = storage_settings(f"http://127.0.0.1:{free_port()}")
    settings.STORAGES = {**settings.STORAGES, "media_gateway": away}

    async def work(gateway: Gateway) -> None:
        new = NewFile(tenant_id=tenant.pk, purpose="generated", source=MediaSource.GENERATED, mime="image/png")
        async with spool(gateway.files, png()) as content:
            with pytest.raises(NotKeptError) as refused:
                await keep(gateway, content, new=new)
            assert await content.read() == png()
        assert isinstance(refused.value, StorageUnavailableError) and refused.value.status == 503

    asyncio.run(with_gateway(work))
    assert not MediaObject.objects.filter(tenant=tenant).exists()
    assert "media.storage_failed" in caplog.text and "media.not_kept" in caplog.text


def test_by_the_door(committed: None, endpoint: str, tmp_path: Path) -> None:
    """Redirects for what browsers merely show; the rest, and large files, pass through without being held."""
    key = factories.make_key(factories.make_tenant())[1]
    server = LiveServer(
        "uvicorn", tmp_path, MEDIA_S3_BUCKET=BUCKET, MEDIA_S3_ENDPOINT_URL=endpoint, MEDIA_S3_REGION="us-east-1",
        MEDIA_S3_ACCESS_KEY_ID="testing", MEDIA_S3_SECRET_ACCESS_KEY="testing", MEDIA_S3_REDIRECTS="1",
    )  # fmt: skip
    try:
        with server.client(key) as client:
            form = {"files": {"file": ("ä.png", png(), "image/png")}, "data": {"purpose": "vision"}}
            picture = client.post("/files", **form).json()
            answer = client.get(f"/files/{picture['id']}/content")
            assert answer.status_code == 302
            direct = httpx.get(answer.headers["location"], trust_env=False)
            assert (direct.content, direct.headers["content-type"]) == (png(), "image/png")
            assert direct.headers["content-disposition"] == "inline; filename*=utf-8''%C3%A4.png"
            assert "X-Amz-Expires=60" in answer.headers["location"]
            small = send(client, 20)
            part = client.get(f"/files/{small['id']}/content", headers={"range": "bytes=0-9"})
            assert (part.status_code, len(part.content)) == (206, 10)
            assert fetched(client, small["id"]) == small["sha256"]
            with growth_of(server.process.pid) as growth:
                large = send(client, 60)
                assert fetched(client, large["id"]) == large["sha256"]
    finally:
        server.stop()
    assert growth.bytes < ALLOWED_BYTES
