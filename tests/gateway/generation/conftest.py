"""The studio, and servers that know it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.fakes.anthropic_server import FakeAnthropic
from tests.fakes.google_server import FakeGoogle
from tests.fakes.openai.media import PNG
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.test_openai_media import wav
from tests.gateway.generation.studio import OWN_ORIGIN, Studio
from tests.live import LiveServer

NOWHERE = {
    "MEDIA_S3_BUCKET": "gone", "MEDIA_S3_ENDPOINT_URL": "http://127.0.0.1:9", "MEDIA_S3_REGION": "eu-west-1",
    "MEDIA_S3_ACCESS_KEY_ID": "a", "MEDIA_S3_SECRET_ACCESS_KEY": "b", "AWS_MAX_ATTEMPTS": "1",
}  # fmt: skip


class _Files(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = {"/a.png": PNG, "/a.wav": wav(1)}.get(self.path, b"")
        self.send_response(200 if content else 404)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="session")
def web() -> Iterator[str]:
    """Somebody's web server; an origin that the operator allows to be fetched from."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def gallery(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, _engines: None, web: str
) -> Iterator[LiveServer]:
    allowed = {"MEDIA_FETCH_PRIVATE_HOSTS": web.removeprefix("http://"), "PUBLIC_URL": OWN_ORIGIN}
    server = LiveServer("uvicorn", tmp_path_factory.mktemp("gallery"), **allowed)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def without_storage(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, _engines: None
) -> Iterator[LiveServer]:
    server = LiveServer("uvicorn", tmp_path_factory.mktemp("without_storage"), **NOWHERE)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def furnished(committed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with FakeOpenAI() as openai, FakeGoogle() as google, FakeAnthropic() as anthropic:
        studio = Studio((openai, google, anthropic), tmp_path_factory.mktemp("studio"))
        yield studio
        studio.close()


@pytest.fixture
def studio(furnished: Studio) -> Studio:
    furnished.reset()
    return furnished
