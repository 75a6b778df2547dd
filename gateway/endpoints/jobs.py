"""/v1/jobs: calls that nobody waits for: how they are, what they came to, and how to end them."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import Callable
from typing import Any, TypeVar

import orjson
from django.db import DatabaseError, InterfaceError
from django.db.models import Q
from django.http import HttpResponse

from gateway.errors import JobConflictError, JobExpiredError, JobNotFoundError, OverloadedError, ValidationError
from gateway.handler import DataPlaneRequest
from gateway.jobs import rows
from gateway.jobs.describing import as_event, full
from gateway.jobs.models import ACTIVE, FINAL, Job, JobEvent, JobStatus
from gateway.jobs.results import response_of, told_result
from gateway.jobs.submission import awaited, told_to_end
from gateway.responses import EventStreamResponse, json_response
from gateway.runtime import Gateway
from gateway.streaming import Send
from gateway.views import DataPlaneView
from tenants.models import Scope
from tenants.selectors import Principal

ANY = (Scope.CHAT, Scope.EMBEDDINGS)
"""What jobs can be of; each is seen by keys that could have asked for it."""

LISTED = 20
LISTED_AT_MOST = 100
LONGEST_WAIT_SECONDS = 60
HEARTBEAT_SECONDS = 15.0
LONGEST_STREAM_SECONDS = 3600.0

Result = TypeVar("Result")


class JobsView(DataPlaneView):
    """The tenant's jobs."""

    scope = ANY

    async def get(self, request: DataPlaneRequest) -> HttpResponse:
        """The newest first; `status`, `limit` and `after`, the last one of the page before."""
        status = request.GET.get("status", "")
        if status and status not in JobStatus.values:
            raise ValidationError(f"status is one of {', '.join(JobStatus.values)}.", param="status")
        found, has_more = await page_of(request, Q(status=status) if status else Q())
        return json_response(list_body([full(job) for job in found], has_more=has_more))


class JobView(DataPlaneView):
    """One job of the tenant's."""

    scope = ANY

    async def get(self, request: DataPlaneRequest, job_id: str) -> HttpResponse:
        """Where it is, with its result; `wait` seconds at most for it to be over. Another tenant's is not found."""
        wait_seconds = bounded(request.GET.get("wait"), "wait", default=0, bounds=(0, LONGEST_WAIT_SECONDS))
        job = await own_job(request, job_id)
        if wait_seconds and not job.is_over:
            job = await awaited(request.gateway, job, seconds=wait_seconds)
        return json_response(orjson.dumps(await described(request.gateway, job)))

    async def delete(self, request: DataPlaneRequest, job_id: str) -> HttpResponse:
        """Forget it and its result; one that goes on is cancelled."""
        await forget(request, job_id)
        return json_response(orjson.dumps({"id": job_id, "object": "job", "deleted": True}))


class JobResultView(DataPlaneView):
    """What a job came to."""

    scope = ANY

    async def get(self, request: DataPlaneRequest, job_id: str) -> HttpResponse:
        """The answer, or the error, that its call would have had. Raises `JobConflictError` for one that goes on."""
        job = await own_job(request, job_id)
        if not job.is_over:
            raise JobConflictError(f"The job {job_id!r} is {job.status}: it has no result yet.")
        return await response_of(request.gateway, job)


class CancelJobView(DataPlaneView):
    """Ending a job."""

    scope = ANY

    async def post(self, request: DataPlaneRequest, job_id: str) -> HttpResponse:
        """Cancel it: at once if nobody has begun, else as soon as whoever works on it can be stopped. Doing it twice is
        the same as once."""
        job = await own_job(request, job_id)
        if job.status not in (*ACTIVE, JobStatus.CANCELLED):
            raise JobConflictError(f"The job {job_id!r} is {job.status}: there is nothing to cancel.")
        ended = await told_to_end(request.gateway, job)
        return json_response(orjson.dumps(await described(request.gateway, ended or job)))


class JobEventsView(DataPlaneView):
    """A job as it goes."""

    scope = ANY

    async def get(self, request: DataPlaneRequest, job_id: str) -> HttpResponse:
        """Server-sent events, from the first or after the one that `Last-Event-ID` or `after` names, to the last."""
        job = await own_job(request, job_id)
        text = request.META.get("HTTP_LAST_EVENT_ID") or request.GET.get("after")
        after = bounded(text, "Last-Event-ID", default=0, bounds=(0, 1_000_000_000))
        return EventStreamResponse(JobEvents(request.gateway, job, after=after))


