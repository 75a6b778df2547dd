"""The request that a job is made of: kept sealed, and made again for whoever works on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from gateway.media.models import MediaSource
from gateway.media.storage import NewFile, keep
from tenants.sealing import seal, unseal

if TYPE_CHECKING:
    from gateway.handler import DataPlaneRequest

FORGOTTEN = frozenset({b"x-api-key", b"x-request-id", b"x-real-ip"})
PURPOSE = "user_data"


class StoredRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A POST without its key."""

    path: str
    headers: list[tuple[str, str]]
    """Of ours: whom it is for, and how it is to be answered."""
    body: bytes

    def scope(self) -> dict[str, Any]:
        """It as ASGI has it."""
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers]
        return {
            "type": "http", "method": "POST", "path": self.path, "raw_path": self.path.encode(), "scheme": "http",
            "query_string": b"", "headers": [*headers, (b"content-type", b"application/json")],
        }  # fmt: skip


_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(StoredRequest).decode


def sealed(asked: StoredRequest, *, job_id: str, tenant_id: int) -> str:
    """It as it is stored."""
    return seal(_encode(asked), bound_to=_bound_to(job_id, tenant_id))


def unsealed(text: str, *, job_id: str, tenant_id: int) -> StoredRequest:
    """What `sealed` made. Raises `tenants.sealing.SealError`."""
    return _decode(unseal(text, bound_to=_bound_to(job_id, tenant_id)))


async def stored_request(request: DataPlaneRequest, *, job_id: str) -> StoredRequest:
    """The request as it may be made again. A form's files are kept for the tenant, and named by their ids: raises what
    keeping them does."""
    headers = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in request.scope["headers"]
        if name.startswith(b"x-") and name not in FORGOTTEN and not name.startswith(b"x-forwarded-")
    ]
    body = request.body if request.form is None else await _without_files(request, job_id=job_id)
    return StoredRequest(path=request.path, headers=headers, body=body)


async def _without_files(request: DataPlaneRequest, *, job_id: str) -> bytes:
    form, trace = request.form, request.trace
    assert form is not None and trace.caller is not None
    members: dict[str, Any] = {}
    for name, text in form.fields:
        _add(members, name, value=text)
    for file in form.files:
        new = NewFile(
            tenant_id=trace.caller.principal.tenant_id,
            key_id=trace.caller.principal.key_id,
            purpose=PURPOSE,
            source=MediaSource.UPLOAD,
            mime=file.mime,
            job_id=job_id,
            param=file.name,
        )
        _add(members, file.name, value=(await keep(request.gateway, file.content, new=new)).id)
    return _encode(members)


def _add(members: dict[str, Any], name: str, *, value: str) -> None:
    """Put a field where JSON has it: what is given twice, or as `name[]`, is a list."""
    plain = name.removesuffix("[]")
    if plain in members:
        had = members[plain]
        members[plain] = [*(had if isinstance(had, list) else [had]), value]
    else:
        members[plain] = [value] if name.endswith("[]") else value


def _bound_to(job_id: str, tenant_id: int) -> bytes:
    return f"job request:{job_id}:tenant:{tenant_id}".encode()
