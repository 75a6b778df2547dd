"""From a request to a job, and to what its client is told: 202, or the answer itself if it was worth waiting for."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from typing import TYPE_CHECKING

import orjson
from django.db import DatabaseError, InterfaceError
from django.http import HttpResponse
from kombu.exceptions import OperationalError

from gateway.celery import app
from gateway.context import Call
from gateway.errors import JobTimeoutError, OverloadedError, RateLimitedError
from gateway.jobs.describing import full
from gateway.jobs.models import Job, JobStatus
from gateway.jobs.requests import sealed, stored_request
from gateway.jobs.results import response_of
from gateway.jobs.rows import LONGEST_ACTIVE, MOST_ACTIVE, add, ask_to_cancel, new_job_id
from gateway.jobs.wishes import LONGEST_WAIT_SECONDS, Wish
from gateway.responses import json_response
from providers.registry import ASYNCHRONOUS_OPERATIONS

if TYPE_CHECKING:
    from gateway.handler import DataPlaneRequest
    from gateway.runtime import Gateway

logger = logging.getLogger(__name__)

TASK = "gateway.run_jobs"
HINT_EXPIRES_SECONDS = 30
POLL_AGAIN_SECONDS = 1
FULL_AGAIN_SECONDS = 30


async def submit(request: DataPlaneRequest, call: Call) -> Job:
    """Write the job down and have a worker look. Raises `OverloadedError`, `RateLimitedError`, and what keeping a
    form's files does."""
    job_id, trace = new_job_id(), request.trace
    principal = call.caller.principal
    asked = await stored_request(request, job_id=job_id)
    moment = dt.datetime.now(dt.UTC)
    job = Job(
        id=job_id,
        tenant_id=principal.tenant_id,
        api_key_id=principal.key_id,
        request_id=trace.request_id,
        operation=call.operation,
        endpoint=request.path,
        requested_model=call.requested_model,
        is_native=call.operation in ASYNCHRONOUS_OPERATIONS,
        created_at=moment,
        next_at=moment,
        expires_at=moment + LONGEST_ACTIVE,
        parameters=trace.parameters,
        request=sealed(asked, job_id=job_id, tenant_id=principal.tenant_id),
    )
    try:
        added = await request.gateway.directory.query(add, job)
    except (DatabaseError, InterfaceError) as error:
        raise OverloadedError("Jobs cannot be written down at the moment.") from error
    if not added:
        raise RateLimitedError(
            f"{MOST_ACTIVE} jobs of this tenant are under way: wait until some are over.",
            retry_after_seconds=FULL_AGAIN_SECONDS,
            may_retry=True,
        )
    trace.operation = ""  # the call is told of when it is made
    request.gateway.job_watch.meanwhile(hint())
    return job


async def hint() -> None:
    """Have a worker look for what is due, if the queue can be reached; else one looks by itself within seconds."""
    try:
        await asyncio.to_thread(_send_hint)
    except (OperationalError, OSError) as error:
        logger.info("job.no_hint", extra={"reason": str(error)[:200]})


def _send_hint() -> None:
    app.send_task(TASK, expires=HINT_EXPIRES_SECONDS, ignore_result=True, retry=False)


async def answered(request: DataPlaneRequest, job: Job, *, wish: Wish) -> HttpResponse:
    """202 with the job; or the call's own answer, if it is there in time. Raises `JobTimeoutError` for a client that
    wanted nothing else."""
    gateway = request.gateway
    wait_seconds = wish.wait_seconds if wish.wait_seconds is not None else 0
    if not wish.respond_async and wish.wait_seconds is None:
        wait_seconds = LONGEST_WAIT_SECONDS
    try:
        job = await awaited(gateway, job, seconds=wait_seconds)
    except asyncio.CancelledError:
        if not wish.respond_async:  # its client has left, and nobody else knows of the job
            await asyncio.shield(told_to_end(gateway, job))
        raise
    if job.is_over:
        response = await response_of(gateway, job)
    elif wish.respond_async:
        response = json_response(orjson.dumps(full(job)), status=202)
        response.headers["Retry-After"] = str(POLL_AGAIN_SECONDS)
    else:
        raise JobTimeoutError(job.pk, waited_seconds=wait_seconds)
    response.headers["Location"] = f"/v1/jobs/{job.pk}"
    if wish.applied:
        response.headers["Preference-Applied"] = wish.applied
    return response


async def awaited(gateway: Gateway, job: Job, *, seconds: float) -> Job:
    """The job as it is when it is over, or after so long. Raises `OverloadedError` without a database."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not job.is_over and (left := deadline - asyncio.get_running_loop().time()) > 0:
        await gateway.job_watch.changed(job.pk, beyond=job.events, seconds=left)
        try:
            found = await gateway.directory.query(_read, job.pk)
        except (DatabaseError, InterfaceError) as error:
            raise OverloadedError(f"The job {job.pk} goes on, but cannot be looked up now.") from error
        if found is None:
            break
        job = found
    return job


def _read(job_id: str) -> Job | None:
    return Job.objects.filter(pk=job_id).first()


async def told_to_end(gateway: Gateway, job: Job) -> Job | None:
    """Have a job end, wherever it is worked on. Raises `OverloadedError`."""
    try:
        found = await gateway.directory.query(ask_to_cancel, job.tenant_id, job.pk)
    except (DatabaseError, InterfaceError) as error:
        raise OverloadedError("Jobs cannot be written at the moment.") from error
    if found is not None and found.status == JobStatus.CANCELLING:
        gateway.job_watch.meanwhile(hint())
    return found
