"""Jobs whose worker has died, and jobs that nobody will ask for any more."""

from __future__ import annotations

import datetime as dt
import logging
from uuid import UUID

from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from billing.models import Attempt, AttemptState, GatewayProcess
from billing.sweeper import UNKNOWN_AFTER
from gateway.jobs.models import ACTIVE, FINAL, Job, JobStatus
from gateway.jobs.results import failure
from gateway.jobs.rows import End, charged, finish, put_back

logger = logging.getLogger(__name__)

AT_ONCE = 500
MOST_RUNS = 5
"""A call whose worker dies this often is what kills it."""

ROWS_KEPT = dt.timedelta(days=90)
PURGED_AT_ONCE = 1000


def take_back(dead_after_seconds: float) -> int:
    """See to the jobs of dead workers, once a sweep has ended what those had open; returns how many.

    One whose call had cost something has failed: to make it again would be to pay twice. All others are begun again,
    or asked after again where a provider works on them.
    """
    silence = dt.timedelta(seconds=UNKNOWN_AFTER * dead_after_seconds)
    living = GatewayProcess.objects.filter(pk=OuterRef("process"), beat_at__gte=Now() - silence)
    unpaid = Attempt.objects.filter(request_id=OuterRef("pk"), state=AttemptState.OPEN, process__isnull=False)
    held = Job.objects.filter(status__in=ACTIVE, process__isnull=False, next_at__lt=Now() - silence)
    seen_to = sum(map(_take_back, held.exclude(Exists(living)).exclude(Exists(unpaid))[:AT_ONCE]))
    if seen_to:
        logger.warning("job.taken_back", extra={"jobs": seen_to})
    return seen_to


def take_back_own(process: UUID, *, running: list[str]) -> int:
    """See likewise to the jobs that a living process holds and knows nothing of: the database was away when it was
    given them, or when it wanted to write what came of them."""
    unpaid = Attempt.objects.filter(request_id=OuterRef("pk"), state=AttemptState.OPEN, process__isnull=False)
    held = Job.objects.filter(status__in=ACTIVE, process=process).exclude(pk__in=running).exclude(Exists(unpaid))
    return sum(map(_take_back, held[:AT_ONCE]))


def _take_back(job: Job) -> bool:
    cost = charged(job)
    if not job.upstream_id and (cost is not None or job.runs >= MOST_RUNS):
        message = "The worker died while the provider answered; the call is not made again, so as not to be paid twice."
        fields = {"error": failure("worker_lost", message, status=500), "cost_nano_usd": cost or 0}
        return finish(job.pk, job.turn, end=End(status=JobStatus.FAILED, message=message, fields=fields))
    now = dt.datetime.now(dt.UTC)
    return put_back(job.pk, job.turn, next_at=now, message="Its worker died", queued=not job.upstream_id)


def purge() -> int:
    """Forget requests and results that have expired, and rows long after that; returns how many were changed."""
    now = dt.datetime.now(dt.UTC)
    over = Job.objects.filter(status__in=FINAL, expires_at__lt=now)
    forgotten = over.exclude(request="", result="").update(request="", result="")
    stuck = Job.objects.filter(status__in=ACTIVE, process=None, upstream_id="", expires_at__lt=now)
    for job in stuck[:PURGED_AT_ONCE]:
        error = failure("job_expired", "Nobody could work on it in time.", status=504)
        forgotten += finish(job.pk, job.turn, end=End(status=JobStatus.EXPIRED, fields={"error": error}))
    old = Job.objects.filter(Q(status__in=FINAL), created_at__lt=now - ROWS_KEPT)
    while ids := list(old.values_list("pk", flat=True)[:PURGED_AT_ONCE]):
        Job.objects.filter(pk__in=ids).delete()
        forgotten += len(ids)
    return forgotten
