"""Jobs that a provider works on by itself: asked after at growing intervals, told to stop, and fetched when done.

Every look is a turn of its own, so a worker holds nothing between two of them; the next one may be another's.
"""

from __future__ import annotations

import datetime as dt
import logging
import random
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from billing.counting import charged_units
from billing.entries import UNSTORABLE, Settlement, Void
from billing.models import Ending, Price, UsageSource
from gateway.context import AttemptNote, Trace
from gateway.exchange import exchange
from gateway.jobs import rows
from gateway.jobs.models import CancelOutcome, Job, JobStatus
from gateway.jobs.results import failure
from gateway.jobs.rows import End
from gateway.media.errors import NotKeptError
from gateway.media.models import MediaSource
from gateway.media.spool import spool
from gateway.media.storage import NewFile, StoredFile, keep
from gateway.metering import KEPT_USAGE_BYTES, OTHER_UNITS_OVERHEAD
from providers.asynchronous import AsynchronousAdapter, UpstreamState, UpstreamStatus
from providers.errors import ProviderError
from providers.registry import asynchronous_adapter
from providers.transport import Deadlines, UpstreamResponse, read_all
from providers.types import Target, UpstreamRequest, Usage

if TYPE_CHECKING:
    from gateway.handler import DataPlaneHandler
    from gateway.runtime import Gateway

logger = logging.getLogger(__name__)

DEADLINES = Deadlines(connect=3.0, first_token=30.0, idle=30.0, total=30.0)
CONTENT_DEADLINES = Deadlines(connect=3.0, first_token=60.0, idle=60.0, total=900.0)
SHORTEST_SECONDS = 1.0
LONGEST_SECONDS = 10.0
GROWTH = 1.5
JITTER = 0.1
MOST_MISSES = 10
"""Looks that fail one after the other; then the provider has lost the job."""

LONGEST_WORK = dt.timedelta(hours=6)
NOT_FOUND = 404
NUL = b"\\u0000"
"""In JSON; no jsonb takes it."""

_decode = msgspec.json.Decoder(Settlement).decode


async def follow(gateway: Gateway, handler: DataPlaneHandler, *, job: Job) -> None:
    """Look at a job once, and end it or come back."""
    target = _target_of(gateway, job)
    adapter = asynchronous_adapter(target.kind, job.operation) if target is not None else None
    if target is None or adapter is None:
        await _missed(gateway, handler, job=job, reason="Its deployment is not there any more.")
        return
    if job.cancel_requested_at is not None and not job.cancel_upstream:
        job.cancel_upstream = await _tell_to_stop(gateway, adapter, job=job, target=target)
    try:
        response = await exchange(
            gateway.transport, adapter.poll(job.upstream_id, target), target=target, deadlines=DEADLINES
        )
        status = adapter.read_status(await _whole(response))
    except ProviderError as error:
        if error.status == NOT_FOUND and job.cancel_upstream == CancelOutcome.CONFIRMED:
            status = UpstreamStatus(state=UpstreamState.CANCELLED)
        else:
            await _missed(gateway, handler, job=job, reason=error.message)
            return
    if status.unknown_state:
        logger.warning("job.unknown_state", extra={"job": job.pk, "state": status.unknown_state})
    if status.state in (UpstreamState.QUEUED, UpstreamState.IN_PROGRESS):
        await _come_back(gateway, handler, job=job, progress=status.progress)
    elif status.state is UpstreamState.COMPLETED:
        await _completed(gateway, handler, job=job, work=(adapter, target, status))
    else:
        await _ended_without(gateway, handler, job=job, status=status)


def _target_of(gateway: Gateway, job: Job) -> Target | None:
    for model in gateway.directory.catalogue.models.values():
        for deployment in model.deployments:
            if deployment.target.deployment_id == job.deployment:
                return deployment.target
    return None


async def _tell_to_stop(gateway: Gateway, adapter: AsynchronousAdapter, *, job: Job, target: Target) -> CancelOutcome:
    request = adapter.cancel(job.upstream_id, target)
    if request is None:
        return CancelOutcome.UNSUPPORTED
    try:
        (await exchange(gateway.transport, request, target=target, deadlines=DEADLINES)).close()
    except ProviderError as error:
        logger.info("job.not_cancelled", extra={"job": job.pk, "reason": error.message[:200]})
        return CancelOutcome.FAILED
    return CancelOutcome.CONFIRMED


