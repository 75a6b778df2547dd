"""What a chat names by a public address, for providers that take no addresses."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from gateway.context import Call
from gateway.errors import GatewayError
from gateway.media.content import INLINE_LIMIT_BYTES
from gateway.media.fetch import fetch
from gateway.media.inspection import Facts, inspect
from gateway.media.parts import parts_of
from gateway.media.spool import spool
from providers.errors import Failure, ProviderError
from providers.types import WireRequest

if TYPE_CHECKING:
    from gateway.runtime import Gateway


async def without_links(gateway: Gateway, call: Call, *, wire: WireRequest, kinds: frozenset[str]) -> WireRequest:
    """The request with everything of these kinds fetched, within the budget's hold and before the provider is asked.

    Raises `ProviderError` for what cannot be fetched: the client's input is then wrong for every provider of the kind.
    """
    messages, parts = parts_of(wire.members["messages"])
    tenant_id = call.caller.principal.tenant_id
    for part in parts:
        if part.kind in kinds and part.data is None:
            try:
                facts, content = await fetched(gateway, part.url, tenant_id=tenant_id, param=part.place)
            except GatewayError as error:
                raise ProviderError(Failure.REFUSED_INPUT, error.message, status=400, param=part.place) from error
            part.put(content, facts.mime)
    members = {**wire.members, "messages": msgspec.Raw(msgspec.json.encode(messages))}
    return msgspec.structs.replace(wire, members=members, links=wire.links - kinds)


async def fetched(gateway: Gateway, url: str, *, tenant_id: int, param: str) -> tuple[Facts, bytes]:
    """What is at an address, and what it really is. Raises the `GatewayError` that says why that cannot be had."""
    found = await fetch(gateway, url, tenant_id=tenant_id, max_bytes=INLINE_LIMIT_BYTES, param=param)
    async with spool(gateway.files, found.chunks, limit_bytes=INLINE_LIMIT_BYTES) as spooled:
        facts = await gateway.files.run(partial(inspect, spooled.path, param=param))
        return facts, await spooled.read()
