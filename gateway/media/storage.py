"""Keeping and reading tenants' files, on the loop.

async with spool(gateway.files, chunks) as content:
    try:
        stored = await keep(gateway, content, new=NewFile(tenant_id=7, purpose="generated", source=…))
    except NotKeptError:
        …  # the storage is away, full or switched off: `content` is still there, to be given to the client inline
"""

from __future__ import annotations

import base64
import datetime as dt
import hmac
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlencode

from django.db import DatabaseError, InterfaceError

from gateway.media.backends import TENANTS_FOLDER, backend
from gateway.media.config import ALIAS
from gateway.media.errors import FileNotFoundInStorageError, NothingIsKeptError, NotKeptError, StorageUnavailableError
from gateway.media.inspection import Facts, inspect, sniff
from gateway.media.models import MediaObject, MediaSource
from gateway.media.records import Defaults, add_file, check_room, find_file, mark_deleted, room_of
from gateway.media.spool import PIECE_BYTES, Spooled, spool
from gateway.media.store import FileStore
from gateway.observation import NOT_KEPT

if TYPE_CHECKING:
    from gateway.runtime import Gateway

logger = logging.getLogger(__name__)

URL_SECONDS = 3600
CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """What is known of a file before its content is looked at."""

    tenant_id: int
    purpose: str
    source: MediaSource
    id: str = ""
    """Of `new_file_id`, where it had to be told before the content was there; empty: one is made."""
    mime: str | None = None
    """As its sender says; what is generated may be of another type and is kept as what it is."""
    filename: str = ""
    key_id: int | None = None
    job_id: str = ""
    expires_at: dt.datetime | None = None
    """As long as the tenant's files of this source live, unless this is earlier."""
    param: str | None = None
    """Which member of the client's request is at fault where the content is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file that is kept."""

    id: str
    tenant_id: int
    kind: str
    mime: str
    size_bytes: int
    sha256: str
    purpose: str
    source: str
    filename: str
    created_at: dt.datetime
    expires_at: dt.datetime | None
    width: int | None
    height: int | None
    pages: int | None
    duration_ms: int | None
    storage: str
    name: str
    url_key_version: int
    store: FileStore

    async def chunks(self, start: int = 0, *, end: int | None = None) -> AsyncIterator[bytes]:
        """Its bytes from `start` to before `end`, piece by piece. Raises `StorageUnavailableError`, and
        `FileNotFoundInStorageError` where the storage has lost them."""
        run, stop = self.store.run, self.size_bytes if end is None else end
        try:
            reader = await run(lambda: backend(self.storage).open_range(self.name, start, end=stop))
        except FileNotFoundError as error:
            logger.error("media.content_missing", extra={"file": self.id, "storage": self.storage})
            raise FileNotFoundInStorageError(self.id) from error
        try:
            while piece := await run(reader.read, PIECE_BYTES):
                yield piece
        finally:
            reader.close()

    async def read(self) -> bytes:
        """All of it in memory: only for what is known to be small."""
        return b"".join([piece async for piece in self.chunks()])


async def keep(gateway: Gateway, content: AsyncIterator[bytes] | bytes | Spooled, *, new: NewFile) -> StoredFile:
    """Store a file and write it down.

    Raises `NotKeptError` where that is not possible now, or not for this tenant; for content that is not generated also
    `ValidationError`, `UnsupportedMediaError` and `PayloadTooLargeError`.
    """
    if not isinstance(content, Spooled):
        async with spool(gateway.files, content) as spooled:
            return await keep(gateway, spooled, new=new)
    try:
        return await _keep(gateway, content, new=new)
    except NotKeptError as error:
        if new.source == MediaSource.GENERATED and not isinstance(error, NothingIsKeptError):  # it was paid for
            NOT_KEPT.labels(error.code).inc()
            logger.error(
                "media.not_kept",
                extra={"tenant_id": new.tenant_id, "reason": error.code, "size_bytes": content.size_bytes},
            )
        raise


async def _keep(gateway: Gateway, content: Spooled, *, new: NewFile) -> StoredFile:
    files, defaults = gateway.files, defaults_of(gateway)
    await content.flush()
    if new.source == MediaSource.GENERATED:
        facts = await files.run(sniff, content.path)
    else:
        facts = await files.run(_inspect, content, new)
    room = await query(gateway, lambda: room_of(new.tenant_id, new.source, defaults=defaults))
    check_room(room, content.size_bytes)
    row = _row(new, content, facts=facts)
    longest = row.created_at + room.kept
    row.expires_at = min(new.expires_at or longest, longest)
    await files.run(_save, row, content)
    try:
        version = await query(gateway, lambda: add_file(row, defaults))
    except NotKeptError:
        await _discard(files, row)
        raise
    return as_stored(gateway, row, key_version=version)


async def read(gateway: Gateway, *, tenant_id: int, file_id: str, param: str | None = None) -> StoredFile:
    """A file of this tenant's. Raises `FileNotFoundInStorageError`, or `StorageUnavailableError` without a database."""
    found = await query(gateway, lambda: find_file(tenant_id, file_id, now=dt.datetime.now(dt.UTC)))
    if found is None:
        raise FileNotFoundInStorageError(file_id, param=param)
    row, version = found
    return as_stored(gateway, row, key_version=version)


