"""Feeding the audit sinks from the chains: in order, each event once or, after a failure, again, and none left out.

A cursor for each sink and chain says what it has. A sink that is away catches up when it is back, so an auditor's copy
outlives whatever happens to the database: each record has its place and digest.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Q

from gateway.audit.sinks import Record, Sink, SinkError, SinkSettings, build_sinks
from gateway.models import SinkCursor
from providers.sole_run import SoleWork, sole_run
from providers.transport import Transport
from tenants.models import PLATFORM, AuditEvent

logger = logging.getLogger(__name__)

AT_ONCE = 500
MOST_IN_A_RUN = 50_000
"""Then the next run goes on: one that takes minutes would look dead."""

BEHIND = """
SELECT head.chain, coalesce(reached.sequence, head.base_sequence)
FROM tenants_auditchain head LEFT JOIN gateway_sinkcursor reached ON reached.chain = head.chain AND reached.sink = %s
WHERE head.sequence > coalesce(reached.sequence, 0) ORDER BY head.appended_at
"""


def audit_sinks() -> list[Sink]:
    """What AUDIT_SINKS names besides the database."""
    where = SinkSettings(
        webhook_url=settings.SINK_WEBHOOK_URL,
        webhook_secret=settings.SINK_WEBHOOK_SECRET,
        otlp_url=settings.SINK_OTLP_URL,
        otlp_token=settings.SINK_OTLP_TOKEN,
    )
    return build_sinks(settings.AUDIT_SINKS, where, of="audit")


def send_events(sinks: Iterable[Sink]) -> int:
    """Send every sink what it does not have; returns how many events left. One run at a time."""
    with sole_run(SoleWork.AUDIT_SINKS) as is_ours:
        return sum(_feed(sink) for sink in sinks) if is_ours else 0


def _feed(sink: Sink) -> int:
    sent = 0
    with connection.cursor() as cursor:
        cursor.execute(BEHIND, [sink.name])
        behind = cursor.fetchall()
    for chain, sequence in behind:
        while sent < MOST_IN_A_RUN and (events := _events_after(chain, sequence)):
            try:
                _send(sink, [as_record(event) for event in events])
            except SinkError as error:
                logger.warning("audit.sink_failed", extra={"sink": sink.name, "reason": str(error)})
                return sent
            sequence = events[-1].sequence
            SinkCursor.objects.update_or_create(sink=sink.name, chain=chain, defaults={"sequence": sequence})
            sent += len(events)
    return sent


def _events_after(chain: int, sequence: int) -> list[AuditEvent]:
    """The next events of a chain; found by their time, which has an index, from the last one that was sent."""
    events = AuditEvent.objects.filter(Q(tenant=None) if chain == PLATFORM else Q(tenant=chain))
    last = events.filter(sequence=sequence).order_by("-created_at").first() if sequence else None
    after = events.filter(created_at__gte=last.created_at) if last is not None else events
    return list(after.filter(sequence__gt=sequence).order_by("created_at", "id")[:AT_ONCE])


def _send(sink: Sink, records: Sequence[Record]) -> None:
    asyncio.run(_send_once(sink, records))


async def _send_once(sink: Sink, records: Sequence[Record]) -> None:
    transport = Transport()
    try:
        await sink.send(records, transport=transport)
    finally:
        await transport.close()


def as_record(event: AuditEvent) -> dict[str, Any]:
    """An event as it leaves."""
    return {
        "time": event.happened_at.isoformat(),
        "time_unix_us": (event.happened_at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1),
        "event": event.event,
        "chain": event.chain,
        "sequence": event.sequence,
        "digest": event.digest,
        "tenant_id": event.tenant_id,
        "actor_kind": event.actor_kind,
        "actor_id": event.actor_id,
        "actor": event.actor,
        "address": event.address,
        "object_type": event.object_type,
        "object_id": event.object_id,
        "object_name": event.object_name,
        "details": event.details,
    }