class JobEvents:
    """The events of a job. See `gateway.streaming.EventStream`."""

    def __init__(self, gateway: Gateway, job: Job, *, after: int) -> None:
        self._gateway = gateway
        self._job = job
        self._after = after

    async def write(self, send: Send) -> None:
        """Send them as they come, and a sign of life where none comes. Whoever hears no last one comes back."""
        with contextlib.suppress(DatabaseError, InterfaceError):
            await self._tell(send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + LONGEST_STREAM_SECONDS
        is_over = False
        while not is_over and loop.time() < end and not self._gateway.stopping.has_begun:
            events = await self._gateway.directory.query(_events_after, self._job.pk, self._after)
            for event in events:
                self._after = event.number
                is_over = event.status in FINAL
                frame = b"id: %d\nevent: job.%b\ndata: %b\n\n" % (
                    event.number, event.status.encode(), orjson.dumps(as_event(event)),
                )  # fmt: skip
                await send({"type": "http.response.body", "body": frame, "more_body": True})
            if is_over or (not events and await self._gateway.directory.query(_is_over, self._job.pk)):
                break
            if not events:
                await send({"type": "http.response.body", "body": b": waiting\n\n", "more_body": True})
            await self._gateway.job_watch.changed(self._job.pk, beyond=self._after, seconds=HEARTBEAT_SECONDS)

    def close(self) -> None:
        """There is nothing to let go of."""


async def own_job(request: DataPlaneRequest, job_id: str) -> Job:
    """A job that the caller may see. Raises `JobNotFoundError` for every other, `JobExpiredError` for one of its own
    whose time is over."""
    principal = principal_of(request)
    job: Job | None = await ask(request, lambda: _own(principal).filter(pk=job_id.replace("\0", "")[:64]).first())
    if job is None or not may_see(principal, job.operation):
        raise JobNotFoundError(job_id)
    if job.is_over and job.expires_at <= dt.datetime.now(dt.UTC):
        raise JobExpiredError(job_id)
    return job


async def described(gateway: Gateway, job: Job) -> dict[str, Any]:
    """A job with its result, and what it cost by now."""
    cost = None
    if job.is_over and job.cost_nano_usd is None:
        with contextlib.suppress(DatabaseError, InterfaceError):
            cost = await gateway.directory.query(rows.charged, job)
    return full(job, result=await told_result(gateway, job), cost_nano_usd=cost)


async def forget(request: DataPlaneRequest, job_id: str) -> Job:
    """Take a job away from its tenant. Raises `JobNotFoundError`."""
    job = await own_job(request, job_id)
    if not job.is_over:
        await told_to_end(request.gateway, job)
    forgotten = await ask(request, lambda: rows.forget(job.tenant_id, job.pk))
    if forgotten is None:
        raise JobNotFoundError(job_id)
    return forgotten


async def page_of(request: DataPlaneRequest, condition: Q) -> tuple[list[Job], bool]:
    """A page of the tenant's jobs, and whether there are more. Raises `ValidationError`."""
    principal = principal_of(request)
    limit = bounded(request.GET.get("limit"), "limit", default=LISTED, bounds=(1, LISTED_AT_MOST))
    after = request.GET.get("after", "").replace("\0", "")[:64]
    order = request.GET.get("order", "desc")
    if order not in ("asc", "desc"):
        raise ValidationError("order is asc or desc.", param="order")

    def look() -> list[Job] | None:
        found = _own(principal).filter(condition, expires_at__gt=dt.datetime.now(dt.UTC))
        if not principal.may(Scope.CHAT):
            found = found.filter(operation="embeddings")
        elif not principal.may(Scope.EMBEDDINGS):
            found = found.exclude(operation="embeddings")
        if after:
            last = _own(principal).filter(pk=after).first()
            if last is None:
                return None
            beyond, same = ("gt", "gt") if order == "asc" else ("lt", "lt")
            later = Q(**{f"created_at__{beyond}": last.created_at})
            found = found.filter(later | Q(created_at=last.created_at, **{f"id__{same}": last.pk}))
        sign = "" if order == "asc" else "-"
        return list(found.order_by(f"{sign}created_at", f"{sign}id")[: limit + 1])

    jobs = await ask(request, look)
    if jobs is None:
        raise ValidationError("There is no such job to begin after.", param="after")
    return jobs[:limit], len(jobs) > limit


def list_body(data: list[dict[str, Any]], *, has_more: bool) -> bytes:
    """A page as OpenAI has it."""
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return orjson.dumps({"object": "list", "data": data, **ends, "has_more": has_more})


async def ask(request: DataPlaneRequest, question: Callable[[], Result]) -> Result:
    """Ask the database. Raises `OverloadedError` where it is away."""
    try:
        return await request.gateway.directory.query(question)
    except (DatabaseError, InterfaceError) as error:
        raise OverloadedError("Jobs cannot be looked up now.") from error


def principal_of(request: DataPlaneRequest) -> Principal:
    """Who asks."""
    assert request.trace.caller is not None
    return request.trace.caller.principal


def may_see(principal: Principal, operation: str) -> bool:
    """Whether a key could have asked for a job of this operation itself."""
    return principal.may(Scope.EMBEDDINGS if operation == "embeddings" else Scope.CHAT)


def bounded(text: str | None, param: str, *, default: int, bounds: tuple[int, int]) -> int:
    """A whole number as a client gives it. Raises `ValidationError`."""
    if text is None:
        return default
    least, most = bounds
    if not (text.isascii() and text.isdigit() and len(text) < 11 and least <= int(text) <= most):
        raise ValidationError(f"{param} is a whole number from {least} to {most}.", param=param)
    return int(text)


def _own(principal: Principal) -> Any:
    return Job.objects.filter(tenant_id=principal.tenant_id, deleted_at=None)


def _events_after(job_id: str, after: int) -> list[JobEvent]:
    return list(JobEvent.objects.filter(job=job_id, number__gt=after).order_by("number"))


def _is_over(job_id: str) -> bool:
    return not Job.objects.filter(pk=job_id, status__in=ACTIVE).exists()
