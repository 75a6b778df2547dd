"""A call that was answered from the cache, in the books: an attempt that held nothing, and a charge of 0.

The answer does not wait for it, and no budget is asked. A process that dies in between leaves an open attempt without a
dispatch, which the sweep voids.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import TYPE_CHECKING

import msgspec

from billing.entries import Reservation, Settlement, new_attempt_id
from billing.errors import LedgerUnavailableError
from billing.models import Ending, UsageSource
from gateway.caching.entries import Entry
from gateway.context import AttemptNote, Call, Trace
from providers.types import Target

if TYPE_CHECKING:
    from gateway.runtime import Gateway

logger = logging.getLogger(__name__)


class Hit(msgspec.Struct, frozen=True):
    """What the charge keeps in the place of a provider's usage object."""

    cached_answer_of: str
    saved_nano_usd: int | None


def note_hit(call: Call, trace: Trace, *, entry: Entry, target: Target) -> str:
    """Say in the trace that the answer was there; returns the attempt's id."""
    attempt_id = new_attempt_id()
    trace.target = target
    trace.cost_nano_usd = 0
    trace.replay_of = entry.request_id
    if call.wire.stream:
        trace.first_content_ms = trace.elapsed_ms()
    trace.notes.append(
        AttemptNote(
            attempt=attempt_id,
            deployment=target.deployment_id,
            model=target.model_name,
            provider=target.provider_name,
            outcome="answered from the cache",
            started_ms=trace.elapsed_ms(),
            elapsed_ms=0,
        )
    )
    return attempt_id


async def post_hit(
    gateway: Gateway, call: Call, *, attempt_id: str, trace: Trace, entry: Entry, target: Target
) -> None:
    """Write the attempt and its charge of 0."""
    ledger = gateway.ledger
    reservation = _reservation(call, attempt_id, target=target)
    try:
        try:
            await ledger.reserve(reservation)
        except LedgerUnavailableError:
            await ledger.put_aside(reservation)
    except LedgerUnavailableError as error:
        logger.warning("response_cache.hit_unposted", extra={"request_id": call.request_id, "reason": str(error)})
        return
    ledger.settle(_settlement(gateway, call, attempt_id=attempt_id, trace=trace, entry=entry, target=target))


def _reservation(call: Call, attempt_id: str, *, target: Target) -> Reservation:
    principal = call.caller.principal
    return Reservation(
        id=attempt_id,
        request_id=call.request_id,
        tenant_id=principal.tenant_id,
        api_key_id=principal.key_id,
        deployment_id=target.deployment_id,
        operation=call.operation,
        model_name=target.model_name,
        provider_name=target.provider_name,
        created_at=dt.datetime.now(dt.UTC),
    )


def _settlement(
    gateway: Gateway, call: Call, *, attempt_id: str, trace: Trace, entry: Entry, target: Target
) -> Settlement:
    """No tokens: none were used. What they were is with the request that paid for them."""
    principal, attribution = call.caller.principal, call.attribution
    price = gateway.directory.prices.at(target.model_id, trace.started_at)
    return Settlement(
        attempt_id=attempt_id,
        started_at=trace.started_at,
        request_id=call.request_id,
        tenant_id=principal.tenant_id,
        project_id=principal.project_id,
        api_key_id=principal.key_id,
        user=attribution.user,
        conversation=attribution.conversation,
        agent=attribution.agent,
        agent_type=attribution.agent_type,
        operation=call.operation,
        requested_model=call.requested_model,
        model_name=target.model_name,
        provider_name=target.provider_name,
        upstream_model=target.upstream_model,
        stream=call.wire.stream,
        ending=Ending.COMPLETED.value,
        input_tokens=0,
        output_tokens=0,
        cache_read_tokens=0,
        cache_write_tokens=0,
        reasoning_tokens=0,
        units={},
        provider_usage=msgspec.Raw(msgspec.json.encode(Hit(entry.request_id, entry.cost_nano_usd))),
        usage_source=UsageSource.CACHE.value,
        price_id=price.price_id if price is not None else None,
        cost_nano_usd=0,
        latency_ms=trace.elapsed_ms(),
        first_content_ms=trace.first_content_ms,
    )
