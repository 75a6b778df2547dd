"""/v1/videos: OpenAI's view of the jobs that make films."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, Literal

import msgspec
import orjson
from django.db.models import Q
from django.http import HttpResponse

from gateway import pipeline
from gateway.bodies import attribution
from gateway.context import Call, MediaFacts
from gateway.endpoints.jobs import forget, list_body, own_job, page_of
from gateway.errors import JobConflictError, JobNotFoundError, UnsupportedMediaError, ValidationError
from gateway.handler import DataPlaneRequest
from gateway.jobs import submission
from gateway.jobs.describing import as_video
from gateway.jobs.models import Job, JobStatus
from gateway.jobs.wishes import Wish, read_wish
from gateway.media import storage
from gateway.media.errors import FileNotFoundInStorageError
from gateway.media.forms import raw_members, read_form, typed
from gateway.media.multipart import FormLimits
from gateway.media.serving import serve
from gateway.responses import json_response
from gateway.views import DataPlaneView
from providers.types import WireRequest
from tenants.models import Scope

OPERATION = "videos"
NEEDS = frozenset({"video_generation"})
LONGEST_PROMPT = 32_000
USUAL_SECONDS = 4
"""OpenAI's own, sent to every provider: what is not said cannot be held for."""

MOST_SECONDS = 60
AT_ONCE = Wish(respond_async=True)
"""A client of OpenAI's asks for a film and is told of one that is being made."""


class VideoRequest(msgspec.Struct):
    """The members the gateway decides on or whose wrong type would only confuse a provider."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    prompt: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_PROMPT)]
    seconds: Annotated[int, msgspec.Meta(ge=1, le=MOST_SECONDS)] = USUAL_SECONDS
    size: Annotated[str, msgspec.Meta(max_length=32, pattern=r"^\d{1,5}x\d{1,5}$")] | None = None
    user: str | None = None


class VideosView(DataPlaneView):
    """The tenant's films."""

    scope = Scope.CHAT
    operation = OPERATION
    form_limits = FormLimits(files=1, in_memory=True)

    async def get(self, request: DataPlaneRequest) -> HttpResponse:
        """The newest first, as /v1/jobs lists them."""
        request.trace.operation = ""
        found, has_more = await page_of(request, Q(operation=OPERATION))
        return json_response(list_body([as_video(job) for job in found], has_more=has_more))

    async def post(self, request: DataPlaneRequest) -> HttpResponse:
        """Begin one. What is told is `told_of`'s to say: this only ever returns to the worker that makes the call."""
        form = read_form(request)
        if form.uploads or "input_reference" in form.members:
            raise UnsupportedMediaError("Films are made of words here, not of pictures.", param="input_reference")
        body = typed(form.members, VideoRequest)
        trace = request.trace
        trace.parameters = {"seconds": str(body.seconds), **({"size": body.size} if body.size else {})}
        await pipeline.answer(request.gateway, _call(request, body, members=form.members), trace=trace)
        return json_response(b"{}")

    def wish_of(self, request: DataPlaneRequest) -> Wish | None:
        """Always a job: OpenAI's clients are told of it as a video at once, others as they like."""
        return read_wish(request) or AT_ONCE

    async def told_of(self, request: DataPlaneRequest, job: Job, *, wish: Wish) -> HttpResponse:
        """The video as it stands; to whoever prefers a job, that; to whoever would wait, the video when it is made."""
        if wish is AT_ONCE:
            response = json_response(orjson.dumps(as_video(job)))
            response.headers["Location"] = f"/v1/jobs/{job.pk}"
            return response
        return await submission.answered(request, job, wish=wish)


class VideoView(DataPlaneView):
    """One film of the tenant's."""

    scope = Scope.CHAT

    async def get(self, request: DataPlaneRequest, job_id: str) -> HttpResponse:
        """How far it is. Another tenant's is not found."""
        return json_response(orjson.dumps(as_video(await _own_video(request, job_id))))

    async def delete(self, request: DataPlaneRequest, job_id: str) -> HttpResponse:
        """Forget it and its file; one that is being made is cancelled, and its provider told."""
        job = await _own_video(request, job_id)
        await forget(request, job_id)
        if job.result_file:
            await _delete_file(request, job)
        return json_response(orjson.dumps({"id": job_id, "object": "video.deleted", "deleted": True}))


class VideoContentView(DataPlaneView):
    """A film itself."""

    scope = Scope.CHAT

    async def get(self, request: DataPlaneRequest, job_id: str) -> HttpResponse:
        """The whole, or one range. There is no `variant` but the film."""
        variant: Literal["video"] | str = request.GET.get("variant", "video")
        if variant != "video":
            raise ValidationError("There is no variant but video.", param="variant")
        job = await _own_video(request, job_id)
        if job.status != JobStatus.COMPLETED:
            raise JobConflictError(f"The video {job_id!r} is {job.status}: there is nothing to be had.")
        if not job.result_file:
            raise FileNotFoundInStorageError(job_id)
        stored = await storage.read(request.gateway, tenant_id=job.tenant_id, file_id=job.result_file)
        return await serve(request.gateway, stored, meta=request.META)


async def _own_video(request: DataPlaneRequest, job_id: str) -> Job:
    job = await own_job(request, job_id)
    if job.operation != OPERATION:
        raise JobNotFoundError(job_id)
    return job


async def _delete_file(request: DataPlaneRequest, job: Job) -> None:
    with contextlib.suppress(FileNotFoundInStorageError):  # it has expired, or its owner has deleted it
        await storage.delete(request.gateway, tenant_id=job.tenant_id, file_id=job.result_file)


def _call(request: DataPlaneRequest, body: VideoRequest, *, members: dict[str, Any]) -> Call:
    trace = request.trace
    assert trace.caller is not None
    trace.requested_model = body.model
    wire = WireRequest(
        operation=OPERATION,
        members=raw_members(members, body) | {"seconds": msgspec.Raw(msgspec.json.encode(str(body.seconds)))},
    )
    return Call(
        caller=trace.caller,
        request_id=trace.request_id,
        operation=OPERATION,
        requested_model=body.model,
        needs=NEEDS,
        wire=wire,
        input_bytes=len(body.prompt.encode()),
        media=MediaFacts(output_tokens=0, held={"seconds": body.seconds}),
        attribution=attribution(request.META, user=body.user, metadata=None, default_user=trace.caller.principal.user),
    )
