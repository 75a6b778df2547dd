"""One turn at a job: its call is made, through the same pipeline as any other, or what a provider does is looked at."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from gateway.authentication import check_scope, check_standing
from gateway.context import Caller, Trace
from gateway.errors import InvalidApiKeyError
from gateway.jobs import rows
from gateway.jobs.models import Job, JobStatus
from gateway.jobs.polling import follow
from gateway.jobs.requests import unsealed
from gateway.jobs.results import error_of, failure, kept_result
from gateway.jobs.rows import End
from providers.registry import ASYNCHRONOUS_OPERATIONS
from tenants.models import Scope
from tenants.sealing import SealError

if TYPE_CHECKING:
    from billing.entries import Settlement
    from gateway.handler import DataPlaneHandler
    from gateway.runtime import Gateway
    from providers.types import Target

logger = logging.getLogger(__name__)

FIRST_POLL = dt.timedelta(seconds=1)
COME_BACK = frozenset({"rate_limited", "overloaded", "provider_unavailable"})
"""What another time may be different, as long as nothing was paid."""

COME_BACK_SECONDS = 5
LONGEST_QUEUED = dt.timedelta(hours=1)
"""So long is it tried again."""


class JobRun:
    """What the pipeline knows of the job that it makes a call for."""

    def __init__(self, gateway: Gateway, job: Job) -> None:
        self._gateway = gateway
        self.job = job
        self.is_native = job.operation in ASYNCHRONOUS_OPERATIONS
        self.goes_on = False
        """Whether a provider has taken it up: the call is not over when its request is."""
        self.trace: Trace | None = None

    async def caller(self, *, scope: Scope | tuple[Scope, ...]) -> Caller:
        """Whose job it is, if the key still holds. Raises the 401 or 403 that its call would have."""
        caller = await self._gateway.directory.caller_of_key(self.job.api_key_id)
        if caller is None:
            raise InvalidApiKeyError
        check_standing(caller)
        check_scope(caller, scope)
        return caller

    async def taken_up(self, upstream_id: str, *, target: Target, settlement: Settlement) -> None:
        """Keep the provider's id, before anything else happens."""
        notes = self.trace.notes if self.trace is not None else []
        fields = {
            "upstream_id": upstream_id[:512],
            "deployment": target.deployment_id,
            "model_name": target.model_name,
            "provider_name": target.provider_name,
            "attempt": settlement.attempt_id,
            "settlement": orjson.loads(msgspec.json.encode(settlement)),
            "notes": msgspec.to_builtins(notes),
        }
        next_at = dt.datetime.now(dt.UTC) + FIRST_POLL
        query = self._gateway.directory.query
        await query(lambda: rows.hand_over(self.job, fields=fields, next_at=next_at))
        self.goes_on = True


async def see_to(gateway: Gateway, handler: DataPlaneHandler, *, job: Job) -> None:
    """Do what is to be done about a job that this process has taken up."""
    if job.upstream_id:
        await follow(gateway, handler, job=job)
    elif job.cancel_requested_at is not None:
        await _end(gateway, job, end=End(status=JobStatus.CANCELLED, fields={"cost_nano_usd": 0}))
    elif not job.request:
        error = failure("job_expired", "Its request is not kept any more.", status=410)
        await _end(gateway, job, end=End(status=JobStatus.EXPIRED, fields={"error": error}))
    else:
        await _make_call(gateway, handler, job=job)


async def _make_call(gateway: Gateway, handler: DataPlaneHandler, *, job: Job) -> None:
    try:
        asked = unsealed(job.request, job_id=job.pk, tenant_id=job.tenant_id)
    except SealError as error:
        reason = failure("internal_error", f"Its request {error}", status=500)
        await _end(gateway, job, end=End(status=JobStatus.FAILED, fields={"error": reason}))
        return
    run = JobRun(gateway, job)
    trace = run.trace = Trace(job.pk, idempotent=True, job=run)
    answer = _Answer()
    try:
        await handler.replay(answer.hear, scope=asked.scope(), body=asked.body, trace=trace)
    except asyncio.CancelledError:
        if not trace.cancelled:
            raise  # this process is being stopped
    if not run.goes_on:
        await _over(gateway, job, trace=trace, answer=answer)


async def _over(gateway: Gateway, job: Job, *, trace: Trace, answer: _Answer) -> None:
    """The call is over: end its job, or have it made again where that was for nothing."""
    fields = _facts(trace)
    if trace.cancelled:
        await _end(gateway, job, end=End(status=JobStatus.CANCELLED, fields=fields))
        return
    if answer.status < 400:
        kept = await kept_result(gateway, job, body=bytes(answer.body), content_type=answer.content_type)
        await _end(gateway, job, end=End(status=JobStatus.COMPLETED, fields=fields | kept))
        return
    error = error_of(bytes(answer.body), status=answer.status)
    is_young = dt.datetime.now(dt.UTC) - job.created_at < LONGEST_QUEUED
    if error.get("code") in COME_BACK and trace.usage is None and is_young:
        seconds = answer.retry_after or COME_BACK_SECONDS
        later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
        message = f"{error['code']}: tried again in {seconds} s"
        query = gateway.directory.query
        await query(lambda: rows.put_back(job.pk, job.turn, next_at=later, message=message, queued=True))
        return
    message = str(error.get("message", ""))
    await _end(gateway, job, end=End(status=JobStatus.FAILED, message=message, fields=fields | {"error": error}))


async def _end(gateway: Gateway, job: Job, *, end: End) -> None:
    ended = await gateway.directory.query(lambda: rows.finish(job.pk, job.turn, end=end))
    if not ended:
        logger.warning("job.lost_meanwhile", extra={"job": job.pk, "status": end.status})


def _facts(trace: Trace) -> dict[str, Any]:
    """What the row keeps of a call."""
    target, usage = trace.target, trace.usage
    return {
        "model_name": target.model_name if target else "",
        "provider_name": target.provider_name if target else "",
        "notes": msgspec.to_builtins(trace.notes),
        "cost_nano_usd": trace.cost_nano_usd if usage or trace.notes else 0,
        "usage": {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens, "units": usage.units}
        if usage
        else None,
    }


class _Answer:
    """What a call answers, collected."""

    def __init__(self) -> None:
        self.status = 500
        self.content_type = "application/json"
        self.retry_after = 0
        self.body = bytearray()

    async def hear(self, message: dict[str, Any]) -> None:
        """Take a message of ASGI's."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = dict(message["headers"])
            self.content_type = headers.get(b"content-type", b"").decode("latin-1") or self.content_type
            after = headers.get(b"retry-after", b"")
            self.retry_after = int(after) if after.isdigit() else 0
        else:
            self.body += message.get("body", b"")
