"""How an attempt ends whose process has died: a rule from its marks to its end, pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from billing.counting import charged_units, counted_usage, usage_of
from billing.entries import Settlement, Void
from billing.flight_recorder import Dispatch, Flight
from billing.models import Attempt, Ending, UsageSource
from billing.pricing import PriceVersion
from providers.types import Usage

PROCESS_DIED = "process_died"


def ending_of(attempt: Attempt, flight: Flight | None, *, prices: Mapping[int, PriceVersion]) -> Settlement | Void:
    """End an open attempt by its marks, None when there is no evidence of what became of it.

    Its charge known: exactly that. Its answer begun: what the gateway has counted, the output as of the last mark, at
    most a second old. Never dispatched: void. Dispatched without a sign of an answer, or no evidence: a charge of
    nothing whose source is `unknown`, for nobody knows whether the provider ever saw it; what the attempt had reserved
    is then the most that its provider may ask for it.

    The process may live after all and send its own end late: the ledger then posts the difference as a correction.
    """
    if flight is None:
        return unknown_charge(attempt)
    if flight.end is not None:
        return flight.end
    if flight.dispatch is None and flight.output_bytes is not None:
        return unknown_charge(attempt)  # it was dispatched, and that mark is lost
    if flight.dispatch is None:
        return Void(attempt_id=attempt.id.hex, failure=PROCESS_DIED)
    price = prices.get(flight.dispatch.price_id) if flight.dispatch.price_id is not None else None
    if flight.units is not None:
        return _counted_charge(attempt, flight.dispatch, usage=usage_of(flight.units), price=price)
    if flight.output_bytes is None:
        return _attributed(attempt, flight.dispatch)
    usage = counted_usage(input_bytes=flight.dispatch.input_bytes, output_bytes=flight.output_bytes)
    return _counted_charge(attempt, flight.dispatch, usage=usage, price=price)


def unknown_charge(attempt: Attempt) -> Settlement:
    """The tenant pays nothing for what nobody knows."""
    return Settlement(
        attempt_id=attempt.id.hex,
        started_at=attempt.created_at,
        request_id=attempt.request_id,
        tenant_id=attempt.tenant_id,
        project_id=None,
        api_key_id=attempt.api_key_id,
        user="",
        conversation="",
        agent="",
        agent_type="",
        operation=attempt.operation,
        requested_model=attempt.model_name,
        model_name=attempt.model_name,
        provider_name=attempt.provider_name,
        upstream_model="",
        stream=False,
        ending=Ending.FAILED.value,
        input_tokens=0,
        output_tokens=0,
        cache_read_tokens=0,
        cache_write_tokens=0,
        reasoning_tokens=0,
        units={},
        provider_usage=msgspec.Raw(b"{}"),
        usage_source=UsageSource.UNKNOWN.value,
        price_id=None,
        cost_nano_usd=0,
        latency_ms=0,
        first_content_ms=None,
    )


def _counted_charge(attempt: Attempt, dispatch: Dispatch, *, usage: Usage, price: PriceVersion | None) -> Settlement:
    usage = msgspec.structs.replace(usage, units={**dispatch.units, **usage.units})
    units = charged_units(usage, price, service_tier=dispatch.service_tier, moment=attempt.created_at)
    return msgspec.structs.replace(
        _attributed(attempt, dispatch),
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        units=units,
        usage_source=UsageSource.LOCAL_COUNT.value,
        price_id=dispatch.price_id,
        cost_nano_usd=price.cost_nano_usd(units) if price is not None else 0,
    )


def _attributed(attempt: Attempt, dispatch: Dispatch) -> Settlement:
    """An unknown charge with everything that is known."""
    return msgspec.structs.replace(
        unknown_charge(attempt),
        project_id=dispatch.project_id,
        user=dispatch.user,
        conversation=dispatch.conversation,
        agent=dispatch.agent,
        agent_type=dispatch.agent_type,
        requested_model=dispatch.requested_model,
        upstream_model=dispatch.upstream_model,
        stream=dispatch.stream,
    )
