"""Jobs as rows: taken up, moved on, ended. Each change is one transaction with its event, and the last with its
notification; whoever has lost a job meanwhile changes nothing."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec
from django.db import connection, transaction

from billing.entries import Settlement, Void
from billing.models import Attempt, UsageRecord
from billing.sql import POST_SETTLE, POST_VOID
from gateway.jobs.describing import thin
from gateway.jobs.models import ACTIVE, Job, JobEvent, JobStatus
from gateway.jobs.requests import sealed, unsealed
from gateway.media.storage import CROCKFORD
from tenants.notifications import notify

KEPT = dt.timedelta(hours=24)
"""How long a result is to be had."""

LONGEST_ACTIVE = dt.timedelta(days=7)
MOST_ACTIVE = 10_000
"""Of one tenant: what is more waits with the tenant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a job ends, and what is written into the ledger in the same moment."""

    status: JobStatus
    message: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    entry: Settlement | Void | None = None


def new_job_id() -> str:
    """`job_` and a ULID."""
    value = (int(time.time() * 1000) << 80) | int.from_bytes(os.urandom(10), "big")
    return "job_" + "".join(CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))


@transaction.atomic
def add(job: Job) -> bool:
    """Write a new job down; False where its tenant has as many under way as it may."""
    if Job.objects.filter(tenant_id=job.tenant_id, status__in=ACTIVE).count() >= MOST_ACTIVE:
        return False
    job.save(force_insert=True)
    _tell(job)
    job.save(update_fields=["events"])
    return True


@transaction.atomic
def take(process: UUID, *, most: int) -> list[Job]:
    """Take up what is due, at most so much, and keep everybody else from it. `turn` tells this from any later time."""
    moment = _now()
    due = Job.objects.filter(status__in=ACTIVE, process=None, next_at__lte=moment)
    taken = list(due.select_for_update(skip_locked=True).order_by("next_at")[:most])
    for job in taken:
        job.process, job.next_at = process, moment
        job.turn += 1
        if not job.upstream_id and job.status == JobStatus.QUEUED:
            job.status, job.started_at = JobStatus.IN_PROGRESS, job.started_at or moment
            job.runs += 1
            _tell(job)
    fields = ["process", "next_at", "turn", "status", "started_at", "runs", "events"]
    Job.objects.bulk_update(taken, fields)
    return taken


def something_is_due(within: dt.timedelta = dt.timedelta()) -> bool:
    """Whether somebody has to see to a job by then."""
    due = Job.objects.filter(status__in=ACTIVE, process=None, next_at__lte=_now() + within)
    return due.exists()


def to_cancel(process: UUID) -> list[tuple[int, str]]:
    """The calls this process makes that are to be broken off, by tenant and id."""
    asked = Job.objects.filter(process=process, status=JobStatus.CANCELLING, is_native=False)
    return list(asked.values_list("tenant_id", "id"))


@transaction.atomic
def hand_over(job: Job, *, fields: dict[str, Any], next_at: dt.datetime) -> bool:
    """The provider has it: from here on its attempt belongs to the job, whichever process sees to it."""
    row = _held(job.pk, job.turn)
    if row is None:
        return False
    for name, value in fields.items():
        setattr(row, name, value)
    row.next_at, row.process = (_now() if row.cancel_requested_at else next_at), None
    _tell(row, message=f"Taken up by {row.provider_name}")
    row.save()
    Attempt.objects.filter(pk=str(row.attempt)).update(process=None)
    return True


@transaction.atomic
def put_back(
    job_id: str, turn: int | None, *, next_at: dt.datetime, message: str = "", queued: bool = False, **fields: Any
) -> bool:
    """Have it seen to later, by whomever; `queued`: from its beginning."""
    row = _held(job_id, turn)
    if row is None:
        return False
    changed = row.progress != fields.get("progress", row.progress)
    for name, value in fields.items():
        setattr(row, name, value)
    row.process = None
    row.next_at = _now() if row.cancel_requested_at and not row.cancel_upstream else next_at
    if queued and row.status == JobStatus.IN_PROGRESS:
        row.status, changed = JobStatus.QUEUED, True
    if changed:
        _tell(row, message=message)
    row.save()
    return True


@transaction.atomic
def finish(job_id: str, turn: int | None, *, end: End) -> bool:
    """End a job: its charge, its last event and its tenant's notification are written together, once."""
    row = _held(job_id, turn)
    if row is None:
        return False
    for name, value in end.fields.items():
        setattr(row, name, value)
    moment = _now()
    row.status, row.ended_at, row.process = end.status, moment, None
    row.expires_at = moment + KEPT
    if end.status == JobStatus.COMPLETED:
        row.request, row.progress = "", 100 if row.is_native else None
    if row.deleted_at is not None:
        row.request = row.result = ""
    _tell(row, message=end.message)
    row.save()
    if end.entry is not None:
        statement = POST_SETTLE if isinstance(end.entry, Settlement) else POST_VOID
        with connection.cursor() as cursor:
            cursor.execute(statement, [_json([end.entry])])
    notify(row.tenant_id, f"job.{row.status}", key=row.pk, data=thin(row))
    return True


