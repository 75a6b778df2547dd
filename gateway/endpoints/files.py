"""/v1/files: what a tenant sends to be used in calls, and what was made for it, in OpenAI's shape."""

from __future__ import annotations

import datetime as dt
from typing import Any

import orjson
from django.http import HttpResponse

from gateway.authentication import authenticate
from gateway.errors import ValidationError
from gateway.handler import DataPlaneRequest
from gateway.media import storage
from gateway.media.models import MediaSource
from gateway.media.multipart import Form, FormLimits
from gateway.media.records import Page, check_room, list_files, room_of
from gateway.media.serving import serve
from gateway.media.storage import NewFile, StoredFile
from gateway.responses import json_response
from gateway.runtime import Gateway
from gateway.views import DataPlaneView
from tenants.models import Scope

PURPOSES = ("assistants", "batch", "evals", "fine-tune", "user_data", "vision")
"""What an upload may be for, as OpenAI's clients name it. None of them means anything to us."""

MADE_FOR = (*PURPOSES, "generated", "fetched")
EXPIRY_SECONDS = (3600, 30 * 24 * 3600)
URL_SECONDS = (60, 7 * 24 * 3600)
LISTED = 100
LISTED_AT_MOST = 1000


class FilesView(DataPlaneView):
    """The tenant's files."""

    scope = Scope.FILES
    form_limits = FormLimits(files=1)

    async def get(self, request: DataPlaneRequest) -> HttpResponse:
        """A page of the list, the newest first unless `order=asc`; `purpose`, `limit` and `after` as at OpenAI's."""
        gateway, tenant_id = request.gateway, _tenant_id(request)
        asked = _page(request)
        now = dt.datetime.now(dt.UTC)
        found = await storage.query(gateway, lambda: list_files(tenant_id, asked, now=now))
        if found is None:
            raise ValidationError("There is no such file to begin after.", param="after")
        rows, has_more, version = found
        files = [storage.as_stored(gateway, row, key_version=version) for row in rows]
        body = {
            "object": "list",
            "data": [describe(gateway, file) for file in files],
            "first_id": files[0].id if files else None,
            "last_id": files[-1].id if files else None,
            "has_more": has_more,
        }
        return json_response(orjson.dumps(body))

    async def post(self, request: DataPlaneRequest) -> HttpResponse:
        """Keep the form's `file` for `purpose`; `expires_after` may have it forgotten earlier than the tenant's files
        are."""
        form = request.form
        if form is None:
            raise ValidationError("Send a form: multipart/form-data with file and purpose.", param="file")
        file, purpose = form.file("file"), form.text("purpose")
        if purpose not in PURPOSES:
            raise ValidationError(f"purpose is one of {', '.join(PURPOSES)}.", param="purpose")
        assert request.trace.caller is not None
        principal = request.trace.caller.principal
        new = NewFile(
            tenant_id=principal.tenant_id,
            key_id=principal.key_id,
            purpose=purpose,
            source=MediaSource.UPLOAD,
            mime=file.mime,
            filename=file.filename,
            expires_at=_expiry(form),
            param="file",
        )
        stored = await storage.keep(request.gateway, file.content, new=new)
        return json_response(orjson.dumps(describe(request.gateway, stored)))

    async def before_form(self, request: DataPlaneRequest) -> None:
        """Refuse an upload that has no place before a byte of it is read."""
        gateway = request.gateway
        defaults = storage.defaults_of(gateway)
        tenant_id = _tenant_id(request)
        room = await storage.query(gateway, lambda: room_of(tenant_id, MediaSource.UPLOAD, defaults=defaults))
        said = request.META.get("CONTENT_LENGTH", "")
        overhead = self.form_limits.overhead_bytes
        size = int(said[:20]) if said.isascii() and said.isdigit() else 0
        check_room(room, max(0, size - overhead))


