"""What a call may cost at most at one deployment, and which budgets must have room for it."""

from __future__ import annotations

import datetime as dt

import msgspec

from billing.budgets import BudgetRule, CallFacts, holds_for
from billing.entries import Reservation
from billing.estimates import MOST_OUTPUT_TOKENS, OUTPUT_TOKENS_WHEN_UNKNOWN, estimate, input_token_bound
from billing.pricing import PriceVersion
from gateway.context import Call
from gateway.errors import PriceUnknownError
from providers.types import Target, WireRequest

MOST_PICTURES_OF_A_CHAT = 8
"""Held for where the model has a price for each."""


def is_hard(call: Call, target: Target) -> bool:
    """Whether a hard budget is about a call: then nothing is spent while the ledger cannot be asked."""
    return any(rule.hard for rule in _rules(call, _facts(call, target)))


def reservation(
    attempt_id: str, call: Call, *, target: Target, price: PriceVersion | None, moment: dt.datetime
) -> Reservation:
    """The attempt, begun at `moment`, as the ledger is asked to commit it.

    Raises `PriceUnknownError` where a hard budget needs a price.
    """
    principal = call.caller.principal
    facts = _facts(call, target)
    rules = _rules(call, facts)
    if price is None and any(rule.hard for rule in rules):
        raise PriceUnknownError(target.model_name)
    input_tokens = input_token_bound(call.input_bytes + call.media.input_tokens, target.context_window)
    bound = estimate(
        price.dearest(input_tokens, service_tier=call.service_tier, moment=moment) if price is not None else None,
        input_tokens=input_tokens,
        max_output_tokens=output_limit(call, target),
        choices=call.choices,
        may_shrink=call.max_output_tokens is None and call.media.output_tokens is None,
        other_pico_usd=price.most_pico_usd(other_units(call)) if price is not None else 0,
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
        created_at=moment,
        fixed_nano_usd=bound.fixed_nano_usd,
        output_pico_usd=bound.output_pico_usd,
        max_output_tokens=bound.max_output_tokens,
        may_shrink=bound.may_shrink,
        holds=holds_for(rules, facts, moment=moment, zone=call.caller.zone),
    )


def _facts(call: Call, target: Target) -> CallFacts:
    principal = call.caller.principal
    return CallFacts(
        project=principal.project_name,
        user=call.attribution.user,
        key=principal.key_name,
        model=target.model_name,
        provider=target.provider_name,
    )


def _rules(call: Call, facts: CallFacts) -> list[BudgetRule]:
    return [rule for rule in call.caller.budgets if facts.concern(rule)]


def other_units(call: Call) -> dict[str, int]:
    """The most that a call can use beside tokens. A chat's model may paint, whoever asked for that."""
    painted = {"images": MOST_PICTURES_OF_A_CHAT * call.choices} if call.operation == "chat" else {}
    return {**painted, **call.media.bound()}


def output_limit(call: Call, target: Target) -> int:
    """The most tokens an answer may have: the client's limit, within the model's."""
    if call.operation == "embeddings":
        return 0
    if call.media.output_tokens is not None:
        return call.media.output_tokens
    ceiling = min(target.max_output_tokens or MOST_OUTPUT_TOKENS, MOST_OUTPUT_TOKENS)
    if call.max_output_tokens is None:
        return ceiling if target.max_output_tokens else OUTPUT_TOKENS_WHEN_UNKNOWN
    return min(call.max_output_tokens, ceiling)


def limited(call: Call, target: Target, *, granted: int | None) -> WireRequest:
    """The request with the limit that is really held for it; untouched where the client's own stands."""
    if call.media.output_tokens is not None:
        return call.wire
    limit = granted if granted is not None else output_limit(call, target)
    unlimited = granted is None and call.max_output_tokens is None
    if call.operation == "embeddings" or unlimited or limit == call.max_output_tokens:
        return call.wire
    return msgspec.structs.replace(call.wire, max_output_tokens=limit)
