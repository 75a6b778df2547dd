"""POST /v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from django.http import HttpResponse

from gateway import pipeline
from gateway.bodies import Metadata, attribution, decode
from gateway.context import Call
from gateway.errors import ValidationError
from gateway.handler import DataPlaneRequest
from gateway.responses import EventStreamResponse, json_response
from gateway.streaming import StreamReply
from gateway.views import DataPlaneView
from providers.types import WireRequest
from tenants.models import Scope

Count = Annotated[int, msgspec.Meta(ge=1)]


class ImageUrl(msgspec.Struct):
    url: str


class ContentPart(msgspec.Struct):
    """One part of a message's content. Types the gateway does not know pass to the provider."""

    type: str
    text: str | None = None
    image_url: ImageUrl | None = None


class Message(msgspec.Struct):
    """One message; members not named here pass as they are."""

    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[dict[str, msgspec.Raw]] | None = None


class Tool(msgspec.Struct):
    type: str


class ResponseFormat(msgspec.Struct):
    type: str


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class ChatRequest(msgspec.Struct):
    """The members the gateway decides on or whose wrong type would only confuse a provider."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[Tool] | None = None
    response_format: ResponseFormat | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    user: str | None = None
    metadata: Metadata | None = None


PART_NEEDS = {"image_url": "vision", "input_audio": "audio", "video_url": "video", "file": "documents"}
_decoder = msgspec.json.Decoder(ChatRequest)


class ChatCompletionsView(DataPlaneView):
    """Chat completions, whole or streamed."""

    scope = Scope.CHAT
    operation = "chat"

    async def post(self, request: DataPlaneRequest) -> HttpResponse:
        """Answer in OpenAI's shape."""
        call = _read(request)
        reply = await pipeline.answer(request.gateway, call, trace=request.trace)
        return EventStreamResponse(reply) if isinstance(reply, StreamReply) else json_response(reply.body)


def _read(request: DataPlaneRequest) -> Call:
    trace = request.trace
    assert trace.caller is not None
    body, members = decode(_decoder, request.body)
    stream = bool(body.stream)
    if body.stream_options is not None and not stream:
        raise ValidationError("stream_options goes only with stream: true.", param="stream_options")
    trace.requested_model, trace.stream = body.model, stream
    return Call(
        caller=trace.caller,
        request_id=trace.request_id,
        operation="chat",
        requested_model=body.model,
        needs=_needs(body, stream=stream),
        wire=WireRequest(operation="chat", members=members, stream=stream),
        input_bytes=len(members["messages"]) + (len(members["tools"]) if body.tools else 0),
        max_output_tokens=body.max_completion_tokens or body.max_tokens,
        choices=body.n or 1,
        wants_usage_chunk=bool(body.stream_options and body.stream_options.include_usage),
        attribution=attribution(
            request.META, user=body.user, metadata=body.metadata, default_user=trace.caller.principal.user
        ),
    )


def _needs(body: ChatRequest, *, stream: bool) -> frozenset[str]:
    """The capabilities that answering this request takes."""
    needs = {"chat"}
    if stream:
        needs.add("stream")
    if body.tools:
        needs.add("tools")
    if body.response_format is not None and body.response_format.type == "json_schema":
        needs.add("json_schema")
    for message in body.messages:
        if isinstance(message.content, list):
            needs.update(PART_NEEDS[part.type] for part in message.content if part.type in PART_NEEDS)
    return frozenset(needs)
