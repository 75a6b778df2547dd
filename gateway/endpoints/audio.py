"""POST /v1/audio/transcriptions and /v1/audio/translations."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from django.http import HttpResponse

from billing.estimates import media_token_bound, transcript_token_bound
from gateway import pipeline
from gateway.bodies import attribution
from gateway.context import Call, MediaFacts
from gateway.errors import UnsupportedMediaError, ValidationError
from gateway.handler import DataPlaneRequest
from gateway.media.content import seconds_of
from gateway.media.forms import Given, files_of, raw_members, read_form, typed
from gateway.media.models import MediaKind
from gateway.media.multipart import FormLimits
from gateway.media.transcripts import ASKED_AS, TranscriptEvents, rendered
from gateway.responses import EventStreamResponse
from gateway.streaming import StreamReply, WholeReply
from gateway.views import DataPlaneView
from providers.types import WireRequest
from tenants.models import Scope

NEEDS = frozenset({"transcription"})
LOWEST_BYTES_PER_SECOND = 500
"""Speech codecs go down to 4 kbit/s; what cannot be measured is held for at this."""


class TranscriptRequest(msgspec.Struct):
    """The members the gateway decides on or whose wrong type would only confuse a provider."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    response_format: Literal["json", "text", "srt", "vtt", "verbose_json", "diarized_json"] | None = None
    language: str | None = None
    prompt: str | None = None
    temperature: float | None = None
    stream: bool | None = None
    user: str | None = None


class TranscriptionsView(DataPlaneView):
    """Speech to text."""

    scope = Scope.CHAT
    operation = "transcription"
    form_limits = FormLimits(files=1, in_memory=True)

    async def post(self, request: DataPlaneRequest) -> HttpResponse:
        """Answer in the form that is asked for. The sound is uploaded, or named by file id or URL."""
        form = read_form(request)
        members = form.members
        references = [given for given in map(members.pop, ("file", "file_id", "url"), (None,) * 3) if given]
        body = typed(members, TranscriptRequest)
        sounds = await files_of(request, form, field="file", references=references)
        if len(sounds) != 1:
            raise ValidationError("Send one file, or name one by file_id or url.", param="file")
        if sounds[0].facts.kind not in (MediaKind.AUDIO, MediaKind.VIDEO):
            raise UnsupportedMediaError(f"file is {sounds[0].facts.mime}.", param="file")
        call = self._call(request, body, members=members, sound=sounds[0])
        reply = await pipeline.answer(request.gateway, call, trace=request.trace)
        if isinstance(reply, StreamReply):
            reply.framing = TranscriptEvents(request.trace)
            return EventStreamResponse(reply)
        assert isinstance(reply, WholeReply)
        answer, content_type = rendered(reply.body, body.response_format or "json")
        return HttpResponse(answer, content_type=content_type)

    def _call(
        self, request: DataPlaneRequest, body: TranscriptRequest, *, members: dict[str, Any], sound: Given
    ) -> Call:
        trace = request.trace
        assert trace.caller is not None
        stream = bool(body.stream)
        trace.requested_model, trace.stream = body.model, stream
        form = ASKED_AS["json" if stream else body.response_format or "json"]
        wire = WireRequest(
            operation=self.operation,
            members=raw_members(members, body) | {"response_format": msgspec.Raw(msgspec.json.encode(form))},
            stream=stream,
            files=(sound.wire,),
        )
        return Call(
            caller=trace.caller,
            request_id=trace.request_id,
            operation=self.operation,
            requested_model=body.model,
            needs=NEEDS,
            wire=wire,
            input_bytes=len((body.prompt or "").encode()),
            media=_facts(sound),
            attribution=attribution(
                request.META, user=body.user, metadata=None, default_user=trace.caller.principal.user
            ),
        )


class TranslationsView(TranscriptionsView):
    """Speech to text in English."""

    operation = "translation"


def _facts(sound: Given) -> MediaFacts:
    size_bytes, seconds = len(sound.wire.data), seconds_of(sound.facts)
    return MediaFacts(
        input_tokens=media_token_bound("audio", size_bytes=size_bytes, seconds=seconds),
        output_tokens=transcript_token_bound(seconds or size_bytes // LOWEST_BYTES_PER_SECOND),
        known={"seconds": seconds} if seconds is not None else {},
        held={} if seconds is not None else {"seconds": 1 + size_bytes // LOWEST_BYTES_PER_SECOND},
    )
