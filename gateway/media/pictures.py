"""Answers of /v1/images: pictures kept, and told as URLs of our storage or as base64."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.context import Trace
from gateway.errors import GatewayError
from gateway.media.generated import kept, told
from gateway.media.links import fetched
from providers.types import Chunk

if TYPE_CHECKING:
    from gateway.runtime import Gateway

_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


async def answered(gateway: Gateway, body: bytes, *, trace: Trace, as_url: bool) -> bytes:
    """A whole answer with its pictures kept. What cannot be kept stays as the provider gave it."""
    answer = _decode(body)
    for picture in answer["data"]:
        await _settle(gateway, picture, trace=trace, as_url=as_url)
    return _encode(answer)


async def _settle(gateway: Gateway, picture: dict[str, Any], *, trace: Trace, as_url: bool) -> None:
    content = await _content(gateway, picture, trace=trace)
    if not content:
        return
    stored = await kept(gateway, content, trace=trace)
    picture.pop("url", None)
    if stored is not None:
        picture.update(told(gateway, stored))
    if stored is not None and as_url:
        picture.pop("b64_json", None)
        return
    picture["b64_json"] = base64.b64encode(content).decode()
    if not as_url:
        picture.pop("url", None)  # clients take the first of the two that is there


async def _content(gateway: Gateway, picture: dict[str, Any], *, trace: Trace) -> bytes:
    """A picture's bytes, wherever its provider left them; empty where they cannot be had."""
    given = picture.get("b64_json")
    if isinstance(given, str) and given:
        try:
            return base64.b64decode(given)
        except (binascii.Error, ValueError):
            return b""
    url = picture.get("url")
    if not isinstance(url, str) or not url:
        return b""
    assert trace.caller is not None
    try:
        _, content = await fetched(gateway, url, tenant_id=trace.caller.principal.tenant_id, param="url")
    except GatewayError:
        return b""  # the provider's own URL is then all there is, and the client may have more luck with it
    return content


class PictureEvents:
    """A stream of pictures, each kept when it is done. See `gateway.streaming.Framing`."""

    def __init__(self, gateway: Gateway, trace: Trace, *, as_url: bool) -> None:
        self._gateway = gateway
        self._trace = trace
        self._as_url = as_url

    async def frame(self, chunks: Iterable[Chunk]) -> bytes:
        events = []
        for chunk in chunks:
            event = _decode(chunk.data)
            if chunk.counted:
                await _settle(self._gateway, event, trace=self._trace, as_url=self._as_url)
            events.append(b"event: %b\ndata: %b\n\n" % (event.get("type", "").encode(), _encode(event)))
        return b"".join(events)

    async def closing(self) -> bytes:
        return b""

    def units(self) -> Mapping[str, int]:
        return {}

    def broken(self, error: GatewayError) -> bytes | None:
        return b"event: error\ndata: %b\n\n" % error.envelope(self._trace.request_id)