async def _come_back(gateway: Gateway, handler: DataPlaneHandler, *, job: Job, progress: int | None) -> None:
    """Look again later, unless it has gone on for too long."""
    moment = dt.datetime.now(dt.UTC)
    if moment - (job.started_at or job.created_at) > LONGEST_WORK:
        target = _target_of(gateway, job)
        adapter = asynchronous_adapter(target.kind, job.operation) if target is not None else None
        if target is not None and adapter is not None and not job.cancel_upstream:
            job.cancel_upstream = await _tell_to_stop(gateway, adapter, job=job, target=target)
        error = failure("job_expired", "The provider was not done in time.", status=504)
        await _end(gateway, handler, job=job, end=_unpaid(job, JobStatus.EXPIRED, error=error))
        return
    seconds = min(LONGEST_SECONDS, SHORTEST_SECONDS * GROWTH ** min(job.polls, 20)) * (1 + JITTER * random.random())
    fields: dict[str, Any] = {"polls": job.polls + 1, "misses": 0, "cancel_upstream": job.cancel_upstream}
    if progress is not None:
        fields["progress"] = progress
    later = moment + dt.timedelta(seconds=seconds)
    await gateway.directory.query(lambda: rows.put_back(job.pk, job.turn, next_at=later, **fields))


async def _missed(gateway: Gateway, handler: DataPlaneHandler, *, job: Job, reason: str) -> None:
    """The provider did not say how it is."""
    if job.misses + 1 >= MOST_MISSES:
        error = failure("upstream_lost", f"The provider does not know the job any more: {reason}"[:500])
        await _end(gateway, handler, job=job, end=_unpaid(job, JobStatus.FAILED, error=error))
        return
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=min(LONGEST_SECONDS, SHORTEST_SECONDS * 2**job.misses))
    fields: dict[str, Any] = {"misses": job.misses + 1, "cancel_upstream": job.cancel_upstream}
    await gateway.directory.query(lambda: rows.put_back(job.pk, job.turn, next_at=later, **fields))


async def _completed(
    gateway: Gateway,
    handler: DataPlaneHandler,
    *,
    job: Job,
    work: tuple[AsynchronousAdapter, Target, UpstreamStatus],
) -> None:
    """Fetch what was made, keep it, and charge for it."""
    adapter, target, status = work
    stored: StoredFile | None = None
    message = ""
    try:
        request = adapter.content(job.upstream_id, status, target=target)
        stored = await _fetched(gateway, job, request=request, target=target)
    except (ProviderError, NotKeptError) as error:
        if job.misses + 1 < MOST_MISSES:
            await _missed(gateway, handler, job=job, reason=error.message)
            return
        logger.error("job.content_lost", extra={"job": job.pk, "reason": error.message[:200]})
        message = f"What was made could not be kept: {error.message}"
    entry = await gateway.directory.query(_charge, job, status)
    fields = {
        "result_file": stored.id if stored is not None else "",
        "result_type": stored.mime if stored is not None else "",
        "cost_nano_usd": entry.cost_nano_usd if entry.price_id is not None else None,
        "usage": {"units": entry.units},
        "cancel_upstream": job.cancel_upstream,
        "notes": _notes(job, "answered"),
    }
    end = End(status=JobStatus.COMPLETED, message=message, fields=fields, entry=entry)
    await _end(gateway, handler, job=job, end=end, status=200)


async def _fetched(gateway: Gateway, job: Job, *, request: UpstreamRequest, target: Target) -> StoredFile:
    """What a provider has made, kept without being held in memory. Raises `ProviderError` and `NotKeptError`."""
    response = await exchange(gateway.transport, request, target=target, deadlines=CONTENT_DEADLINES)
    new = NewFile(
        tenant_id=job.tenant_id,
        key_id=job.api_key_id,
        purpose="generated",
        source=MediaSource.GENERATED,
        job_id=job.pk,
    )
    try:
        async with spool(gateway.files, _pieces(response)) as content:
            return await keep(gateway, content, new=new)
    finally:
        response.close()


async def _pieces(response: UpstreamResponse) -> AsyncIterator[bytes]:
    while piece := await response.next():
        yield piece


