"""A chat's pictures, sound, films and documents, before anything is spent: the tenant's own files are read from the
storage, and what the rest may cost is bounded.

Only chats that have such parts come here. What is at a public address stays there: a provider that takes addresses
fetches it by itself, for the others `gateway.media.links` does.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from billing.estimates import media_token_bound
from gateway.context import MediaFacts
from gateway.errors import PayloadTooLargeError, UnsupportedMediaError
from gateway.media import storage
from gateway.media.fetch import own_file_id
from gateway.media.inspection import Facts, sniff
from gateway.media.models import MediaKind
from gateway.media.parts import Part, from_base64, parts_of
from gateway.media.spool import spool
from gateway.media.storage import StoredFile

if TYPE_CHECKING:
    from gateway.runtime import Gateway

INLINE_LIMIT_BYTES = 20 * 1024 * 1024
"""Of one part that is sent as data: what Gemini takes in a request, and others less."""

KINDS_OF_FILES = {
    "vision": {MediaKind.IMAGE},
    "audio": {MediaKind.AUDIO, MediaKind.VIDEO},
    "video": {MediaKind.VIDEO},
    "documents": {MediaKind.DOCUMENT, MediaKind.OTHER},
}
"""What a file must be to stand in a part. Sound in a container of films cannot be told from a film."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A chat's messages as adapters get them."""

    messages: msgspec.Raw
    text_bytes: int
    """How long they are without the data in them."""
    links: frozenset[str]
    """The kinds of what is still at a public address."""
    facts: MediaFacts


async def prepare(gateway: Gateway, messages: msgspec.Raw, *, tenant_id: int) -> Prepared:
    """Read what is the tenant's own, and measure what there is.

    Raises `ValidationError` for a part that is nothing, `FileNotFoundInStorageError` for a file that is not this
    tenant's, `UnsupportedMediaError` for one of another kind, `PayloadTooLargeError` for one that no provider takes.
    """
    decoded, parts = parts_of(messages)
    links: set[str] = set()
    known: Counter[str] = Counter()
    tokens = data_bytes = 0
    changed = False
    for part in parts:
        file_id = part.file_id
        inline = part.data
        if file_id is None and inline is None:
            file_id = own_file_id(gateway, part.url)
        if file_id is not None:
            stored = await _read(gateway, file_id, part=part, tenant_id=tenant_id)
            seconds = None if stored.duration_ms is None else -(-stored.duration_ms // 1000)
            size_bytes: int | None = stored.size_bytes
            pages = stored.pages
            changed = True
        elif inline is not None:
            data_bytes += len(inline[1])
            size_bytes = len(inline[1]) * 3 // 4
            seconds, pages = await _measure(gateway, part, data=inline[1])
        else:
            links.add(part.kind)
            seconds = pages = size_bytes = None
        tokens += media_token_bound(part.kind, size_bytes=size_bytes, seconds=seconds, pages=pages)
        known["pages"] += pages or 0
    facts = MediaFacts(input_tokens=tokens, known={unit: count for unit, count in known.items() if count})
    text_bytes = len(messages) - data_bytes
    if changed:
        messages = msgspec.Raw(msgspec.json.encode(decoded))
    return Prepared(messages, text_bytes, frozenset(links), facts)


async def read_own(gateway: Gateway, file_id: str, *, tenant_id: int, param: str) -> tuple[StoredFile, bytes]:
    """A file of the tenant's with its content. Raises as `prepare` does."""
    stored = await storage.read(gateway, tenant_id=tenant_id, file_id=file_id, param=param)
    if stored.size_bytes > INLINE_LIMIT_BYTES:
        raise PayloadTooLargeError(INLINE_LIMIT_BYTES, what="file", param=param)
    return stored, await stored.read()


async def _read(gateway: Gateway, file_id: str, *, part: Part, tenant_id: int) -> StoredFile:
    stored, content = await read_own(gateway, file_id, tenant_id=tenant_id, param=part.place)
    if stored.kind not in KINDS_OF_FILES[part.kind]:
        raise UnsupportedMediaError(f"The file is {stored.mime}, which is no {part.kind} input.", param=part.place)
    part.put(content, stored.mime, filename=stored.filename)
    return stored


async def _measure(gateway: Gateway, part: Part, *, data: str) -> tuple[int | None, int | None]:
    """Seconds and pages of what was sent, where its headers tell."""
    content = b"" if part.kind == "vision" else from_base64(data)
    if not content:
        return None, None
    facts = await facts_of(gateway, content)
    return seconds_of(facts), facts.pages


async def facts_of(gateway: Gateway, content: bytes) -> Facts:
    """What some bytes are, told by their headers."""
    async with spool(gateway.files, content) as spooled:
        return await gateway.files.run(sniff, spooled.path)


def seconds_of(facts: Facts) -> int | None:
    """How long it lasts; a second that was begun counts."""
    return None if facts.duration_ms is None else -(-facts.duration_ms // 1000)
