"""POST /v1/images/generations and /v1/images/edits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from django.http import HttpResponse

from billing.estimates import TOKENS_OF_PICTURE, picture_token_bound
from gateway import pipeline
from gateway.bodies import Metadata, attribution, decode
from gateway.context import Call, MediaFacts
from gateway.errors import UnsupportedMediaError, ValidationError
from gateway.handler import DataPlaneRequest
from gateway.media.forms import Given, files_of, raw_members, read_form, typed
from gateway.media.models import MediaKind
from gateway.media.multipart import FormLimits
from gateway.media.pictures import PictureEvents, answered
from gateway.responses import EventStreamResponse, json_response
from gateway.streaming import StreamReply, WholeReply
from gateway.views import DataPlaneView
from providers.types import WireRequest
from tenants.models import Scope

MOST_PICTURES = 10
MOST_SOURCES = 16
LONGEST_PROMPT = 32_000


class ImageRequest(msgspec.Struct):
    """The members the gateway decides on or whose wrong type would only confuse a provider."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    prompt: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_PROMPT)]
    n: Annotated[int, msgspec.Meta(ge=1, le=MOST_PICTURES)] | None = None
    size: Annotated[str, msgspec.Meta(max_length=32)] | None = None
    response_format: Literal["url", "b64_json"] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, msgspec.Meta(ge=0, le=3)] | None = None
    user: str | None = None
    metadata: Metadata | None = None


_decoder = msgspec.json.Decoder(ImageRequest)


class ImageGenerationsView(DataPlaneView):
    """Pictures from words."""

    scope = Scope.CHAT
    operation = "images"

    async def post(self, request: DataPlaneRequest) -> HttpResponse:
        """Answer in OpenAI's shape; pictures are kept, and told as URLs unless base64 is asked for."""
        body, members = decode(_decoder, request.body)
        wire = WireRequest(operation="images", members=members, stream=bool(body.stream))
        return await _answer(request, body, call=_call(request, body, wire=wire))


class ImageEditsView(DataPlaneView):
    """Pictures from pictures and words."""

    scope = Scope.CHAT
    operation = "image_edits"
    form_limits = FormLimits(files=MOST_SOURCES + 1, in_memory=True)

    async def post(self, request: DataPlaneRequest) -> HttpResponse:
        """Answer as generations do. The sources are uploaded, or named by file id or URL."""
        form = read_form(request)
        references, mask = _references(form.members)
        body = typed(form.members, ImageRequest)
        sources = await files_of(request, form, field="image", references=references)
        sources += await files_of(request, form, field="mask", references=mask)
        _check(sources)
        wire = WireRequest(
            operation="image_edits",
            members=raw_members(form.members, body),
            stream=bool(body.stream),
            files=tuple(given.wire for given in sources),
        )
        return await _answer(request, body, call=_call(request, body, wire=wire))


def _references(members: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Take what names files out of the members: `images` of OpenAI's JSON form, and `image` and `mask` themselves."""
    named = members.pop("images", None) or []
    if not isinstance(named, list):
        raise ValidationError("images must be a list.", param="images")
    image, mask = members.pop("image", None) or [], members.pop("mask", None)
    listed = [*named, *(image if isinstance(image, list) else [image])]
    return [_named(one) for one in listed], [_named(mask)] if mask else []


def _named(given: Any) -> Any:
    """The id or URL of a picture, as it is or as OpenAI's object."""
    if not isinstance(given, dict):
        return given
    shown = given.get("image_url")
    return given.get("file_id") or (shown.get("url") if isinstance(shown, dict) else shown)


def _check(sources: list[Given]) -> None:
    pictures = sum(given.wire.field == "image" for given in sources)
    if not 1 <= pictures <= MOST_SOURCES:
        raise ValidationError(f"Send 1 to {MOST_SOURCES} pictures as image.", param="image")
    for given in sources:
        if given.facts.kind != MediaKind.IMAGE:
            raise UnsupportedMediaError(f"{given.wire.field} is {given.facts.mime}.", param=given.wire.field)


def _call(request: DataPlaneRequest, body: ImageRequest, *, wire: WireRequest) -> Call:
    trace = request.trace
    assert trace.caller is not None
    trace.requested_model, trace.stream = body.model, wire.stream
    count = body.n or 1
    need = "image_edit" if wire.files else "image_generation"
    return Call(
        caller=trace.caller,
        request_id=trace.request_id,
        operation=wire.operation,
        requested_model=body.model,
        needs=frozenset({need}),
        wire=wire,
        input_bytes=len(body.prompt.encode()),
        choices=count,
        media=MediaFacts(
            input_tokens=TOKENS_OF_PICTURE * len(wire.files),
            output_tokens=picture_token_bound(body.size, previews=body.partial_images or 0),
            held={"images": count},
        ),
        attribution=attribution(
            request.META, user=body.user, metadata=body.metadata, default_user=trace.caller.principal.user
        ),
    )


async def _answer(request: DataPlaneRequest, body: ImageRequest, *, call: Call) -> HttpResponse:
    gateway, trace = request.gateway, request.trace
    reply = await pipeline.answer(gateway, call, trace=trace)
    if isinstance(reply, StreamReply):  # OpenAI's own events carry base64, and its client insists on it
        reply.framing = PictureEvents(gateway, trace, as_url=body.response_format == "url")
        return EventStreamResponse(reply)
    assert isinstance(reply, WholeReply)
    as_url = body.response_format != "b64_json"
    return json_response(await answered(gateway, reply.body, trace=trace, as_url=as_url))
