"""/v1/files through the public door."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from django.conf import settings
from django.utils import timezone
from openai import OpenAI

from gateway.media.models import MediaObject, TenantStorage
from gateway.media.records import revoke_urls
from gateway.media.storage import signature_of
from gateway.models import IdempotentCall
from tenants.models import Tenant, TenantStatus
from tests import factories
from tests.gateway.media.shop import bomb, pdf, png, wav
from tests.live import LiveServer, until


@pytest.fixture
def tenant(committed: None) -> Tenant:
    return factories.make_tenant()


@pytest.fixture
def key(tenant: Tenant) -> str:
    return factories.make_key(tenant)[1]


@pytest.fixture
def client(uvicorn: LiveServer, key: str) -> Iterator[httpx.Client]:
    with uvicorn.client(key) as client:
        yield client


def upload(client: httpx.Client, content: bytes, name: str = "a.png", mime: str = "image/png", **fields: Any) -> Any:
    data = {"purpose": "user_data", **fields}
    return client.post("/files", files={"file": (name, content, mime)}, data=data)


def here(url: str, server: LiveServer) -> str:
    """A signed URL as it reaches this server, which is not where PUBLIC_URL says."""
    parts = urlsplit(url)
    return f"{server.origin}{parts.path}?{parts.query}"


def test_with_openais_client(server: LiveServer, tenant: Tenant, key: str) -> None:
    content = png(40, 30)
    client = OpenAI(base_url=server.base_url, api_key=key)
    made = client.files.create(file=("Bild für dich.png", content, "image/png"), purpose="vision")
    assert (made.filename, made.bytes, made.purpose, made.status) == (
        "Bild für dich.png",
        len(content),
        "vision",
        "processed",
    )
    assert made.expires_at is not None and made.expires_at - made.created_at == 7 * 24 * 3600
    assert client.files.retrieve(made.id).id == made.id
    assert client.files.content(made.id).read() == content
    second = client.files.create(file=("quarter.pdf", pdf(2)), purpose="user_data")
    assert [file.id for file in client.files.list()] == [second.id, made.id]
    assert [file.id for file in client.files.list(order="asc", limit=1)] == [made.id, second.id], "it turns pages"
    assert [file.id for file in client.files.list(purpose="vision")] == [made.id]
    assert client.files.delete(made.id).deleted
    assert [file.id for file in client.files.list()] == [second.id]
    client.close()
    row = MediaObject.objects.get(pk=second.id)
    assert (row.kind, row.mime, row.pages, row.api_key.tenant_id) == ("document", "application/pdf", 2, tenant.pk)
    assert "quarter" not in row.name and "Bild" not in MediaObject.objects.get(pk=made.id).name


def test_what_is_told_of_a_file(client: httpx.Client) -> None:
    content = wav(3)
    answer = upload(client, content, "speech.wav", "audio/wav")
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told.pop("url").startswith(f"http://127.0.0.1:5005/v1/files/{told['id']}/content?exp=")
    created = told.pop("created_at")
    assert told == {
        "id": told["id"], "object": "file", "bytes": len(content), "expires_at": created + 7 * 24 * 3600,
        "filename": "speech.wav", "purpose": "user_data", "status": "processed", "status_details": None,
        "kind": "audio", "mime_type": "audio/wav", "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    assert MediaObject.objects.get(pk=told["id"]).duration_ms == 3000


def test_an_outsider_reads_guesses_and_infers_nothing(client: httpx.Client, uvicorn: LiveServer) -> None:
    file = upload(client, png()).json()
    never = "file_" + "0" * 26
    with uvicorn.client(factories.make_key(factories.make_tenant())[1]) as outsider:
        assert outsider.get("/files").json()["data"] == []
        for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
            of_another = outsider.request(method, f"/files/{file['id']}{path}")
            of_nobody = outsider.request(method, f"/files/{never}{path}")
            assert (of_another.status_code, of_nobody.status_code) == (404, 404)
            both = [answer.json()["error"] for answer in (of_another, of_nobody)]
            told = [{**error, "message": "", "request_id": ""} for error in both]
            assert told[0] == told[1] and told[0]["code"] == "file_not_found"
        after = outsider.get("/files", params={"after": file["id"]})
        assert after.json() == {**outsider.get("/files", params={"after": never}).json()} | after.json()
        assert (after.status_code, after.json()["error"]["param"]) == (400, "after")
    assert client.get(f"/files/{file['id']}").status_code == 200
    nobody = httpx.get(f"{uvicorn.base_url}/files/{file['id']}/content")
    assert (nobody.status_code, nobody.json()["error"]["code"]) == (401, "invalid_api_key")


def test_a_key_needs_the_scope(uvicorn: LiveServer, tenant: Tenant) -> None:
    with uvicorn.client(factories.make_key(tenant, scopes=["chat"])[1]) as client:
        for answer in (
            client.get("/files"),
            upload(client, png()),
            client.get("/files/x"),
            client.get("/files/x/content"),
        ):
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "permission_denied")


def test_a_signed_url_is_good_until_it_expires_or_is_revoked(
    client: httpx.Client, uvicorn: LiveServer, tenant: Tenant
) -> None:
    file = upload(client, png()).json()
    url = here(file["url"], uvicorn)
    answer = httpx.get(url)
    assert (answer.status_code, answer.content) == (200, png())
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert 3590 <= int(query["exp"]) - time.time() <= 3600
    other = upload(client, png(5, 5)).json()
    address = f"{uvicorn.base_url}/files"
    for wrong in (
        f"{address}/{file['id']}/content?exp={int(query['exp']) + 1}&sig={query['sig']}",
        f"{address}/{file['id']}/content?exp={query['exp']}&sig={query['sig'][:-2]}xx",
        f"{address}/{file['id']}/content?exp={query['exp']}&sig=%C3%A9",
        f"{address}/{file['id']}/content?exp=%C2%B2&sig={query['sig']}",
        f"{address}/{file['id']}/content?sig={query['sig']}",
        f"{address}/{other['id']}/content?exp={query['exp']}&sig={query['sig']}",
    ):
        refused = httpx.get(wrong)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "file_not_found"), wrong
    Tenant.objects.filter(pk=tenant.pk).update(status=TenantStatus.SUSPENDED)
    assert httpx.get(url).status_code == 404
    Tenant.objects.filter(pk=tenant.pk).update(status=TenantStatus.ACTIVE)
    assert httpx.get(url).status_code == 200
    revoke_urls(TenantStorage.objects.get(tenant=tenant))
    assert httpx.get(url).status_code == 404
    until(lambda: client.get("/files").status_code == 200, what="the tenant being active again everywhere")
    fresh = client.get(f"/files/{file['id']}", params={"url_seconds": 60}).json()["url"]
    assert httpx.get(here(fresh, uvicorn)).status_code == 200
    assert client.get(f"/files/{file['id']}", params={"url_seconds": 59}).json()["error"]["param"] == "url_seconds"


def test_a_signed_url_that_is_over(client: httpx.Client, uvicorn: LiveServer) -> None:
    """Signed as the server does, for a moment that has passed."""
    file = upload(client, png()).json()
    past = int(time.time()) - 1
    from_server = _sign(file["id"], past)
    assert httpx.get(f"{uvicorn.base_url}/files/{file['id']}/content?{from_server}").status_code == 404
    future = _sign(file["id"], past + 60)
    assert httpx.get(f"{uvicorn.base_url}/files/{file['id']}/content?{future}").status_code == 200, "the control"


def _sign(file_id: str, expires: int) -> str:
    return f"exp={expires}&sig={signature_of(settings.SECRET_KEY.encode(), file_id, expires=expires, version=1)}"


def test_ranges(client: httpx.Client) -> None:
    content = bytes(range(256)) * 10
    file = upload(client, content, "data.bin", "application/octet-stream").json()
    path = f"/files/{file['id']}/content"
    whole = client.get(path)
    assert (whole.status_code, whole.content, whole.headers["accept-ranges"]) == (200, content, "bytes")
    parts = {
        "bytes=0-0": (0, 1), "bytes=10-19": (10, 20), "bytes=2550-9999": (2550, 2560), "bytes=100-": (100, 2560),
        "bytes=-5": (2555, 2560), "bytes=-9999": (0, 2560),
    }  # fmt: skip
    for asked, part in parts.items():
        answer = client.get(path, headers={"range": asked})
        assert answer.status_code == 206, asked
        assert answer.content == content[part[0] : part[1]]
        assert answer.headers["content-range"] == f"bytes {part[0]}-{part[1] - 1}/2560"
    for asked in ("bytes=2560-", "bytes=9999-99999", "bytes=-0"):
        answer = client.get(path, headers={"range": asked})
        assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */2560"), asked
    for asked in ("bytes=5-1", "lines=1-2", "bytes=0-1,5-6", "bytes=-", "bytes=" + "9" * 30 + "-"):
        assert client.get(path, headers={"range": asked}).content == content, asked
    etag = whole.headers["etag"]
    assert client.get(path, headers={"range": "bytes=0-1", "if-range": etag}).status_code == 206
    assert client.get(path, headers={"range": "bytes=0-1", "if-range": '"other"'}).status_code == 200


def test_what_a_browser_is_told(client: httpx.Client) -> None:
    html = b"<!doctype html><script>alert(1)</script>"
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    for content, name, mime in ((html, "x.html", "text/html"), (svg, "x.svg", "image/svg+xml"), (b"\x00\x01", "x", "")):
        file = upload(client, content, name, mime).json()
        headers = client.get(f"/files/{file['id']}/content").headers
        assert headers["content-disposition"].startswith("attachment"), name
        assert headers["content-security-policy"] == "sandbox; default-src 'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in headers
    file = upload(client, png(), 'a"; x=y.png').json()
    headers = client.get(f"/files/{file['id']}/content").headers
    assert headers["content-disposition"] == 'inline; filename="a%22; x=y.png"'
    assert (headers["content-type"], headers["x-content-type-options"]) == ("image/png", "nosniff")


REFUSED = {
    "no purpose": ({"file": ("a.png", png(), "image/png")}, {}, 400, "purpose"),
    "another purpose": ({"file": ("a.png", png(), "image/png")}, {"purpose": "mine"}, 400, "purpose"),
    "two purposes": ({"file": ("a.png", png(), "image/png")}, {"purpose": ["vision", "vision"]}, 400, "purpose"),
    "no file": ({"other": ("a.png", png(), "image/png")}, {"purpose": "vision"}, 400, "file"),
    "a bomb": ({"file": ("a.png", bomb(), "image/png")}, {"purpose": "vision"}, 400, "file"),
    "another type": ({"file": ("a.png", pdf(), "image/png")}, {"purpose": "vision"}, 415, "file"),
    "no picture": ({"file": ("a.png", b"hello", "image/png")}, {"purpose": "vision"}, 415, "file"),
    "too short a life": (
        {"file": ("a.png", png(), "image/png")},
        {"purpose": "vision", "expires_after[anchor]": "created_at", "expires_after[seconds]": "5"},
        400,
        "expires_after[seconds]",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_what_is_wrong(case: str, client: httpx.Client, tenant: Tenant) -> None:
    files, data, status, param = REFUSED[case]
    answer = client.post("/files", files=files, data=data)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param), error
    assert error["code"] == ("validation_error" if status == 400 else "unsupported_media")
    assert not MediaObject.objects.filter(tenant=tenant).exists()


def test_a_file_may_live_shorter_but_not_longer(client: httpx.Client, tenant: Tenant) -> None:
    asked = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file = upload(client, png(), **asked).json()
    assert 3598 <= file["expires_at"] - file["created_at"] <= 3600
    TenantStorage.objects.filter(tenant=tenant).update(uploads_kept_hours=2)
    asked["expires_after[seconds]"] = str(30 * 24 * 3600)
    file = upload(client, png(), **asked).json()
    assert file["expires_at"] - file["created_at"] == 7200


def test_an_expired_file_is_not_there(client: httpx.Client, uvicorn: LiveServer) -> None:
    file = upload(client, png()).json()
    MediaObject.objects.filter(pk=file["id"]).update(expires_at=timezone.now())
    assert client.get(f"/files/{file['id']}").status_code == 404
    assert client.get(f"/files/{file['id']}/content").status_code == 404
    assert httpx.get(here(file["url"], uvicorn)).status_code == 404
    assert client.get("/files").json()["data"] == []


def test_the_quota(client: httpx.Client, tenant: Tenant) -> None:
    content = b"x" * 1000
    TenantStorage.objects.create(tenant=tenant, quota_bytes=2500)
    first = upload(client, content, "a.txt", "text/plain").json()
    assert upload(client, content, "b.txt", "text/plain").status_code == 200
    refused = upload(client, content, "c.txt", "text/plain")
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (413, "storage_quota_exceeded")
    assert (error["quota_bytes"], error["used_bytes"], error["needed_bytes"]) == (2500, 2000, 1000)
    client.delete(f"/files/{first['id']}")
    assert upload(client, content, "c.txt", "text/plain").status_code == 200
    assert TenantStorage.objects.get(tenant=tenant).used_bytes == 2000
    TenantStorage.objects.filter(tenant=tenant).update(uploads_kept_hours=0)
    off = upload(client, b"", "d.txt", "text/plain")
    assert (off.status_code, off.json()["error"]["code"]) == (403, "storage_disabled")


def test_two_uploads_at_once_do_not_both_take_the_last_room(
    client: httpx.Client, uvicorn: LiveServer, tenant: Tenant, key: str
) -> None:
    TenantStorage.objects.create(tenant=tenant, quota_bytes=1500)

    async def both() -> list[int]:
        async with httpx.AsyncClient(base_url=uvicorn.base_url, headers={"authorization": f"Bearer {key}"}) as client:
            files = {"file": ("a.txt", b"x" * 1000, "text/plain")}
            asked = [client.post("/files", files=files, data={"purpose": "user_data"}) for _ in range(8)]
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert sorted(asyncio.run(both())) == [200] + [413] * 7
    assert TenantStorage.objects.get(tenant=tenant).used_bytes == 1000


def test_an_upload_is_repeated_under_its_idempotency_key(client: httpx.Client, tenant: Tenant) -> None:
    """Each attempt has another boundary."""
    headers = {"idempotency-key": factories.unique("key")}
    told = []
    for content in (png(), png(), png(9, 9)):
        form = {"files": {"file": ("a.png", content, "image/png")}, "data": {"purpose": "vision"}}
        told.append(client.post("/files", headers=headers, **form))
    assert [answer.status_code for answer in told] == [200, 200, 422]
    assert told[0].json() == told[1].json()
    assert told[1].headers["x-gateway-idempotent-replay"] == "true"
    assert MediaObject.objects.filter(tenant=tenant).count() == 1
    assert IdempotentCall.objects.filter(tenant=tenant).count() == 1


@pytest.mark.parametrize("headers", [{}, {"idempotency-key": "one-that-leaves"}])
def test_a_client_that_leaves_half_way_leaves_nothing(
    headers: dict[str, str], client: httpx.Client, uvicorn: LiveServer, tenant: Tenant, key: str
) -> None:
    logged = uvicorn.log.stat().st_size  # by other tests
    with socket.create_connection(("127.0.0.1", uvicorn.port)) as peer:
        lines = [
            "POST /v1/files HTTP/1.1", "host: x", f"authorization: Bearer {key}", "content-length: 100000",
            "content-type: multipart/form-data; boundary=b", *(f"{name}: {value}" for name, value in headers.items()),
        ]  # fmt: skip
        peer.sendall(
            "\r\n".join(lines).encode()
            + b"\r\n\r\n--b\r\ncontent-disposition: form-data; name=file; filename=f\r\n\r\nxyz"
        )
        until(lambda: list(_spool()), what="a file on its way")
    until(lambda: not list(_spool()), what="its being gone")
    assert not MediaObject.objects.filter(tenant=tenant).exists()
    assert b"Traceback" not in uvicorn.log.read_bytes()[logged:]


def _spool() -> Any:
    return settings.MEDIA_SPOOL_DIR.glob("spool-*")


def test_nothing_is_read_for_somebody_unknown(uvicorn: LiveServer) -> None:
    """The answer comes before the body does."""
    with socket.create_connection(("127.0.0.1", uvicorn.port)) as peer:
        peer.sendall(
            b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n"
            b"content-type: multipart/form-data; boundary=b\r\n\r\n"
        )
        assert b" 401 " in peer.recv(100)


def test_a_form_where_none_is_taken(client: httpx.Client) -> None:
    answer = client.post("/chat/completions", files={"file": ("a", b"b")})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media")


def test_json_where_a_form_is_wanted(client: httpx.Client) -> None:
    answer = client.post("/files", json={"purpose": "vision"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")
