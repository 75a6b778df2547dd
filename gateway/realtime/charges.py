"""What a session is charged for one thing it used, and how that is written into the ledger."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from billing.counting import charged_units, usage_of
from billing.entries import Settlement
from billing.estimates import bound_units
from billing.models import Ending, UsageSource
from billing.plausibility import INPUT_OVERHEAD_TOKENS, UNBOUNDED_TOKENS, UsageBound
from billing.pricing import TIER, PriceVersion
from gateway.context import Call
from gateway.metering import KEPT_USAGE_BYTES
from providers.types import Target, Usage

logger = logging.getLogger(__name__)

MOST_SAID_TOKENS = 131_072
"""No voice model of 2026 says a tenth of this in one response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """A response or a transcription that is over: which model it was, at what price, what it used, who says so."""

    model_name: str
    upstream_model: str
    price: PriceVersion | None
    usage: Usage
    source: UsageSource
    ending: Ending
    units: dict[str, int]
    """What the price is applied to."""
    cost_nano_usd: int
    is_transcription: bool = False


def charge_for(
    usage: Usage,
    target: Target,
    *,
    price: PriceVersion | None,
    source: UsageSource,
    ending: Ending = Ending.COMPLETED,
    is_transcription: bool = False,
) -> Charge:
    """Price what was used now."""
    units = charged_units(usage, price, service_tier="", moment=dt.datetime.now(dt.UTC))
    return Charge(
        model_name=target.model_name,
        upstream_model=target.upstream_model,
        price=price,
        usage=usage,
        source=source,
        ending=ending,
        units=units,
        cost_nano_usd=price.cost_nano_usd(units) if price is not None else 0,
        is_transcription=is_transcription,
    )


def believed(usage: Usage, target: Target, *, price: PriceVersion | None, most_tokens: int) -> tuple[Usage, bool]:
    """What a response is charged for by its provider's word, and whether that could be believed.

    What cannot be true is charged by the bound: `most_tokens` read and as many said, which is what a lease holds.
    """
    window = target.context_window or UNBOUNDED_TOKENS
    said = max(MOST_SAID_TOKENS, target.max_output_tokens or 0)
    problem = usage.problem or UsageBound(window + INPUT_OVERHEAD_TOKENS, said, said).breach(usage)
    if not problem:
        return usage, True
    logger.warning("realtime.usage_quarantined", extra={"provider": target.provider_name, "reason": problem})
    reported = usage.raw[:KEPT_USAGE_BYTES].decode("utf-8", "replace").replace("\0", "")
    bound = usage_of(bound_units(price, input_tokens=most_tokens, output_tokens=most_tokens))
    raw = msgspec.json.encode({"quarantined": problem, "reported": reported})
    return msgspec.structs.replace(bound, raw=raw), False


def added(many: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Units of several charges, added up."""
    total: dict[str, int] = {}
    for units in many:
        for unit, count in units.items():
            total[unit] = max(total.get(unit, 0), count) if unit == TIER else total.get(unit, 0) + count
    return total


def worst(sources: Iterable[UsageSource]) -> UsageSource:
    """The least certain of some sources; the best there is for none."""
    order = list(UsageSource)
    return max(sources, key=order.index, default=UsageSource.PROVIDER_FINAL)


def settlement(attempt_id: str, call: Call, *, target: Target, charge: Charge, began: dt.datetime) -> Settlement:
    """The charge as the row that ends an attempt."""
    usage, price = charge.usage, charge.price
    principal, attribution = call.caller.principal, call.attribution
    return Settlement(
        attempt_id=attempt_id,
        started_at=began,
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
        model_name=charge.model_name,
        provider_name=target.provider_name,
        upstream_model=charge.upstream_model,
        stream=True,
        ending=charge.ending.value,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        units=charge.units,
        provider_usage=msgspec.Raw(usage.raw if len(usage.raw) <= 2 * KEPT_USAGE_BYTES else b'{"cut": true}'),
        usage_source=charge.source.value,
        price_id=price.price_id if price is not None else None,
        cost_nano_usd=charge.cost_nano_usd,
        latency_ms=int((dt.datetime.now(dt.UTC) - began).total_seconds() * 1000),
        first_content_ms=None,
    )
