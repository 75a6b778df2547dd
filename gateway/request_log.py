"""Why each request went where it went: one row for each call of a tenant's, written after its answer, in batches.

Nothing waits for it and no money depends on it: while the database is away rows are kept up to a bound, then dropped
and counted. What a call cost is in the ledger; here is what was considered, skipped and tried.
"""

from __future__ import annotations

import datetime as dt
import logging

import msgspec
from django.utils import timezone

from gateway.batched_rows import USUAL, BatchedRows, Bounds
from gateway.context import AttemptNote, Decision, HookNote, Trace
from gateway.models import RequestRecord

logger = logging.getLogger(__name__)

SKIPPED_KEPT = 100
"""Of the candidates of one request: a group may have any number of members."""

PURGE_BATCH = 5000

INSERT = """
INSERT INTO gateway_requestrecord (tenant_id, request_id, created_at, api_key_id, operation, requested_model, status,
    error_code, stream, latency_ms, first_content_ms, upstream_ms, replay_of, model_name, provider_name, fallback,
    cache, decision, skipped, attempts, hooks)
SELECT tenant_id, request_id, created_at, api_key_id, operation, requested_model, status, error_code, stream,
    latency_ms, first_content_ms, upstream_ms, replay_of, model_name, provider_name, fallback, cache, decision, skipped,
    attempts, hooks
FROM jsonb_to_recordset($1::jsonb) AS row(tenant_id bigint, request_id text, created_at timestamptz, api_key_id bigint,
    operation text, requested_model text, status smallint, error_code text, stream boolean, latency_ms integer,
    first_content_ms integer, upstream_ms integer, replay_of text, model_name text,
    provider_name text, fallback boolean, cache text, decision jsonb, skipped jsonb, attempts jsonb, hooks jsonb)
"""


class _Row(msgspec.Struct, kw_only=True, gc=False):
    tenant_id: int
    request_id: str
    created_at: dt.datetime
    api_key_id: int
    operation: str
    requested_model: str
    status: int
    error_code: str
    stream: bool
    latency_ms: int
    first_content_ms: int | None
    upstream_ms: int
    replay_of: str
    model_name: str
    provider_name: str
    fallback: bool
    cache: str
    decision: Decision
    skipped: list[tuple[str, str]]
    attempts: list[AttemptNote]
    hooks: list[HookNote]


class RequestLog(BatchedRows[_Row]):
    """Collects rows and writes them."""

    waits_for_disk = False

    def __init__(self, conninfo: str, *, enabled: bool, bounds: Bounds = USUAL) -> None:
        super().__init__(conninfo, INSERT, application_name="bursar-requests", bounds=bounds)
        self._enabled = enabled

    def _say_repeated(self, reason: str) -> None:
        logger.warning("request_log.write_repeated", extra={"reason": reason})

    def _say_dropped(self, rows: int) -> None:
        logger.warning("request_log.rows_dropped", extra={"rows": rows})

    def _say_refused(self, rows: int, reason: str) -> None:
        logger.error("request_log.rows_refused", extra={"rows": rows, "reason": reason})

    def add(self, trace: Trace) -> None:
        """Put a call that is over on the log. What is no call of a tenant's is not."""
        if trace.caller is None or not trace.operation or not self._enabled:
            return
        principal = trace.caller.principal
        self._put(
            _Row(
                tenant_id=principal.tenant_id,
                request_id=trace.request_id,
                created_at=trace.started_at,
                api_key_id=principal.key_id,
                operation=trace.operation,
                requested_model=trace.requested_model[:200],
                status=trace.status,
                error_code=trace.error_code,
                stream=trace.stream,
                latency_ms=trace.elapsed_ms(),
                first_content_ms=trace.first_content_ms,
                upstream_ms=int(trace.upstream_seconds * 1000),
                replay_of=trace.replay_of,
                model_name=(trace.target.model_name if trace.target else trace.requested_model)[:200],
                provider_name=trace.target.provider_name if trace.target else "",
                fallback=trace.deployments_asked > 1,
                cache=trace.cache,
                decision=trace.ranking.decision(at_most=SKIPPED_KEPT) if trace.ranking else Decision(),
                skipped=trace.skipped[:SKIPPED_KEPT],
                attempts=trace.notes,
                hooks=trace.hooks,
            )
        )


def purge_requests(days: int, *, batch: int = PURGE_BATCH) -> int:
    """Delete the rows that are older than so many days, some at a time; returns how many."""
    oldest_kept = timezone.now() - dt.timedelta(days=days)
    expired = RequestRecord.objects.filter(created_at__lt=oldest_kept).order_by("created_at")
    purged = 0
    while ids := list(expired.values_list("pk", flat=True)[:batch]):
        purged += RequestRecord.objects.filter(pk__in=ids).delete()[0]
    return purged
