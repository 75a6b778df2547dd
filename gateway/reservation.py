"""What a call may cost at most at one deployment, and which budgets must have room for it."""

from __future__ import annotations

import datetime as dt

import msgspec

from billing.budgets import CallFacts, holds_for
from billing.entries import Reservation
from billing.estimates import OUTPUT_TOKENS_WHEN_UNKNOWN, estimate, input_token_bound
from billing.pricing import PriceVersion
from gateway.context import Call
from gateway.errors import PriceUnknownError
from providers.types import Target, WireRequest


def reservation(attempt_id: str, call: Call, *, target: Target, price: PriceVersion | None) -> Reservation:
    """The attempt as the ledger is asked to commit it. Raises `PriceUnknownError` where a hard budget needs a price."""
    principal, now = call.caller.principal, dt.datetime.now(dt.UTC)
    facts = CallFacts(
        project=principal.project_name,
        user=call.attribution.user,
        key=principal.key_name,
        model=target.model_name,
        provider=target.provider_name,
    )
    rules = [rule for rule in call.caller.budgets if facts.concern(rule)]
    if price is None and any(rule.hard for rule in rules):
        raise PriceUnknownError(target.model_name)
    bound = estimate(
        price,
        input_tokens=input_token_bound(call.input_bytes, target.context_window),
        max_output_tokens=output_limit(call, target),
        choices=call.choices,
        may_shrink=call.max_output_tokens is None,
    )
    return Reservation(
        id=attempt_id,
        request_id=call.request_id,
        tenant_id=principal.tenant_id,
        api_key_id=principal.key_id,
        deployment_id=target.deployment_id,
        operation=call.operation,
        model_name=target.model_name,
        provider_name=target.provider_name,
        created_at=now,
        fixed_nano_usd=bound.fixed_nano_usd,
        output_pico_usd=bound.output_pico_usd,
        max_output_tokens=bound.max_output_tokens,
        may_shrink=bound.may_shrink,
        holds=holds_for(rules, facts, moment=now, zone=call.caller.zone),
    )


def output_limit(call: Call, target: Target) -> int:
    """The most tokens an answer may have: the client's limit, within the model's."""
    if call.operation == "embeddings":
        return 0
    ceiling = target.max_output_tokens
    if call.max_output_tokens is None:
        return ceiling or OUTPUT_TOKENS_WHEN_UNKNOWN
    return min(call.max_output_tokens, ceiling) if ceiling else call.max_output_tokens


def limited(call: Call, target: Target, *, granted: int | None) -> WireRequest:
    """The request with the limit that is really held for it; untouched where the client's own stands."""
    limit = granted if granted is not None else output_limit(call, target)
    unlimited = granted is None and call.max_output_tokens is None
    if call.operation == "embeddings" or unlimited or limit == call.max_output_tokens:
        return call.wire
    return msgspec.structs.replace(call.wire, max_output_tokens=limit)