def _charge(job: Job, status: UpstreamStatus) -> Settlement:
    """The charge by how long the film is: as the provider says, else as it was asked for."""
    written = _decode(orjson.dumps(job.settlement))
    asked = written.units.get("seconds", 0)
    said, source = status.seconds, UsageSource.PROVIDER_FINAL
    if said is None:
        said, source = asked, UsageSource.LOCAL_COUNT
    elif not 0 <= said <= asked + OTHER_UNITS_OVERHEAD:
        logger.warning("usage.quarantined", extra={"job": job.pk, "seconds": said})
        said, source = asked, UsageSource.RESERVE_BOUND
    price = Price.objects.filter(pk=written.price_id).first() if written.price_id is not None else None
    version = price.version if price is not None else None
    usage = Usage(units={"seconds": said}, input_tokens=0, output_tokens=0)
    units = charged_units(usage, version, service_tier="", moment=written.started_at)
    elapsed = dt.datetime.now(dt.UTC) - job.created_at
    is_kept = len(status.raw) <= KEPT_USAGE_BYTES and NUL not in status.raw
    return msgspec.structs.replace(
        written,
        units=units,
        cost_nano_usd=version.cost_nano_usd(units) if version is not None else 0,
        usage_source=source.value,
        ending=Ending.COMPLETED.value,
        provider_usage=msgspec.Raw(status.raw if is_kept else UNSTORABLE),
        latency_ms=int(elapsed.total_seconds() * 1000),
    )


async def _ended_without(gateway: Gateway, handler: DataPlaneHandler, *, job: Job, status: UpstreamStatus) -> None:
    """The provider has made nothing, which costs nothing."""
    over = {
        UpstreamState.CANCELLED: (JobStatus.CANCELLED, "request_cancelled", 499),
        UpstreamState.EXPIRED: (JobStatus.EXPIRED, "job_expired", 504),
    }
    state, code, number = over.get(status.state, (JobStatus.FAILED, status.code or "provider_error", 502))
    said = status.message or f"The provider's job has {status.state}."
    error = failure(code, said[:2000].replace("\0", ""), status=number)
    await _end(gateway, handler, job=job, end=_unpaid(job, state, error=error), status=number)


def _unpaid(job: Job, status: JobStatus, *, error: dict[str, Any]) -> End:
    fields = {
        "error": error if status != JobStatus.CANCELLED else None,
        "cost_nano_usd": 0,
        "cancel_upstream": job.cancel_upstream,
        "notes": _notes(job, error["code"]),
    }
    void = Void(attempt_id=str(job.attempt), failure=error["code"][:32])
    return End(status=status, message=error["message"], fields=fields, entry=void)


def _notes(job: Job, outcome: str) -> list[dict[str, Any]]:
    """The attempts, the last of which has ended like this."""
    notes = [dict(note) for note in job.notes]
    if notes:
        notes[-1]["outcome"] = outcome
    return notes


async def _end(gateway: Gateway, handler: DataPlaneHandler, *, job: Job, end: End, status: int = 502) -> None:
    if not await gateway.directory.query(lambda: rows.finish(job.pk, job.turn, end=end)):
        logger.warning("job.lost_meanwhile", extra={"job": job.pk, "status": end.status})
        return
    trace = Trace(job.pk, operation=job.operation, started_at=job.created_at, requested_model=job.requested_model)
    trace.started = time.perf_counter() - (dt.datetime.now(dt.UTC) - job.created_at).total_seconds()
    trace.caller = await gateway.directory.caller_of_key(job.api_key_id)
    trace.target = _target_of(gateway, job)
    trace.notes = msgspec.convert(end.fields["notes"], list[AttemptNote])
    trace.status = status
    trace.error_code = "" if end.status == JobStatus.COMPLETED else (end.fields.get("error") or {}).get("code", "")
    if end.status == JobStatus.CANCELLED:
        trace.error_code = "request_cancelled"
    if isinstance(end.entry, Settlement):
        trace.charged(Usage(units=dict(end.entry.units), input_tokens=0, output_tokens=0), end.entry.cost_nano_usd)
    handler.finish(trace)


async def _whole(response: UpstreamResponse) -> bytes:
    try:
        return await read_all(response)
    finally:
        response.close()
