"""Forms, however their bytes come."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.body_stream import BodyStream, ClientLeft
from gateway.errors import GatewayError, PayloadTooLargeError
from gateway.media.config import MediaConfig
from gateway.media.multipart import Form, FormLimits, base_name, reading_form
from gateway.media.store import FileStore
from tests import factories
from tests.live import LiveServer


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileStore]:
    store = FileStore(MediaConfig(spool_dir=tmp_path_factory.mktemp("spool"), file_limit_bytes=100_000))
    yield store
    store.close()


def encoded(*, boundary: str = "b", **form: Any) -> tuple[bytes, str]:
    request = httpx.Request(
        "POST", "http://x", headers={"content-type": f"multipart/form-data; boundary={boundary}"}, **form
    )
    return request.read(), request.headers["content-type"]


THREE_FILES = FormLimits(files=3)


async def parse(
    store: FileStore, body: bytes, content_type: str, *, sizes: Sequence[int] = (), limits: FormLimits = THREE_FILES
) -> tuple[Form, list[bytes]]:
    """The form and its files' contents, of a body that comes in pieces of these sizes."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(body[at : at + size])
        at += size
    pieces.append(body[at:])
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages[-1]["more_body"] = False
    coming = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(coming)

    meta = {"CONTENT_TYPE": content_type, "CONTENT_LENGTH": str(len(body))}
    request: Any = SimpleNamespace(form_stream=BodyStream(receive), gateway=SimpleNamespace(files=store), META=meta)
    async with reading_form(request, limits) as form:
        return form, [await file.content.read() for file in form.files]


def left(store: FileStore) -> list[Path]:
    return list(store.config.spool_dir.iterdir())


def test_a_form_of_httpx(store: FileStore) -> None:
    files = [
        ("image[]", ("ä/../b.png", b"first", "image/png")),
        ("image[]", ("c", b"second", "image/png")),
        ("mask", ("m.png", b"", "Image/PNG; x=y")),
    ]
    body, kind = encoded(data={"model": "späte", "include[]": ["a", "b"]}, files=files)
    form, contents = asyncio.run(parse(store, body, kind))
    assert (form.text("model"), form.texts("include"), form.text("none")) == ("späte", ["a", "b"], None)
    assert contents == [b"first", b"second", b""]
    assert [file.filename for file in form.files_named("image")] == ["b.png", "c"]
    assert form.file("mask").mime == "image/png"
    assert left(store) == []


@given(
    content=st.binary(max_size=400) | st.sampled_from([b"\r\n--", b"\r\n--b", b"\r\n--b\r", b"--b--", b"\r\n" * 9]),
    sizes=st.lists(st.integers(1, 40), max_size=30),
    is_first=st.booleans(),
)
def test_any_cut_of_any_content(store: FileStore, content: bytes, sizes: list[int], is_first: bool) -> None:
    """Fields come before the file or after it."""
    boundary = secrets.token_hex(8)
    file = (
        f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n'.encode()
        + content
        + b"\r\n"
    )
    text = f'--{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'.encode()
    body = b"".join([text, file] if is_first else [file, text]) + f"--{boundary}--\r\nepilogue".encode()
    form, contents = asyncio.run(parse(store, body, f"multipart/form-data; boundary={boundary}", sizes=sizes))
    assert (form.text("model"), contents) == ("m", [content])


