"""Fetching URLs that clients give: the one module that does, and as little as possible of what an attacker may want.

Only https, to addresses that are public when they are dialled (`providers.transport` looks at each), three redirects at
most and each looked at again, so many bytes and seconds and no more. A URL of a file of ours is read from the storage,
for its own tenant only, and never asked for over the network.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit

from gateway.errors import PayloadTooLargeError, ValidationError
from gateway.media import storage
from gateway.media.inspection import plain_mime
from gateway.media.storage import StoredFile
from providers.errors import DeadlineError, ProviderError
from providers.transport import Deadlines, UpstreamResponse
from providers.types import UpstreamRequest
from tenants.addresses import is_literal_private

if TYPE_CHECKING:
    from gateway.runtime import Gateway

DEADLINES = Deadlines(connect=5.0, first_token=15.0, idle=15.0, total=120.0)
MOST_REDIRECTS = 3
LONGEST_URL = 8192
REDIRECTS = frozenset({301, 302, 303, 307, 308})
OWN_PATH = re.compile(r"/v1/files/(file_[0-9a-z]{26})/content")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
HEADERS = {"user-agent": "Bursar", "accept": "*/*", "accept-encoding": "identity"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What a URL led to. Read `chunks` to its end or close it: a connection hangs on it."""

    mime: str
    """As its server says; look at the content before believing it."""
    chunks: AsyncIterator[bytes]
    size_bytes: int | None = None
    """Where it was said beforehand."""
    stored: StoredFile | None = None
    """The file that it is, where it is one of ours."""


async def fetch(gateway: Gateway, url: str, *, tenant_id: int, max_bytes: int, param: str | None = None) -> Fetched:
    """Open what a client's URL leads to.

    Raises `ValidationError` naming `param` for what may not be or cannot be fetched, `PayloadTooLargeError` beyond
    `max_bytes`, here or from `chunks`, and the errors of `storage.read` for a file of ours.
    """
    file_id = own_file_id(gateway, url)
    if file_id is not None:
        return await _from_storage(gateway, file_id, tenant_id=tenant_id, max_bytes=max_bytes, param=param)
    for _ in range(1 + MOST_REDIRECTS):
        response = await _ask(gateway, url, param=param)
        if response.status not in REDIRECTS:
            return _fetched(response, max_bytes=max_bytes, param=param)
        target = response.headers.get("location", "")
        response.close()
        url = urljoin(url, target)
        if own_file_id(gateway, url) is not None:
            raise _refused("it redirects to a file of this platform; name that itself", param=param)
    raise _refused(f"it redirects more than {MOST_REDIRECTS} times", param=param)


def own_file_id(gateway: Gateway, url: str) -> str | None:
    """Which file of ours a URL is for; None for everybody else's URLs."""
    try:
        ours, given = urlsplit(gateway.files.config.public_url), urlsplit(url)
        is_ours = _origin(ours) == _origin(given)
    except ValueError:
        return None
    match = OWN_PATH.fullmatch(given.path)
    return match[1] if is_ours and match else None


def _origin(parts: SplitResult) -> tuple[str, str, int | None]:
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, "loopback" if host in LOOPBACK else host, port


async def _from_storage(
    gateway: Gateway, file_id: str, *, tenant_id: int, max_bytes: int, param: str | None
) -> Fetched:
    stored = await storage.read(gateway, tenant_id=tenant_id, file_id=file_id, param=param)
    if stored.size_bytes > max_bytes:
        raise PayloadTooLargeError(max_bytes, what="file", param=param)
    return Fetched(mime=stored.mime, chunks=stored.chunks(), size_bytes=stored.size_bytes, stored=stored)


async def _ask(gateway: Gateway, url: str, *, param: str | None) -> UpstreamResponse:
    is_allowed = _check(gateway, url, param=param)
    request = UpstreamRequest(url=url.partition("#")[0], headers=dict(HEADERS), body=b"", method="GET")
    try:
        return await gateway.transport.send(request, deadlines=DEADLINES, allow_private_network=is_allowed)
    except ProviderError as error:
        raise _refused(_reason(error), param=param) from error


def _check(gateway: Gateway, url: str, *, param: str | None) -> bool:
    """Whether the operator allows this URL's host although it may be private. Raises for what is never fetched."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _refused("it is no URL", param=param) from error
    if len(url) > LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url or not host or port == 0:
        raise _refused("it is no URL", param=param)
    if parts.username is not None or parts.password is not None:
        raise _refused("it has a user name in it", param=param)
    allowed = gateway.files.config.fetch_private_hosts
    if parts.scheme in ("http", "https") and f"{host}:{port or (443 if parts.scheme == 'https' else 80)}" in allowed:
        return True
    if parts.scheme != "https":
        raise _refused("only https is fetched", param=param)
    if is_literal_private(host):
        raise _refused("its address is not public", param=param)
    return False


def _fetched(response: UpstreamResponse, *, max_bytes: int, param: str | None) -> Fetched:
    if response.status != 200:
        response.close()
        raise _refused(f"its server answered {response.status}", param=param)
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        response.close()
        raise _refused("its server compresses what was asked for plain", param=param)
    said = response.headers.get("content-length", "")
    size = int(said) if said.isascii() and said.isdigit() and len(said) < 16 else None
    if size is not None and size > max_bytes:
        response.close()
        raise PayloadTooLargeError(max_bytes, what="file behind the URL", param=param)
    mime = plain_mime(response.headers.get("content-type"))
    return Fetched(mime=mime, chunks=_chunks(response, max_bytes=max_bytes, param=param), size_bytes=size)


async def _chunks(response: UpstreamResponse, *, max_bytes: int, param: str | None) -> AsyncIterator[bytes]:
    left = max_bytes
    try:
        while piece := await response.next():
            left -= len(piece)
            if left < 0:
                raise PayloadTooLargeError(max_bytes, what="file behind the URL", param=param)
            yield piece
    except ProviderError as error:
        raise _refused(_reason(error), param=param) from error
    finally:
        response.close()


def _refused(reason: str, *, param: str | None) -> ValidationError:
    return ValidationError(f"This URL cannot be fetched: {reason}.", param=param)


def _reason(error: ProviderError) -> str:
    """Without addresses: what a name resolves to inside is nobody's business."""
    if isinstance(error, DeadlineError):
        return f"its server took too long ({error.deadline})"
    if isinstance(error.__cause__, OSError) and isinstance(error.__cause__.__cause__, PermissionError):
        return "its address is not public"
    return "its server cannot be reached"
