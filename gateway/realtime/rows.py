"""Sessions as rows: written when they begin and end, read by whoever asks, and closed for processes that died."""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from billing.models import Attempt, AttemptState, GatewayProcess, UsageRecord, UsageSource
from billing.money import usd
from billing.sweeper import UNKNOWN_AFTER
from gateway.context import Call
from gateway.realtime.closing import INPUTS, OUTPUTS
from gateway.realtime.models import RealtimeSession, SessionReason
from providers.types import Target
from tenants.notifications import notify

logger = logging.getLogger(__name__)

EVENT = "realtime.session.closed"
MOST_LISTED = 100
LOST_AT_ONCE = 500


def open_row(call: Call, target: Target, *, process: UUID, opened_at: dt.datetime) -> None:
    """Write down that a session has begun. One query."""
    RealtimeSession.objects.create(
        id=call.request_id,
        tenant_id=call.caller.principal.tenant_id,
        api_key_id=call.caller.principal.key_id,
        user=call.attribution.user,
        conversation=call.attribution.conversation,
        requested_model=call.requested_model,
        model_name=target.model_name,
        provider_name=target.provider_name,
        process=process,
        opened_at=opened_at,
    )


@transaction.atomic
def close_row(
    session_id: str, *, reason: SessionReason, close_code: int | None, usage: dict[str, Any], cost_nano_usd: int
) -> bool:
    """Write down that a session has ended, and have its tenant told; False when it has ended already."""
    row = RealtimeSession.objects.select_for_update().filter(pk=session_id, closed_at=None).first()
    if row is None:
        return False
    row.closed_at = dt.datetime.now(dt.UTC)
    row.reason, row.close_code, row.usage, row.cost_nano_usd = reason, close_code, usage, cost_nano_usd
    row.save(update_fields=["closed_at", "reason", "close_code", "usage", "cost_nano_usd"])
    notify(row.tenant_id, EVENT, key=session_id, data=describe(row))
    return True


def describe(row: RealtimeSession) -> dict[str, Any]:
    """A session as the API and webhooks tell it. A session that goes on tells what the ledger has of it by now."""
    is_open = row.closed_at is None
    return {
        "id": row.pk,
        "object": "realtime.session",
        "status": "open" if is_open else "closed",
        "model": row.requested_model,
        "served_by": {"model": row.model_name, "provider": row.provider_name},
        "user": row.user or None,
        "conversation": row.conversation or None,
        "opened_at": row.opened_at.isoformat(),
        "closed_at": row.closed_at.isoformat() if row.closed_at is not None else None,
        "reason": row.reason or None,
        "close_code": row.close_code,
        "usage": summary_of_charges(row) if is_open else row.usage,
    }


def find_session(tenant_id: int, session_id: str) -> dict[str, Any] | None:
    """A tenant's session; None for another tenant's as for one that never was."""
    row = RealtimeSession.objects.filter(tenant_id=tenant_id, pk=session_id).first()
    return describe(row) if row is not None else None


def list_sessions(tenant_id: int, *, limit: int, after: str | None) -> list[dict[str, Any]]:
    """A tenant's newest sessions, or those before one of them."""
    rows = RealtimeSession.objects.filter(tenant_id=tenant_id)
    if after is not None:
        last = RealtimeSession.objects.filter(tenant_id=tenant_id, pk=after).values_list("opened_at", flat=True).first()
        rows = rows.filter(opened_at__lt=last) if last is not None else rows.none()
    return [describe(row) for row in rows.order_by("-opened_at", "-id")[:limit]]


def summary_of_charges(row: RealtimeSession) -> dict[str, Any]:
    """The summary of a session from the ledger alone: for one that nobody could sum up, and while it goes on."""
    charges = list(UsageRecord.objects.filter(request_id=row.pk, tenant_id=row.tenant_id))
    units: dict[str, int] = {}
    transcribed: dict[str, int] = {}
    for charge in charges:
        into = units if charge.model_name == row.model_name else transcribed
        for unit, count in charge.units.items():
            into[unit] = into.get(unit, 0) + count
    sources = list(UsageSource.values)
    ended = row.closed_at or dt.datetime.now(dt.UTC)
    return {
        "seconds": int((ended - row.opened_at).total_seconds()),
        "responses": sum(charge.model_name == row.model_name for charge in charges),
        "input": {name: units.get(unit, 0) for name, unit in INPUTS.items()},
        "output": {name: units.get(unit, 0) for name, unit in OUTPUTS.items()},
        "transcription": transcribed,
        "cost": usd(sum(charge.cost_nano_usd for charge in charges)),
        "currency": "USD",
        "usage_source": max((charge.usage_source for charge in charges), key=sources.index, default=sources[0]),
    }


def close_lost(dead_after_seconds: float) -> int:
    """Close the sessions whose process has died, once a sweep has ended what they had open; returns how many."""
    heard_since = Now() - dt.timedelta(seconds=UNKNOWN_AFTER * dead_after_seconds)
    living = GatewayProcess.objects.filter(pk=OuterRef("process"), beat_at__gte=heard_since)
    unpaid = Attempt.objects.filter(request_id=OuterRef("pk"), state=AttemptState.OPEN)
    lost = RealtimeSession.objects.filter(closed_at=None).exclude(Exists(living)).exclude(Exists(unpaid))
    closed = 0
    for row in lost.order_by("opened_at")[:LOST_AT_ONCE]:
        usage = summary_of_charges(row)
        charges = UsageRecord.objects.filter(request_id=row.pk, tenant_id=row.tenant_id)
        cost = sum(charges.values_list("cost_nano_usd", flat=True))
        closed += close_row(row.pk, reason=SessionReason.GATEWAY_LOST, close_code=None, usage=usage, cost_nano_usd=cost)
    if closed:
        logger.warning("realtime.sessions_lost", extra={"sessions": closed})
    return closed
