"""POST /v1/embeddings."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from django.http import HttpResponse

from gateway import pipeline
from gateway.bodies import attribution, decode
from gateway.caching.wishes import cache_wish
from gateway.context import Call
from gateway.errors import ValidationError
from gateway.handler import DataPlaneRequest
from gateway.responses import json_response
from gateway.streaming import WholeReply
from gateway.views import DataPlaneView
from providers.types import WireRequest
from tenants.models import Scope

BATCH = "HTTP_X_GATEWAY_BATCH"
NEEDS = frozenset({"embeddings"})


class EmbeddingsRequest(msgspec.Struct):
    """The members the gateway decides on or whose wrong type would only confuse a provider."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1)] | None = None
    user: str | None = None


_decoder = msgspec.json.Decoder(EmbeddingsRequest)


class EmbeddingsView(DataPlaneView):
    """Embeddings of texts or token lists."""

    scope = Scope.EMBEDDINGS
    operation = "embeddings"

    async def post(self, request: DataPlaneRequest) -> HttpResponse:
        """Answer in OpenAI's shape; vectors pass in the encoding that was asked for."""
        reply = await pipeline.answer(request.gateway, _read(request), trace=request.trace)
        assert isinstance(reply, WholeReply)
        return json_response(reply.body)


def _read(request: DataPlaneRequest) -> Call:
    trace = request.trace
    assert trace.caller is not None
    body, members = decode(_decoder, request.body)
    if not body.input:
        raise ValidationError("input must not be empty.", param="input")
    if isinstance(body.input, list) and len({type(item) for item in body.input}) > 1:
        raise ValidationError("input must be all texts, all tokens or all lists of tokens.", param="input")
    trace.requested_model = body.model
    return Call(
        caller=trace.caller,
        request_id=trace.request_id,
        operation="embeddings",
        requested_model=body.model,
        needs=NEEDS,
        wire=WireRequest(operation="embeddings", members=members),
        input_bytes=len(members["input"]),
        cache_wish=cache_wish(request.META),
        may_batch=_may_batch(request),
        attribution=attribution(request.META, user=body.user, metadata=None, default_user=trace.caller.principal.user),
    )


def _may_batch(request: DataPlaneRequest) -> bool:
    """Unless the client wants its call to leave alone. Raises `ValidationError`."""
    given = request.META.get(BATCH, "on").strip().lower()
    if given not in ("on", "off"):
        raise ValidationError(f"X-Gateway-Batch is on or off, not {given[:40]!r}.", param="X-Gateway-Batch")
    return bool(given == "on")
