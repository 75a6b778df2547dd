"""Pictures in a chat's answer, `message.images`: kept, and told as URLs of our storage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.context import Trace
from gateway.errors import GatewayError
from gateway.media.generated import kept, told
from gateway.media.parts import from_base64
from gateway.streaming import EventStream, StreamReply, WholeReply
from providers.models import Capability
from providers.types import Chunk

if TYPE_CHECKING:
    from gateway.runtime import Gateway

HEADER = "HTTP_X_GATEWAY_MEDIA"
MARK = b'"images":'

_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def paints(gateway: Gateway, trace: Trace) -> bool:
    """Whether the model that answered can answer with pictures: others' answers are not looked at."""
    model = gateway.directory.catalogue.models.get(trace.target.model_name) if trace.target is not None else None
    return model is not None and Capability.IMAGE_GENERATION.value in model.capabilities


def wants_inline(meta: Mapping[str, Any]) -> bool:
    """Whether the client asks for the pictures themselves, by `X-Gateway-Media: inline`."""
    return bool(meta.get(HEADER, "").lower() == "inline")


async def with_kept_pictures(
    gateway: Gateway, reply: WholeReply | EventStream, *, trace: Trace
) -> WholeReply | EventStream:
    """The reply with its pictures kept. What cannot be kept stays in it as it came, and so does what others see too: a
    stream that the response cache keeps, or that is held to a schema."""
    if isinstance(reply, StreamReply):
        reply.framing = ChatPictures(gateway, reply, trace=trace)
    elif isinstance(reply, WholeReply) and MARK in reply.body:
        return WholeReply(await _kept_in(gateway, reply.body, trace=trace, holder="message"))
    return reply


async def _kept_in(gateway: Gateway, data: bytes, *, trace: Trace, holder: str) -> bytes:
    body = _decode(data)
    for choice in body.get("choices") or ():
        for image in (choice.get(holder) or {}).get("images") or ():
            shown = image.get("image_url") or {}
            head, comma, text = shown.get("url", "").partition(",")
            content = from_base64(text) if comma and head.startswith("data:") else b""
            stored = await kept(gateway, content, trace=trace) if content else None
            if stored is not None:
                shown.update(told(gateway, stored))
    return _encode(body)


class ChatPictures:
    """A chat's stream with pictures in it. See `gateway.streaming.Framing`."""

    def __init__(self, gateway: Gateway, reply: StreamReply, *, trace: Trace) -> None:
        self._gateway = gateway
        self._reply = reply
        self._trace = trace

    async def frame(self, chunks: Iterable[Chunk]) -> bytes:
        found = list(chunks)
        for chunk in found:
            if MARK in chunk.data:
                chunk.data = await _kept_in(self._gateway, chunk.data, trace=self._trace, holder="delta")
        return self._reply.frame(found)

    async def closing(self) -> bytes:
        return self._reply.closing()

    def units(self) -> Mapping[str, int]:
        return {}

    def broken(self, error: GatewayError) -> bytes | None:
        return b"data: %b\n\n" % error.envelope(self._trace.request_id)
