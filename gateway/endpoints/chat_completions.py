"""POST /v1/chat/completions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from django.http import HttpResponse

from gateway import pipeline
from gateway.bodies import Metadata, attribution, decode
from gateway.caching.wishes import cache_wish
from gateway.context import Call
from gateway.errors import ValidationError
from gateway.handler import DataPlaneRequest
from gateway.media.chat_pictures import paints, wants_inline, with_kept_pictures
from gateway.media.content import prepare
from gateway.media.parts import KINDS
from gateway.responses import EventStreamResponse, json_response
from gateway.routing import MEDIA
from gateway.schemas.requests import Bound, Registry, Tool
from gateway.streaming import WholeReply
from gateway.views import DataPlaneView
from providers.types import WireRequest
from tenants.models import Scope

HIGHEST_TOKEN_LIMIT = 1_000_000_000
"""A larger `max_tokens` is a mistake; up to here it is cut to what the model can say."""

MOST_CHOICES = 16
"""Each answer is paid for, and held for: 128 of them, as OpenAI allows, empty a wallet with one call."""

TokenLimit = Annotated[int, msgspec.Meta(ge=1, le=HIGHEST_TOKEN_LIMIT)]


class ContentPart(msgspec.Struct):
    """One part of a message's content. Types the gateway does not know pass to the provider."""

    type: str
    text: str | None = None


class ToolCall(msgspec.Struct):
    id: str | None = None


class Message(msgspec.Struct):
    """One message; members not named here pass as they are."""

    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[ToolCall] | None = None


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
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=MOST_CHOICES)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    service_tier: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    user: str | None = None
    metadata: Metadata | None = None


_decoder = msgspec.json.Decoder(ChatRequest)


class ChatCompletionsView(DataPlaneView):
    """Chat completions, whole or streamed."""

    scope = Scope.CHAT
    operation = "chat"

    async def post(self, request: DataPlaneRequest) -> HttpResponse:
        """Answer in OpenAI's shape."""
        call = await _with_media(request, _read(request))
        reply = await pipeline.answer(request.gateway, call, trace=request.trace)
        if paints(request.gateway, request.trace) and not wants_inline(request.META):
            reply = await with_kept_pictures(request.gateway, reply, trace=request.trace)
        return json_response(reply.body) if isinstance(reply, WholeReply) else EventStreamResponse(reply)


async def _with_media(request: DataPlaneRequest, call: Call) -> Call:
    """The call with its pictures, sound, films and documents looked at, before anything is spent on it."""
    if not call.needs & MEDIA:
        return call
    tenant_id = call.caller.principal.tenant_id
    prepared = await prepare(request.gateway, call.wire.members["messages"], tenant_id=tenant_id)
    members = {**call.wire.members, "messages": prepared.messages}
    return dataclasses.replace(
        call,
        wire=msgspec.structs.replace(call.wire, members=members, links=prepared.links),
        input_bytes=call.input_bytes - len(call.wire.members["messages"]) + prepared.text_bytes,
        media=prepared.facts,
    )


def _read(request: DataPlaneRequest) -> Call:
    trace = request.trace
    assert trace.caller is not None
    body, members = decode(_decoder, request.body)
    stream = bool(body.stream)
    if body.stream_options is not None and not stream:
        raise ValidationError("stream_options goes only with stream: true.", param="stream_options")
    if body.max_tokens is not None and body.max_completion_tokens is not None:  # the provider might heed the other one
        raise ValidationError("Send max_tokens or max_completion_tokens, not both.", param="max_tokens")
    trace.requested_model, trace.stream = body.model, stream
    bound = _bound(request, body, members=members)
    is_held = bound.expected is not None and bound.expected.held
    return Call(
        caller=trace.caller,
        request_id=trace.request_id,
        operation="chat",
        requested_model=body.model,
        needs=_needs(body, stream=stream, is_checked=bound.expected is not None),
        wire=WireRequest(
            operation="chat", members=bound.members, stream=stream and not is_held, tool_turns=_tool_turns(body)
        ),
        input_bytes=_input_bytes(bound, body),
        max_output_tokens=body.max_completion_tokens or body.max_tokens,
        choices=body.n or 1,
        service_tier=body.service_tier or "",
        cache_wish=cache_wish(request.META),
        wants_usage_chunk=bool(body.stream_options and body.stream_options.include_usage),
        attribution=attribution(
            request.META, user=body.user, metadata=body.metadata, default_user=trace.caller.principal.user
        ),
        expected=bound.expected,
    )


def _bound(request: DataPlaneRequest, body: ChatRequest, *, members: Mapping[str, msgspec.Raw]) -> Bound:
    """The request with its types resolved, and what its answer is held to."""
    if not body.tools and body.response_format is None:
        return Bound(members=members)
    trace, gateway = request.trace, request.gateway
    assert trace.caller is not None
    return Registry(gateway.directory.types, gateway.validators).bound(
        members,
        tools=body.tools,
        has_format=body.response_format is not None,
        tenant_id=trace.caller.principal.tenant_id,
        headers=request.META,
    )


def _input_bytes(bound: Bound, body: ChatRequest) -> int:
    tools = len(bound.members["tools"]) if body.tools else 0
    return len(bound.members["messages"]) + tools + bound.format_bytes


def _tool_turns(body: ChatRequest) -> tuple[str, ...]:
    return tuple(message.tool_calls[0].id or "" for message in body.messages if message.tool_calls)


def _needs(body: ChatRequest, *, stream: bool, is_checked: bool) -> frozenset[str]:
    """The capabilities that answering this request takes. An answer that is checked can come from any model: one that
    cannot be made to match a schema is told to."""
    needs = {"chat"}
    if stream:
        needs.add("stream")
    if body.tools:
        needs.add("tools")
    if body.response_format is not None and body.response_format.type == "json_schema" and not is_checked:
        needs.add("json_schema")
    for message in body.messages:
        if isinstance(message.content, list):
            needs.update(KINDS[part.type] for part in message.content if part.type in KINDS)
    return frozenset(needs)
