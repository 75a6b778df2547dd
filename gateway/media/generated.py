"""What a model made and somebody has paid for: kept for the tenant, and given to the client in any case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.context import Trace
from gateway.media.errors import NotKeptError
from gateway.media.models import MediaSource
from gateway.media.storage import NewFile, StoredFile, keep, signed_url

if TYPE_CHECKING:
    from gateway.runtime import Gateway

PURPOSE = "generated"


async def kept(
    gateway: Gateway, content: bytes, *, trace: Trace, mime: str = "", file_id: str = ""
) -> StoredFile | None:
    """Keep it for the caller's tenant. None where that is not possible: then the client gets the content itself.

    That is logged as `media.not_kept` and counted, unless the tenant's files are not to be kept.
    """
    assert trace.caller is not None
    principal = trace.caller.principal
    new = NewFile(
        tenant_id=principal.tenant_id,
        purpose=PURPOSE,
        source=MediaSource.GENERATED,
        mime=mime or None,
        key_id=principal.key_id,
        id=file_id,
    )
    try:
        return await keep(gateway, content, new=new)
    except NotKeptError:
        return None


def told(gateway: Gateway, stored: StoredFile) -> dict[str, Any]:
    """How a client hears of a kept file: its id, and a URL that anybody can read it by for an hour."""
    return {"file_id": stored.id, "url": signed_url(gateway, stored)}