class FileView(DataPlaneView):
    """One file of the tenant's."""

    scope = Scope.FILES

    async def get(self, request: DataPlaneRequest, file_id: str) -> HttpResponse:
        """What is known of it, with a signed URL that is good for `url_seconds`. Another tenant's is not found."""
        seconds = _number(request, "url_seconds", default=storage.URL_SECONDS, bounds=URL_SECONDS)
        stored = await storage.read(request.gateway, tenant_id=_tenant_id(request), file_id=file_id)
        return json_response(orjson.dumps(describe(request.gateway, stored, url_seconds=seconds)))

    async def delete(self, request: DataPlaneRequest, file_id: str) -> HttpResponse:
        """Nobody reads it from now on, by no URL."""
        await storage.delete(request.gateway, tenant_id=_tenant_id(request), file_id=file_id)
        return json_response(orjson.dumps({"id": file_id, "object": "file", "deleted": True}))


class FileContentView(DataPlaneView):
    """The bytes of a file, for its tenant's keys, and for whoever has a signed URL."""

    async def get(self, request: DataPlaneRequest, file_id: str) -> HttpResponse:
        """The whole, or one range."""
        gateway = request.gateway
        signature = request.GET.get("sig")
        if signature is not None:
            expires = request.GET.get("exp", "")
            stored = await storage.read_signed(gateway, file_id, expires=expires, signature=signature)
        else:
            request.trace.caller = await authenticate(gateway, request.META, scope=Scope.FILES)
            stored = await storage.read(gateway, tenant_id=_tenant_id(request), file_id=file_id)
        return await serve(gateway, stored, meta=request.META)


def describe(gateway: Gateway, stored: StoredFile, *, url_seconds: int = storage.URL_SECONDS) -> dict[str, Any]:
    """A file as the API tells of it: OpenAI's members, then ours."""
    return {
        "id": stored.id,
        "object": "file",
        "bytes": stored.size_bytes,
        "created_at": int(stored.created_at.timestamp()),
        "expires_at": int(stored.expires_at.timestamp()) if stored.expires_at else None,
        "filename": stored.filename or f"{stored.id}.{stored.name.rpartition('.')[2]}",
        "purpose": stored.purpose,
        "status": "processed",
        "status_details": None,
        "kind": stored.kind,
        "mime_type": stored.mime,
        "sha256": stored.sha256,
        "url": storage.signed_url(gateway, stored, seconds=url_seconds),
    }


def _tenant_id(request: DataPlaneRequest) -> int:
    assert request.trace.caller is not None
    return request.trace.caller.principal.tenant_id


def _page(request: DataPlaneRequest) -> Page:
    purpose, order = request.GET.get("purpose", ""), request.GET.get("order", "desc")
    if purpose and purpose not in MADE_FOR:
        raise ValidationError(f"purpose is one of {', '.join(MADE_FOR)}.", param="purpose")
    if order not in ("asc", "desc"):
        raise ValidationError("order is asc or desc.", param="order")
    limit = _number(request, "limit", default=LISTED, bounds=(1, 10_000))
    after = request.GET.get("after", "")[:64].replace("\0", "")
    return Page(purpose=purpose, after=after, limit=min(limit, LISTED_AT_MOST), is_oldest_first=order == "asc")


def _number(request: DataPlaneRequest, name: str, *, default: int, bounds: tuple[int, int]) -> int:
    text = request.GET.get(name)
    if text is None:
        return default
    return _bounded(text, name, bounds=bounds)


def _bounded(text: str, param: str, *, bounds: tuple[int, int]) -> int:
    least, most = bounds
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise ValidationError(f"{param} is a whole number from {least} to {most}.", param=param)
    return int(text)


def _expiry(form: Form) -> dt.datetime | None:
    anchor, seconds = form.text("expires_after[anchor]"), form.text("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise ValidationError("expires_after[anchor] is created_at.", param="expires_after[anchor]")
    lives = _bounded(seconds or "", "expires_after[seconds]", bounds=EXPIRY_SECONDS)
    return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=lives)