@transaction.atomic
def ask_to_cancel(tenant_id: int, job_id: str) -> Job | None:
    """Have a tenant's job end: one that nobody works on ends at once, of others whoever has it in hand hears. One that
    is over stays as it is. None where there is none."""
    row = Job.objects.select_for_update().filter(tenant_id=tenant_id, pk=job_id).first()
    if row is None or row.is_over:
        return row
    if row.cancel_requested_at is None:
        row.cancel_requested_at = _now()
        row.next_at = row.next_at if row.process else _now()
        if row.status == JobStatus.IN_PROGRESS:
            row.status = JobStatus.CANCELLING
            _tell(row, message="Asked to end")
        row.save()
    if row.status == JobStatus.QUEUED:
        finish(
            row.pk, None, end=End(status=JobStatus.CANCELLED, message="Nobody had begun", fields={"cost_nano_usd": 0})
        )
        row.refresh_from_db()
    return row


@transaction.atomic
def forget(tenant_id: int, job_id: str) -> Job | None:
    """Take a job away from its tenant, ending it if it goes on; the row stays for the books."""
    row = ask_to_cancel(tenant_id, job_id)
    if row is None or row.deleted_at is not None:
        return None
    row.deleted_at = _now()
    if row.is_over:
        row.request = row.result = ""
    row.save(update_fields=["deleted_at", "request", "result"])
    return row


@transaction.atomic
def retry(job_id: str) -> Job | None:
    """A new job of the request of one that did not end well; None where that is not kept any more.

    Raises `tenants.sealing.SealError`.
    """
    row = Job.objects.select_for_update().filter(pk=job_id).first()
    if row is None or not row.is_over or not row.request:
        return None
    moment = _now()
    again = Job(
        id=new_job_id(), tenant_id=row.tenant_id, api_key_id=row.api_key_id, request_id=row.request_id,
        operation=row.operation, endpoint=row.endpoint, requested_model=row.requested_model, is_native=row.is_native,
        created_at=moment, next_at=moment, expires_at=moment + LONGEST_ACTIVE, parameters=row.parameters,
        retry_of=row.pk,
    )  # fmt: skip
    asked = unsealed(row.request, job_id=row.pk, tenant_id=row.tenant_id)
    again.request = sealed(asked, job_id=again.pk, tenant_id=row.tenant_id)
    return again if add(again) else None


def charged(job: Job) -> int | None:
    """What the ledger has of a job in nano-USD; None for nothing."""
    charges = UsageRecord.objects.filter(tenant_id=job.tenant_id, request_id=job.pk)
    found = list(charges.values_list("cost_nano_usd", flat=True))
    return sum(found) if found else None


def _held(job_id: str, turn: int | None) -> Job | None:
    """The row, if it may still be changed by whoever took it up then."""
    row = Job.objects.select_for_update().filter(pk=job_id, status__in=ACTIVE).first()
    return row if row is not None and turn in (None, row.turn) else None


def _tell(job: Job, *, message: str = "") -> None:
    """Write down where it is now. The caller saves `events`."""
    job.events += 1
    JobEvent.objects.create(
        job=job, number=job.events, at=_now(), status=job.status, message=message[:500], progress=job.progress
    )


def _json(rows: Iterable[Settlement | Void]) -> str:
    return _encode(list(rows)).decode()


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


_encode = msgspec.json.encode