FILE = b'--b\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\n\r\n'
ENCODED = b'--b\r\nContent-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: base64\r\n\r\neA==\r\n'
PART = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\nx\r\n'
END = b"--b--\r\n"
FORM = "multipart/form-data; boundary=b"
BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", FORM),
    "no boundary": (END, "multipart/form-data"),
    "an empty boundary": (END, "multipart/form-data; boundary="),
    "a boundary of 71": (END, "multipart/form-data; boundary=" + "b" * 71),
    "another boundary": (b"--c--" * 2000, FORM),
    "no end": (PART % b"a", FORM),
    "no end of the headers": (b"--b\r\nContent-Disposition: form-data", FORM),
    "headers for ever": (b"--b\r\n" + b"x: y\r\n" * 5000, FORM),
    "a line for ever": (b"--b" + b" " * 20_000, FORM),
    "a boundary that goes on": (b"--bcd\r\n" + PART % b"a" + END, FORM),
    "no disposition": (b"--b\r\n\r\nx\r\n" + END, FORM),
    "no name": (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + END, FORM),
    "a name of 257": (PART % (b"a" * 257) + END, FORM),
    "an encoded part": (ENCODED + END, FORM),
    "no UTF-8": (b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xff\r\n' + END, FORM),
    "more fields than a form has": (PART % b"a" * 101 + END, FORM),
    "a million tiny parts": (PART % b"a" * 20_000 + END, FORM),
    "more files than a form has": (FILE * 4 + END, FORM),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_forms(case: str, store: FileStore) -> None:
    body, content_type = BAD[case]
    with pytest.raises(GatewayError) as refused:
        asyncio.run(parse(store, body, content_type))
    assert refused.value.status == 400
    assert left(store) == []


def test_files_and_fields_that_are_too_long(store: FileStore) -> None:
    body, kind = encoded(files={"file": ("f", bytes(100_001))})
    with pytest.raises(PayloadTooLargeError):
        asyncio.run(parse(store, body, kind))
    body, kind = encoded(data={"a": "x" * 60, "b": "x" * 60}, files={"file": b""})
    with pytest.raises(PayloadTooLargeError) as refused:
        asyncio.run(parse(store, body, kind, limits=FormLimits(field_bytes=100)))
    assert refused.value.param == "b"
    assert left(store) == []


def test_a_client_that_leaves(store: FileStore) -> None:
    async def receive() -> dict[str, Any]:
        return next(messages)

    body = b'--b\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\nhalf'
    messages = iter([{"type": "http.request", "body": body, "more_body": True}, {"type": "http.disconnect"}])
    meta = {"CONTENT_TYPE": FORM}
    request: Any = SimpleNamespace(form_stream=BodyStream(receive), gateway=SimpleNamespace(files=store), META=meta)

    async def read() -> None:
        async with reading_form(request, FormLimits()):
            raise AssertionError("it was not whole")

    with pytest.raises(ClientLeft):
        asyncio.run(read())
    assert left(store) == []


def test_one_digest_whatever_the_boundary(store: FileStore) -> None:
    def digest(boundary: str, **form: Any) -> bytes:
        body, kind = encoded(boundary=boundary, **form)
        return asyncio.run(parse(store, body, kind))[0].digest()

    form = {"data": {"a": "1"}, "files": {"file": ("f", b"x", "text/plain")}}
    first = digest("one", **form)
    assert first == digest("two", **form)
    for other in (
        {**form, "data": {"a": "2"}},
        {**form, "data": {"a": "1", "b": ""}},
        {**form, "files": {"file": ("f", b"y", "text/plain")}},
        {**form, "files": {"file": ("g", b"x", "text/plain")}},
    ):
        assert digest("one", **other) != first


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../x", "x"),
        ("C:\\temp\\x.png", "x.png"),
        ("/etc/passwd", "passwd"),
        ("a\r\nb", "ab"),
        ("..", ".."),
        ("a/", ""),
    ],
)
def test_names_have_no_folders(given: str, kept: str) -> None:
    assert base_name(given) == kept


def test_by_the_door(uvicorn: LiveServer, committed: None) -> None:
    key = factories.make_key(factories.make_tenant())[1]
    before = set(os.listdir("/tmp"))
    with uvicorn.client(key) as client:
        for body, content_type in (BAD["a million tiny parts"], BAD["a boundary of 71"]):
            answer = client.post("/files", content=body, headers={"content-type": content_type})
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "validation_error")
        with contextlib.suppress(httpx.WriteError):  # it may say no before everything is sent
            answer = client.post("/files", content=iter([b"--b\r\n"] * 9), headers={"content-type": FORM})
            assert answer.status_code == 400
        evil = client.post(
            "/files", files={"file": ("../../../tmp/outside.txt", b"x", "text/plain")}, data={"purpose": "user_data"}
        )
        assert evil.json()["filename"] == "outside.txt"
    assert "outside.txt" not in set(os.listdir("/tmp")) - before
    with socket.create_connection(("127.0.0.1", uvicorn.port)) as peer:
        head = f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: {FORM}\r\n"
        peer.sendall(f"{head}content-length: 99999999999\r\n\r\n".encode())
        assert b" 413 " in peer.recv(100), "before anything of it is read"
