"""One request as it is told to whoever may know: what was considered, what was tried, what each part cost."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from billing.explanations import explain, tier_words
from billing.models import Adjustment, Attempt, UsageRecord
from billing.money import usd
from gateway.models import RequestRecord

MOST_ATTEMPTS = 50
"""Of one request there are a few; a client may give one id to any number of requests, one after the other."""

CLOCK_SLACK = dt.timedelta(milliseconds=50)
"""How much longer than its latency a request may seem to have taken: latency is measured by another clock."""


@dataclass(frozen=True, kw_only=True)
class AttemptStory:
    """One attempt: as the log tells it, as the ledger knows it, and its charge. The ledger's row may be yet to come."""

    attempt_id: UUID
    note: dict[str, Any]
    """`gateway.context.AttemptNote`; empty while the request is under way."""
    attempt: Attempt | None = None
    charge: UsageRecord | None = None
    adjusted_nano_usd: int = 0

    @property
    def cost_nano_usd(self) -> int:
        """What was charged, adjustments included; 0 for a model without a price."""
        return (self.charge.cost_nano_usd if self.charge else 0) + self.adjusted_nano_usd


@dataclass(frozen=True, kw_only=True)
class RequestStory:
    """A request with its attempts, in the order they were made."""

    request_id: str
    record: RequestRecord | None
    """None while it is under way, and after the log's days."""
    attempts: list[AttemptStory] = field(default_factory=list)

    @property
    def cost_nano_usd(self) -> int:
        """What all its attempts were charged."""
        return sum(attempt.cost_nano_usd for attempt in self.attempts)


def find_request(tenant_id: int, request_id: str) -> RequestStory | None:
    """The newest request of a tenant with this id, or None. Four queries.

    The ledger knows of a call as soon as it is made, the log half a second after its answer.
    """
    record = RequestRecord.objects.filter(tenant_id=tenant_id, request_id=request_id).order_by("-created_at").first()
    story = _told(tenant_id, request_id, record=record)
    return story if record is not None or story.attempts else None


def story_of(record: RequestRecord) -> RequestStory:
    """What the ledger knows of a request on the log. Three queries."""
    return _told(record.tenant_id, record.request_id, record=record)


def _told(tenant_id: int, request_id: str, *, record: RequestRecord | None) -> RequestStory:
    made = Attempt.objects.filter(tenant_id=tenant_id, request_id=request_id).order_by("-created_at", "-pk")
    if record is not None:
        until = record.created_at + dt.timedelta(milliseconds=record.latency_ms) + CLOCK_SLACK
        made = made.filter(created_at__gte=record.created_at, created_at__lte=until)
    attempts = {row.pk: row for row in reversed(made[:MOST_ATTEMPTS])}
    notes = {UUID(note["attempt"]): note for note in record.attempts} if record is not None else {}
    ids = list(dict.fromkeys([*notes, *attempts]))
    charges = {row.pk: row for row in UsageRecord.objects.filter(pk__in=ids).select_related("price", "project")}
    adjusted = _adjusted(ids)
    told = [
        AttemptStory(
            attempt_id=attempt_id,
            note=notes.get(attempt_id, {}),
            attempt=attempts.get(attempt_id),
            charge=charges.get(attempt_id),
            adjusted_nano_usd=adjusted.get(attempt_id, 0),
        )
        for attempt_id in ids
    ]
    return RequestStory(request_id=request_id, record=record, attempts=told)


def _adjusted(ids: Iterable[UUID]) -> dict[UUID, int]:
    sums: dict[UUID, int] = {}
    for attempt_id, amount in Adjustment.objects.filter(attempt_id__in=ids).values_list(
        "attempt_id", "amount_nano_usd"
    ):
        sums[attempt_id] = sums.get(attempt_id, 0) + amount
    return sums


def describe_request(tenant_id: int, request_id: str) -> dict[str, Any] | None:
    """`find_request` as `GET /v1/requests/{id}` answers it."""
    story = find_request(tenant_id, request_id)
    if story is None:
        return None
    return {
        "id": request_id,
        "object": "request",
        **_facts(story.record),
        "attempts": [_attempt(attempt) for attempt in story.attempts],
        "cost_usd": usd(story.cost_nano_usd),
    }


def _facts(record: RequestRecord | None) -> dict[str, Any]:
    if record is None:
        return {"status": None, "skipped": [], "hooks": []}
    return {
        "status": record.status,
        "error_code": record.error_code or None,
        "created_at": record.created_at.isoformat(),
        "operation": record.operation,
        "requested_model": record.requested_model,
        "stream": record.stream,
        "latency_ms": record.latency_ms,
        "first_content_ms": record.first_content_ms,
        "upstream_ms": record.upstream_ms,
        "replay_of": record.replay_of or None,
        "skipped": [{"candidate": candidate, "reason": reason} for candidate, reason in record.skipped],
        "hooks": record.hooks,
    }


def _attempt(told: AttemptStory) -> dict[str, Any]:
    note, attempt = told.note, told.attempt
    return {
        "id": str(told.attempt_id),
        "model": attempt.model_name if attempt else note["model"],
        "provider": attempt.provider_name if attempt else note["provider"],
        "outcome": note.get("outcome"),
        "message": note.get("message") or None,
        "started_ms": note.get("started_ms"),
        "elapsed_ms": note.get("elapsed_ms"),
        "state": attempt.state if attempt else None,
        "failure": (attempt.failure or None) if attempt else None,
        "reserved_usd": usd(attempt.reserved_nano_usd) if attempt else None,
        "charge": _charge(told.charge, told) if told.charge else None,
    }


def _charge(charge: UsageRecord, told: AttemptStory) -> dict[str, Any]:
    priced = charge.price is not None
    return {
        "cost_usd": usd(charge.cost_nano_usd) if priced else None,
        "adjusted_usd": usd(told.adjusted_nano_usd),
        "ending": charge.ending,
        "usage_source": charge.usage_source,
        "units": charge.units,
        "formula": [line._asdict() for line in explain(charge.price.version, charge.units)] if charge.price else None,
        "rates": tier_words(charge.price.version, charge.units) if charge.price else None,
    }
