"""200 MB pass through a process that grows by less than 30 MB."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from gateway.media.models import MediaSource
from gateway.media.storage import NewFile, delete, keep
from gateway.runtime import Gateway
from tests import factories
from tests.gateway.media.memory import ALLOWED_BYTES, growth_of
from tests.live import LiveServer

PIECE = os.urandom(1 << 20)
MEGABYTES = 200
WHOLE = hashlib.sha256(PIECE * MEGABYTES).hexdigest()
BOUNDARY = b"a-boundary"
HEAD = b'--a-boundary\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n'
TAIL = b'\r\n--a-boundary\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--a-boundary--\r\n'


def form(pieces: int) -> Iterator[bytes]:
    yield HEAD
    for _ in range(pieces):
        yield PIECE
    yield TAIL


def send(client: httpx.Client, pieces: int) -> dict[str, Any]:
    headers = {"content-type": "multipart/form-data; boundary=a-boundary"}
    answer = client.post("/files", content=form(pieces), headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def fetched(client: httpx.Client, file_id: str) -> str:
    digest = hashlib.sha256()
    with client.stream("GET", f"/files/{file_id}/content") as answer:
        for piece in answer.iter_raw():
            digest.update(piece)
    return digest.hexdigest()


def test_an_upload_and_a_download(committed: None, tmp_path: Path) -> None:
    key = factories.make_key(factories.make_tenant())[1]
    server = LiveServer("uvicorn", tmp_path)
    try:
        with server.client(key) as client:
            small = send(client, 2)
            fetched(client, small["id"])
            with growth_of(server.process.pid) as growth:
                file = send(client, MEGABYTES)
                assert file["sha256"] == WHOLE
                assert fetched(client, file["id"]) == WHOLE
            client.delete(f"/files/{file['id']}")
    finally:
        server.stop()
    assert growth.bytes < ALLOWED_BYTES


def test_what_a_model_makes(with_gateway: Callable[..., Any]) -> None:
    tenant = factories.make_tenant()

    async def pieces(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield bytes(PIECE)

    async def work(gateway: Gateway) -> None:
        new = NewFile(tenant_id=tenant.pk, purpose="generated", source=MediaSource.GENERATED, mime="video/mp4")
        await keep(gateway, pieces(2), new=new)
        with growth_of(os.getpid()) as growth:
            stored = await keep(gateway, pieces(MEGABYTES), new=new)
            digest = hashlib.sha256()
            async for piece in stored.chunks():
                digest.update(piece)
        assert stored.sha256 == digest.hexdigest() == WHOLE
        assert growth.bytes < ALLOWED_BYTES
        await delete(gateway, tenant_id=tenant.pk, file_id=stored.id)

    asyncio.run(with_gateway(work))
