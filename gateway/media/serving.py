"""Files on their way to whoever may read them: whole or a range, and never as anything a browser would run."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from django.http import HttpResponse
from django.utils.http import content_disposition_header

from gateway.errors import GatewayError
from gateway.media.backends import backend
from gateway.media.models import MediaKind
from gateway.media.storage import StoredFile
from gateway.responses import FileResponse
from gateway.streaming import Send

if TYPE_CHECKING:
    from gateway.runtime import Gateway

logger = logging.getLogger(__name__)

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
DIRECT_SECONDS = 60
"""How long a URL of the bucket's own is good: as late as that an operator's revocation may come."""


class RangeNotSatisfiableError(GatewayError):
    """The file is shorter than the range that was asked for begins."""

    status, type, code = 416, "invalid_request_error", "range_not_satisfiable"

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"The file has {size_bytes} bytes.", param="Range")
        self.headers["Content-Range"] = f"bytes */{size_bytes}"


class FileBody:
    """The bytes of a file, of which the first piece is there: what could go wrong has mostly gone wrong by then."""

    def __init__(self, first: bytes, rest: AsyncIterator[bytes], *, file_id: str) -> None:
        self._first = first
        self._rest = rest
        self._file_id = file_id

    async def write(self, send: Send) -> None:
        """Send the body. Where the storage goes away meanwhile, the connection breaks: the client must not take what
        it has for the whole."""
        await send({"type": "http.response.body", "body": self._first, "more_body": True})
        try:
            async for piece in self._rest:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except GatewayError as error:
            logger.warning("media.download_broken", extra={"file": self._file_id, "reason": error.code})
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def close(self) -> None:
        """The file was closed by whoever read it to its end."""


async def serve(gateway: Gateway, stored: StoredFile, *, meta: dict[str, Any]) -> HttpResponse:
    """The file, or the range of it that the request asks for, or where its storage serves it itself.

    Raises `RangeNotSatisfiableError`, and what `StoredFile.chunks` raises.
    """
    headers = _headers(stored)
    if gateway.files.config.redirects and stored.kind != MediaKind.OTHER:
        told = {
            "ResponseContentType": stored.mime,
            "ResponseContentDisposition": headers["Content-Disposition"],
        }
        url = await gateway.files.run(_direct_url, stored, told)
        if url is not None:
            return HttpResponse(status=302, headers={"Location": url, "Cache-Control": "no-store"})
    start, end, status = 0, stored.size_bytes, 200
    asked = _range_of(meta, etag=headers["ETag"], size=stored.size_bytes)
    if asked is not None:
        start, end = asked
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{stored.size_bytes}"
    rest = stored.chunks(start, end=end)
    first = await anext(rest, b"")
    response = FileResponse(FileBody(first, rest, file_id=stored.id), status=status, content_type=stored.mime)
    for name, value in headers.items():
        response.headers[name] = value
    response.headers["Content-Length"] = str(end - start)
    return response


def _direct_url(stored: StoredFile, headers: dict[str, str]) -> str | None:
    return backend(stored.storage).direct_url(stored.name, seconds=DIRECT_SECONDS, headers=headers)


def _headers(stored: StoredFile) -> dict[str, str]:
    is_shown = stored.kind != MediaKind.OTHER
    filename = stored.filename or f"{stored.id}.{stored.name.rpartition('.')[2]}"
    disposition = content_disposition_header(not is_shown, filename)
    headers = {
        "Content-Disposition": disposition or "inline",
        "X-Content-Type-Options": "nosniff",
        "Accept-Ranges": "bytes",
        "ETag": f'"{stored.sha256[:32]}"',
        "Cache-Control": "private, no-store",
        "Referrer-Policy": "no-referrer",
    }
    if not is_shown:
        headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return headers


def _range_of(meta: dict[str, Any], *, etag: str, size: int) -> tuple[int, int] | None:
    """From where to before where; None for the whole, which is also right for ranges that we do not know."""
    match = RANGE.fullmatch(meta.get("HTTP_RANGE", "").replace(" ", ""))
    if match is None or meta.get("HTTP_IF_RANGE", etag) != etag or match[1] == match[2] == "":
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        if length == 0:
            raise RangeNotSatisfiableError(size)
        return size - length, size
    start = int(match[1])
    end = min(int(match[2]) + 1, size) if match[2] else size
    if match[2] and int(match[2]) < start:
        return None
    if start >= size:
        raise RangeNotSatisfiableError(size)
    return start, end
