"""From what a provider sent to what a call costs.

The charge takes the best source there is: what the provider reported at its end, what it had reported before it was cut
off, what the gateway counted. Usage that cannot be true is quarantined: the call is charged by the bound that was held
for it, and the row keeps the provider's words and the reason.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from billing.counting import charged_units, counted_usage
from billing.entries import Settlement
from billing.estimates import bound_units, input_token_bound
from billing.models import Ending, UsageSource
from billing.plausibility import (
    INPUT_OVERHEAD_TOKENS,
    OUTPUT_OVERHEAD_TOKENS,
    REASONING_WHEN_UNKNOWN_TOKENS,
    UNBOUNDED_TOKENS,
    UsageBound,
)
from billing.pricing import PriceVersion
from gateway.context import Call, Trace
from gateway.reservation import output_limit
from providers.types import Target, Usage

logger = logging.getLogger(__name__)

NO_USAGE = msgspec.Raw(b"{}")
KEPT_USAGE_BYTES = 8 * 1024
"""A provider's own usage object is kept up to this size; the longest honest one is under 2 KiB."""

OTHER_UNITS_OVERHEAD = 60
"""Vendors round seconds up, some of them to a minute."""

COUNTED_BY_BYTES = frozenset({"chat", "stream", "tools", "json_schema", "embeddings", "reasoning"})
"""A call that needs nothing beyond these has no more tokens in than bytes."""


class Outcome(NamedTuple):
    """What came of a call: when its attempt began, how it ended, what the provider reported (and whether that was its
    last word), how many bytes the model said, which output limit was held for it, and its share of what it and others
    cost, if it was answered together with them."""

    started_at: dt.datetime
    ending: Ending
    usage: Usage | None
    usage_is_final: bool
    output_bytes: int
    granted: int | None
    counted: Mapping[str, int]
    """Billable units that were seen in the answer."""
    share_nano_usd: int | None = None


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
    source, usage = charged_usage(call, target, price=price, outcome=outcome)
    if source is not UsageSource.RESERVE_BOUND:
        usage = _with_other_units(usage, call, outcome=outcome)
    units = charged_units(usage, price, service_tier=call.service_tier, moment=outcome.started_at)
    cost_nano_usd = price.cost_nano_usd(units) if price is not None else None
    if outcome.share_nano_usd is not None and source is UsageSource.PROVIDER_FINAL:
        cost_nano_usd = outcome.share_nano_usd  # within a nano-USD of the above: together they are rounded once
    trace.charged(usage, cost_nano_usd)
    principal = call.caller.principal
    return Settlement(
        attempt_id=attempt_id,
        started_at=trace.started_at,
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
        provider_usage=_kept(usage.raw),
        usage_source=source.value,
        price_id=price.price_id if price is not None else None,
        cost_nano_usd=cost_nano_usd or 0,
        latency_ms=trace.elapsed_ms(),
        first_content_ms=trace.first_content_ms,
    )


def charged_usage(
    call: Call, target: Target, *, price: PriceVersion | None, outcome: Outcome
) -> tuple[UsageSource, Usage]:
    """What a call is charged for, and where the figures come from."""
    reported = outcome.usage
    if reported is None:
        counted = counted_usage(input_bytes=call.input_bytes, output_bytes=outcome.output_bytes)
        return UsageSource.LOCAL_COUNT, counted
    problem = (
        reported.problem
        or usage_bound(call, target, granted=outcome.granted).breach(reported)
        or _beyond(call.media.bound(), reported)
    )
    if problem:
        extra = {"request_id": call.request_id, "provider": target.provider_name, "reason": problem}
        logger.warning("usage.quarantined", extra=extra)
        return UsageSource.RESERVE_BOUND, _by_the_bound(call, target, price=price, outcome=outcome, problem=problem)
    if outcome.usage_is_final:
        return UsageSource.PROVIDER_FINAL, reported
    return UsageSource.PROVIDER_PARTIAL, _with_what_was_heard(reported, output_bytes=outcome.output_bytes)


def usage_bound(call: Call, target: Target, *, granted: int | None) -> UsageBound:
    """What a provider can have used for a call at most."""
    window = target.context_window or UNBOUNDED_TOKENS
    if call.needs <= COUNTED_BY_BYTES:
        sent_bytes = sum(map(len, call.wire.members.values()))
        input_tokens = min(sent_bytes, window) + INPUT_OVERHEAD_TOKENS
    else:
        input_tokens = window + INPUT_OVERHEAD_TOKENS
    limit = granted if granted is not None else call.max_output_tokens or target.max_output_tokens or window
    if call.operation == "embeddings" or call.media.output_tokens is not None:
        limit = output_limit(call, target)
    reasoning = max(limit, target.max_output_tokens or REASONING_WHEN_UNKNOWN_TOKENS)
    return UsageBound(input_tokens, (limit + OUTPUT_OVERHEAD_TOKENS) * call.choices, reasoning * call.choices)


def _beyond(bound: Mapping[str, int], reported: Usage) -> str:
    """What of that which is no token is more than it can be; empty for nothing."""
    for unit, most in bound.items():
        count = reported.units.get(unit, 0)
        if count > most + OTHER_UNITS_OVERHEAD:
            return f"{count} {unit}, where at most {most} can be."
    return ""


def _by_the_bound(call: Call, target: Target, *, price: PriceVersion | None, outcome: Outcome, problem: str) -> Usage:
    """All that was held for the call. Without a limit on its output that is less than was said, if that was a lot."""
    reported = outcome.usage
    assert reported is not None
    counted = counted_usage(input_bytes=0, output_bytes=outcome.output_bytes)
    limit = outcome.granted if outcome.granted is not None else output_limit(call, target)
    input_tokens = input_token_bound(call.input_bytes + call.media.input_tokens, target.context_window)
    output_tokens = max(limit * call.choices, counted.output_tokens)
    return Usage(
        units=bound_units(price, input_tokens=input_tokens, output_tokens=output_tokens) | call.media.bound(),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        raw=msgspec.json.encode({"quarantined": problem, "reported": _as_text(reported.raw)}),
    )


def _with_other_units(usage: Usage, call: Call, *, outcome: Outcome) -> Usage:
    """With what is no token: as the provider reports it, else as it was seen or known beforehand."""
    others = {**call.media.known, **outcome.counted}
    return msgspec.structs.replace(usage, units={**others, **usage.units}) if others else usage


def _with_what_was_heard(usage: Usage, *, output_bytes: int) -> Usage:
    """A report from before the end: its input stands, its output may have been overtaken by what came after it."""
    heard = counted_usage(input_bytes=0, output_bytes=output_bytes).output_tokens
    more = heard - usage.output_tokens
    if more <= 0:
        return usage
    units = {**usage.units, "output": usage.units.get("output", 0) + more}
    return msgspec.structs.replace(usage, units=units, output_tokens=heard)


def _kept(raw: bytes) -> msgspec.Raw:
    if raw == b"{}":
        return NO_USAGE
    return msgspec.Raw(raw if len(raw) <= 2 * KEPT_USAGE_BYTES else msgspec.json.encode({"cut": _as_text(raw)}))


def _as_text(raw: bytes) -> str:
    return raw[:KEPT_USAGE_BYTES].decode("utf-8", "replace").replace("\0", "")