async def delete(gateway: Gateway, *, tenant_id: int, file_id: str) -> None:
    """Take a file away: nobody can read it from now on. Raises `FileNotFoundInStorageError`."""
    if not await query(gateway, lambda: mark_deleted(tenant_id, file_id, now=dt.datetime.now(dt.UTC))):
        raise FileNotFoundInStorageError(file_id)


def signed_url(gateway: Gateway, stored: StoredFile, *, seconds: int = URL_SECONDS) -> str:
    """A URL that whoever has it may read the file by, for so long, or until an operator revokes the tenant's URLs."""
    expires = int(time.time()) + seconds
    config = gateway.files.config
    signature = signature_of(config.signing_secret, stored.id, expires=expires, version=stored.url_key_version)
    query_string = urlencode({"exp": expires, "sig": signature})
    return f"{config.public_url}/v1/files/{stored.id}/content?{query_string}"


async def read_signed(gateway: Gateway, file_id: str, *, expires: str, signature: str) -> StoredFile:
    """The file that a signed URL is for. Raises `FileNotFoundInStorageError` for one that is not good any more."""
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 12 and int(expires) > time.time()):
        raise FileNotFoundInStorageError(file_id)
    found = await query(gateway, lambda: find_file(None, file_id, now=dt.datetime.now(dt.UTC)))
    if found is None:
        raise FileNotFoundInStorageError(file_id)
    row, version = found
    good = signature_of(gateway.files.config.signing_secret, row.pk, expires=int(expires), version=version)
    if not hmac.compare_digest(good.encode(), signature.encode()):
        raise FileNotFoundInStorageError(file_id)
    return as_stored(gateway, row, key_version=version)


def signature_of(secret: bytes, file_id: str, *, expires: int, version: int) -> str:
    """What a URL for a file carries that is good until `expires`, in seconds since 1970."""
    signed = f"file url:{file_id}:{expires}:{version}".encode()
    return base64.urlsafe_b64encode(hmac.digest(secret, signed, "sha256")).rstrip(b"=").decode()


async def query(gateway: Gateway, question: Callable[[], Result]) -> Result:
    """Ask the database. Raises `StorageUnavailableError` where it is away."""
    try:
        return await gateway.directory.query(question)
    except (DatabaseError, InterfaceError) as error:
        logger.error("media.database_failed", extra={"reason": str(error)[:500]})
        raise StorageUnavailableError from error


def defaults_of(gateway: Gateway) -> Defaults:
    """What holds for tenants for which an operator has set nothing."""
    config = gateway.files.config
    return Defaults(
        quota_bytes=config.quota_bytes, uploads_kept=config.uploads_kept, generated_kept=config.generated_kept
    )


def new_file_id() -> str:
    """`file_` and a ULID: 48 bits of milliseconds, then 80 that nobody can guess."""
    value = (int(time.time() * 1000) << 80) | int.from_bytes(os.urandom(10), "big")
    return "file_" + "".join(CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))


def _row(new: NewFile, content: Spooled, *, facts: Facts) -> MediaObject:
    now = dt.datetime.now(dt.UTC)
    return MediaObject(
        id=new.id or new_file_id(),
        tenant_id=new.tenant_id,
        api_key_id=new.key_id,
        job_id=new.job_id,
        kind=facts.kind,
        source=new.source,
        purpose=new.purpose,
        filename=new.filename.replace("\0", "")[:255],
        mime=facts.mime,
        size_bytes=content.size_bytes,
        sha256=content.sha256,
        width=facts.width,
        height=facts.height,
        pages=facts.pages,
        duration_ms=facts.duration_ms,
        storage=ALIAS,
        name=f"{TENANTS_FOLDER}/{new.tenant_id}/{now:%Y/%m}/{secrets.token_hex(16)}.{facts.extension}",
        created_at=now,
    )


def _inspect(content: Spooled, new: NewFile) -> Facts:
    return inspect(content.path, declared=new.mime, param=new.param)


def _save(row: MediaObject, content: Spooled) -> None:
    backend(row.storage).save_file(row.name, content.path, mime=row.mime)


async def _discard(files: FileStore, row: MediaObject) -> None:
    """Delete bytes that nobody knows of. Where that fails the orphan sweep finds them."""
    try:
        await files.run(backend(row.storage).delete, row.name)
    except StorageUnavailableError:
        logger.warning("media.orphan_left", extra={"storage_name": row.name})


def as_stored(gateway: Gateway, row: MediaObject, *, key_version: int) -> StoredFile:
    """A row as everybody else has it, with its tenant's key version of signed URLs."""
    fields = (
        "id", "tenant_id", "kind", "mime", "size_bytes", "sha256", "purpose", "source", "filename", "created_at",
        "expires_at", "width", "height", "pages", "duration_ms", "storage", "name",
    )  # fmt: skip
    return StoredFile(**{name: getattr(row, name) for name in fields}, url_key_version=key_version, store=gateway.files)
