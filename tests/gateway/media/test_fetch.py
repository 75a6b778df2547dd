"""URLs that clients give. A canary on loopback is never so much as connected to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.media import fetch as fetching
from gateway.media.config import MediaConfig
from gateway.media.fetch import fetch, own_file_id
from gateway.media.models import MediaSource
from gateway.media.storage import NewFile, keep, signed_url
from gateway.media.store import FileStore
from gateway.runtime import Gateway
from providers.transport import Deadlines, Transport
from tests import factories
from tests.gateway.media.shop import png

Run = Callable[..., Any]


class Canary:
    """Counts who connects, and answers that there is nothing."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.hits = 0
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()

    def _count(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self.hits += 1
                with peer:
                    peer.recv(1000)
                    peer.sendall(b"HTTP/1.1 404 Nothing\r\ncontent-length: 0\r\n\r\n")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def canary() -> Iterator[Canary]:
    canary = Canary()
    yield canary
    canary.close()


class Shop(BaseHTTPRequestHandler):
    """A server of files, of all manners."""

    protocol_version = "HTTP/1.1"
    locations: dict[str, str] = {}
    asked: list[dict[str, str]] = []

    def do_GET(self) -> None:
        self.asked.append({name.lower(): value for name, value in self.headers.items()})
        if self.path in self.locations:
            self._head(302, ("location", self.locations[self.path]), ("content-length", "0"))
        elif self.path == "/png":
            self._head(200, ("content-type", "image/png; x=y"), ("content-length", str(len(png()))))
            self.wfile.write(png())
        elif self.path == "/said":
            self._head(200, ("content-length", "10000000000"))
        elif self.path == "/zipped":
            self._head(200, ("content-encoding", "gzip"), ("content-length", "0"))
        elif self.path in ("/endless", "/slow"):
            self._head(200, ("content-type", "image/png"))
            gate = threading.Event()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b"x" if self.path == "/slow" else b"x" * 65536)
                    gate.wait(0.1 if self.path == "/slow" else 0)
        else:
            self._head(404, ("content-length", "0"))

    def _head(self, status: int, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (*headers, ("connection", "close")):
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True

    def log_message(self, *_arguments: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def shop() -> Iterator[str]:
    Shop.locations, Shop.asked = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    server.daemon_threads, server.block_on_close = True, False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


async def with_transport(work: Callable[[Any], Awaitable[None]], **media: Any) -> None:
    """Run it over what fetching needs of a gateway: no database."""
    files, transport = FileStore(MediaConfig(**media)), Transport()
    try:
        await work(SimpleNamespace(files=files, transport=transport))
    finally:
        await transport.close()
        files.close()


async def refusal(gateway: Gateway, url: str, *, max_bytes: int = 1000) -> GatewayError:
    """How fetching all of it fails."""
    with pytest.raises(GatewayError) as refused:
        fetched = await fetch(gateway, url, tenant_id=1, max_bytes=max_bytes, param="messages[0].image_url")
        async for _ in fetched.chunks:
            pass
    assert refused.value.param == "messages[0].image_url"
    return refused.value


NEVER = [
    "http://127.0.0.1:{port}/", "https://127.0.0.1:{port}/", "https://localhost:{port}/", "https://LOCALHOST.:{port}/",
    "http://0x7f.1:{port}/", "https://0x7f.1:{port}/", "https://2130706433:{port}/", "https://127.1:{port}/",
    "https://0177.0.0.1:{port}/", "https://[::1]:{port}/", "https://[::ffff:127.0.0.1]:{port}/",
    "https://[::127.0.0.1]:{port}/", "https://[64:ff9b::7f00:1]:{port}/", "https://[2002:7f00:1::]:{port}/",
    "https://0.0.0.0:{port}/", "https://[::]:{port}/", "https://169.254.169.254/latest/meta-data/",
    "https://10.0.0.1/", "https://192.168.0.1/", "https://172.16.0.1/", "https://100.64.0.1/", "https://[fe80::1]/",
    "https://[fc00::1]/", "https://[fec0::1]/", "https://224.0.0.1/", "https://u@127.0.0.1:{port}/",
    "https://u:p@example.com/", "file:///etc/passwd", "ftp://127.0.0.1:{port}/", "gopher://127.0.0.1:{port}/",
    "data:image/png;base64,AA==", "//127.0.0.1:{port}/", "127.0.0.1:{port}", "", "https://", "https://[::1",
    "https://x:99999/",
    "https://x:0/", "https://127.0.0.1:{port}/ HTTP/1.1\r\nX: y",
    "https://ex\u00e4mple.com/", "https://x/" + "a" * 9000,
    "https://rebound.example:{port}/", "https://public.example@127.0.0.1:{port}/",
    "https://127.0.0.1\\@example.com:{port}/",
]  # fmt: skip


def test_what_is_never_fetched(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    """`rebound.example` has a private address by the time it is dialled."""
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1" if host == "rebound.example" else host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    async def work(gateway: Gateway) -> None:
        for url in NEVER:
            error = await refusal(gateway, url.format(port=canary.port))
            assert (error.status, error.code) == (400, "validation_error"), url
            assert "127.0.0.1" not in error.message

    asyncio.run(with_transport(work))
    assert canary.hits == 0

    async def control(gateway: Gateway) -> None:
        await refusal(gateway, f"http://127.0.0.1:{canary.port}/")

    asyncio.run(with_transport(control, fetch_private_hosts=frozenset({f"127.0.0.1:{canary.port}"})))
    assert canary.hits == 1


def test_redirects_are_looked_at_again(canary: Canary, shop: str) -> None:
    Shop.locations = {
        "/http": f"http://127.0.0.1:{canary.port}/",
        "/https": f"https://127.0.0.1:{canary.port}/",
        "/metadata": "http://169.254.169.254/latest/meta-data/",
        "/file": "file:///etc/passwd",
        "/nowhere": "",
        "/loop": "/loop",
        "/one": "/two",
        "/two": "/three",
        "/three": "/png",
        "/own": "http://127.0.0.1:5005/v1/files/file_" + "0" * 26 + "/content",
    }

    async def work(gateway: Gateway) -> None:
        for path in ("http", "https", "metadata", "file", "nowhere", "loop", "own"):
            error = await refusal(gateway, f"http://{shop}/{path}")
            assert (error.status, error.code) == (400, "validation_error"), path
        fetched = await fetch(gateway, f"http://{shop}/one#here", tenant_id=1, max_bytes=1000)
        assert b"".join([piece async for piece in fetched.chunks]) == png()

    asyncio.run(with_transport(work, fetch_private_hosts=frozenset({shop})))
    assert canary.hits == 0


def test_what_is_fetched(shop: str) -> None:
    async def work(gateway: Gateway) -> None:
        fetched = await fetch(gateway, f"http://{shop}/png", tenant_id=1, max_bytes=len(png()))
        assert (fetched.mime, fetched.size_bytes, fetched.stored) == ("image/png", len(png()), None)
        assert b"".join([piece async for piece in fetched.chunks]) == png()

    asyncio.run(with_transport(work, fetch_private_hosts=frozenset({shop})))
    assert not {"authorization", "cookie", "x-api-key"} & Shop.asked[0].keys()


def test_caps(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "DEADLINES", Deadlines(connect=1, first_token=5, idle=5, total=0.6))

    async def work(gateway: Gateway) -> None:
        for path, status, words in (
            ("said", 413, "larger"), ("endless", 413, "larger"), ("png", 413, "larger"), ("slow", 400, "too long"),
            ("zipped", 400, "compresses"), ("absent", 400, "404"),
        ):  # fmt: skip
            error = await refusal(gateway, f"http://{shop}/{path}", max_bytes=50)
            assert error.status == status and words in error.message, path

    asyncio.run(with_transport(work, fetch_private_hosts=frozenset({shop})))


def test_our_own_urls_are_read_from_the_storage(with_gateway: Run) -> None:
    """Nobody listens at PUBLIC_URL here. Another tenant's signature opens nothing."""
    tenant, outsider = factories.make_tenant(), factories.make_tenant()

    async def work(gateway: Gateway) -> None:
        new = NewFile(tenant_id=tenant.pk, purpose="vision", source=MediaSource.UPLOAD, mime="image/png")
        stored = await keep(gateway, png(), new=new)
        signed = signed_url(gateway, stored)
        plain = f"http://localhost:5005/v1/files/{stored.id}/content"
        for url in (signed, plain, f"{plain}#x", signed.replace("127.0.0.1", "[::1]")):
            fetched = await fetch(gateway, url, tenant_id=tenant.pk, max_bytes=1000)
            assert fetched.stored == stored and fetched.mime == "image/png"
            assert b"".join([piece async for piece in fetched.chunks]) == png()
            with pytest.raises(GatewayError) as refused:
                await fetch(gateway, url, tenant_id=outsider.pk, max_bytes=1000)
            assert (refused.value.status, refused.value.code) == (404, "file_not_found")
        with pytest.raises(GatewayError) as refused:
            await fetch(gateway, signed, tenant_id=tenant.pk, max_bytes=5)
        assert refused.value.status == 413
        for url in (
            f"http://other:5005/v1/files/{stored.id}/content",
            f"{plain}/x",
            "http://localhost:5005/v1/files/x/content",
        ):
            assert own_file_id(gateway, url) is None

    asyncio.run(with_gateway(work, public_url="http://127.0.0.1:5005"))
