"""From what a provider sent to what a call costs."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from billing.counting import counted_usage, with_call_fee
from billing.entries import Settlement
from billing.models import Ending, UsageSource
from billing.pricing import PriceVersion
from gateway.context import Call, Trace
from providers.types import Target, Usage

NO_USAGE = msgspec.Raw(b"{}")


class Outcome(NamedTuple):
    """What came of a call: how it ended, what the provider reported, how many bytes the model said."""

    ending: Ending
    usage: Usage | None
    output_bytes: int


def settlement(
    attempt_id: str,
    call: Call,
    *,
    trace: Trace,
    target: Target,
    price: PriceVersion | None,
    outcome: Outcome,
) -> Settlement:
    """Write the charge for a call that a provider answered, wholly or in part."""
    source, usage = UsageSource.PROVIDER_FINAL, outcome.usage
    if usage is None:
        source = UsageSource.LOCAL_COUNT
        usage = counted_usage(input_bytes=call.input_bytes, output_bytes=outcome.output_bytes)
    units = with_call_fee(usage.units, price)
    trace.usage = usage
    trace.cost_nano_usd = price.cost_nano_usd(units) if price is not None else None
    principal = call.caller.principal
    return Settlement(
        attempt_id=attempt_id,
        created_at=trace.started_at,
        request_id=call.request_id,
        tenant_id=principal.tenant_id,
        project_id=principal.project_id,
        api_key_id=principal.key_id,
        user=call.attribution.user,
        conversation=call.attribution.conversation,
        agent=call.attribution.agent,
        agent_type=call.attribution.agent_type,
        operation=call.operation,
        requested_model=call.requested_model,
        model_name=target.model_name,
        provider_name=target.provider_name,
        upstream_model=target.upstream_model,
        stream=call.wire.stream,
        ending=outcome.ending.value,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        units=units,
        provider_usage=msgspec.Raw(usage.raw) if usage.raw != b"{}" else NO_USAGE,
        usage_source=source.value,
        price_id=price.price_id if price is not None else None,
        cost_nano_usd=trace.cost_nano_usd or 0,
        latency_ms=trace.elapsed_ms(),
        first_content_ms=trace.first_content_ms,
    )
