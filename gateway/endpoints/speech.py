"""POST /v1/audio/speech."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import orjson
from django.http import HttpResponse

from gateway import pipeline
from gateway.bodies import attribution, decode
from gateway.context import Call, Trace
from gateway.handler import DataPlaneRequest
from gateway.media.generated import told
from gateway.media.speech import SpeechBytes, SpeechEvents, seconds_of_sound, speech_facts, usage_of
from gateway.media.storage import new_file_id
from gateway.responses import EventStreamResponse, json_response
from gateway.streaming import StreamReply
from gateway.views import DataPlaneView
from providers.types import WireRequest
from tenants.models import Scope

NEEDS = frozenset({"speech"})
LONGEST_INPUT = 32_000


class Voice(msgspec.Struct):
    id: str


class SpeechRequest(msgspec.Struct):
    """The members the gateway decides on or whose wrong type would only confuse a provider."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    input: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_INPUT)]
    voice: str | Voice | None = None
    instructions: str | None = None
    response_format: Annotated[str, msgspec.Meta(max_length=16)] | None = None
    speed: Annotated[float, msgspec.Meta(ge=0.25, le=4)] | None = None
    stream_format: Literal["audio", "sse", "url"] | None = None
    user: str | None = None


_decoder = msgspec.json.Decoder(SpeechRequest)


class SpeechView(DataPlaneView):
    """Text to speech."""

    scope = Scope.CHAT
    operation = "speech"

    async def post(self, request: DataPlaneRequest) -> HttpResponse:
        """Answer with sound as it comes, as events, or when all is there with a URL that it is kept at."""
        body, members = decode(_decoder, request.body)
        gateway, trace = request.gateway, request.trace
        call = _call(trace, request.META, body=body, members=members)
        reply = await pipeline.answer(gateway, call, trace=trace)
        assert isinstance(reply, StreamReply)
        media_type = reply.media_type
        if body.stream_format == "sse":
            reply.framing = SpeechEvents(gateway, trace, media_type=media_type)
            return EventStreamResponse(reply)
        speech = SpeechBytes(gateway, trace, media_type=media_type, file_id=new_file_id())
        reply.framing = speech
        if _is_kept(trace, body):
            return json_response(await _as_url(request, reply, speech=speech))
        response = EventStreamResponse(reply)
        response.headers["Content-Type"] = media_type
        response.headers["x-gateway-file-id"] = speech.file_id
        return response


def _call(trace: Trace, meta: dict[str, Any], *, body: SpeechRequest, members: Any) -> Call:
    assert trace.caller is not None
    trace.requested_model, trace.stream = body.model, not _is_kept(trace, body)
    return Call(
        caller=trace.caller,
        request_id=trace.request_id,
        operation="speech",
        requested_model=body.model,
        needs=NEEDS,
        wire=WireRequest(operation="speech", members=members, stream=True),
        input_bytes=len(body.input.encode()) + len((body.instructions or "").encode()),
        media=speech_facts(body.input),
        attribution=attribution(meta, user=body.user, metadata=None, default_user=trace.caller.principal.user),
    )


def _is_kept(trace: Trace, body: SpeechRequest) -> bool:
    """Whether the answer is where the sound is kept: a job has no other."""
    is_job = trace.job is not None or trace.deferral is not None
    return body.stream_format == "url" or (is_job and body.stream_format != "sse")


async def _as_url(request: DataPlaneRequest, reply: StreamReply, *, speech: SpeechBytes) -> bytes:
    """The whole speech, and where it is kept; in base64 where it could not be kept. Raises what broke it off."""
    gateway, trace = request.gateway, request.trace

    async def ignore(message: dict[str, Any]) -> None:
        """The sound is collected by its framing."""

    await reply.write(ignore)
    if speech.failure is not None:
        raise speech.failure
    sound = bytes(speech.sound)
    answer: dict[str, Any] = {
        "object": "audio.speech",
        "media_type": speech.media_type,
        "size_bytes": len(sound),
        "duration_seconds": seconds_of_sound(sound, speech.media_type),
        **usage_of(trace),
    }
    answer |= told(gateway, speech.stored) if speech.stored is not None else speech.inline()
    return orjson.dumps(answer)
