"""From a call to its events: begun, gone on elsewhere, and how it ended."""

from __future__ import annotations

import datetime as dt

import msgspec

from gateway.context import AttemptNote, Call, Trace

BLOCKED = frozenset(
    {
        "budget_exceeded", "key_revoked", "model_not_approved", "permission_denied", "policy", "price_unknown",
        "rate_limited", "request_blocked", "response_blocked", "tenant_suspended",
    }
)  # fmt: skip
"""Error codes by which a rule of the tenant's or the platform's stopped a call."""

CANCELLED = frozenset({"client_left", "request_cancelled", "server_stopped"})


class Started(msgspec.Struct, kw_only=True, gc=False):
    """What was asked for, and for whom. No text of the call."""

    operation: str
    requested_model: str
    stream: bool
    user: str
    conversation: str
    agent: str
    agent_type: str


class Fallback(msgspec.Struct, kw_only=True, gc=False):
    """Who was left, why, and who was asked instead."""

    left_model: str
    left_provider: str
    failure: str
    model: str
    provider: str


class Ended(msgspec.Struct, kw_only=True, gc=False):
    """What came of it. `model` and `provider` are those asked last, empty when nobody was."""

    operation: str
    requested_model: str
    stream: bool
    status: int
    error_code: str
    model: str
    provider: str
    attempts: int
    latency_ms: int
    input_tokens: int | None
    output_tokens: int | None
    cost_nano_usd: int | None
    replay_of: str
    text_sha256: str
    """Of the sealed prompt and answer, where the tenant keeps them; else empty."""


class Refused(msgspec.Struct, kw_only=True, gc=False):
    """Why a key was refused, and how often."""

    error_code: str
    message: str
    endpoint: str
    calls: int
    origins: int
    """How many addresses or keys these calls came from."""


class EventRow(msgspec.Struct, kw_only=True, gc=False):
    """An event as `audit_append` takes it; without a tenant it is the platform's."""

    tenant_id: int | None
    happened_at: dt.datetime
    event: str
    actor_kind: str = "key"
    actor_id: int | None
    actor: str
    address: str = ""
    object_type: str = "request"
    object_id: str
    object_name: str
    data: Started | Fallback | Ended | Refused


def started(call: Call, trace: Trace) -> EventRow:
    """A call is going to be answered."""
    data = Started(
        operation=call.operation,
        requested_model=call.requested_model[:200],
        stream=call.wire.stream,
        user=call.attribution.user,
        conversation=call.attribution.conversation,
        agent=call.attribution.agent,
        agent_type=call.attribution.agent_type,
    )
    return _row("request.started", trace, at=trace.started_at, data=data)


def ended(trace: Trace, *, text_sha256: str = "") -> list[EventRow]:
    """A call of a tenant's is over: where it went on elsewhere, and its end."""
    rows = [_fallback(trace, left=left, taken=taken) for left, taken in zip(trace.notes, trace.notes[1:], strict=False)]
    elapsed_ms = trace.elapsed_ms()
    last = trace.notes[-1] if trace.notes else None
    data = Ended(
        operation=trace.operation,
        requested_model=trace.requested_model[:200],
        stream=trace.stream,
        status=trace.status,
        error_code=trace.error_code,
        model=last.model if last else "",
        provider=last.provider if last else "",
        attempts=len(trace.notes),
        latency_ms=elapsed_ms,
        input_tokens=trace.usage.input_tokens if trace.usage else None,
        output_tokens=trace.usage.output_tokens if trace.usage else None,
        cost_nano_usd=trace.cost_nano_usd,
        replay_of=trace.replay_of,
        text_sha256=text_sha256,
    )
    at = trace.started_at + dt.timedelta(milliseconds=elapsed_ms)
    rows.append(_row(_end_of(trace), trace, at=at, data=data))
    return rows


def _end_of(trace: Trace) -> str:
    if not trace.error_code:
        return "request.completed"
    if trace.error_code in CANCELLED:
        return "request.cancelled"
    return "request.blocked" if trace.error_code in BLOCKED else "request.failed"


def _fallback(trace: Trace, *, left: AttemptNote, taken: AttemptNote) -> EventRow:
    """From one attempt to the next; at the same deployment it is a retry."""
    data = Fallback(
        left_model=left.model,
        left_provider=left.provider,
        failure=left.outcome,
        model=taken.model,
        provider=taken.provider,
    )
    at = trace.started_at + dt.timedelta(milliseconds=taken.started_ms)
    event = "request.retried" if left.deployment == taken.deployment else "request.fallback"
    return _row(event, trace, at=at, data=data)


def _row(event: str, trace: Trace, *, at: dt.datetime, data: Started | Fallback | Ended) -> EventRow:
    assert trace.caller is not None
    principal = trace.caller.principal
    return EventRow(
        tenant_id=principal.tenant_id,
        happened_at=at,
        event=event,
        actor_id=principal.key_id,
        actor=principal.key_name,
        object_id=trace.request_id,
        object_name=trace.requested_model[:200],
        data=data,
    )
