"""A request against another routing: what that would have chosen and cost, from what was written down. Nobody is asked.

The order comes from the routing that calls go through, with every breaker closed; the cost from the units that were
charged and the prices of that moment. What cannot be known is said beside it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from billing.money import usd
from billing.pricing import INPUT_TOKENS, TIER, PriceList, PriceVersion
from billing.selectors import load_prices
from gateway.context import Call, Caller, Ranking, Trace
from gateway.errors import GatewayError
from gateway.health.board import Health
from gateway.health.breaker import BreakerPolicy
from gateway.models import RequestRecord
from gateway.request_records import RequestStory
from gateway.routing import rank
from gateway.strategies import View
from providers.models import Strategy
from providers.selectors import Catalogue, ModelEntry, approved_names, load_catalogue
from providers.types import Target, WireRequest
from tenants.models import Tenant
from tenants.selectors import Principal

DRAWS = 200
"""How often a routing that draws lots is asked: enough for whole percents that mean something."""

DRAWN = {
    Strategy.LOWEST_LATENCY.value: "How fast each was at that moment is not kept: they are taken as equally fast.",
    Strategy.LEAST_BUSY.value: "How busy each was at that moment is not kept: they are taken as equally busy.",
}

UNKNOWN = (
    "Whether it would have answered, how fast, and how well: nobody was asked.",
    "How long its answer would have been: the cost takes the tokens that were really charged, and another model "
    "counts and writes other ones. What a provider had cached it may not have.",
    "Which breakers were open, who was throttled and whether budgets and limits had room then: all are taken as well.",
    "The registry of that moment: models, deployments and groups are those of now, prices those of then.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What to try: a model or group as it stands, or models in an order of one's own under a strategy."""

    name: str = ""
    strategy: str = ""
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One candidate of the other routing."""

    name: str
    share: int
    """Per cent of the draws in which it comes first."""
    cost: str
    """USD, or why there is none."""
    difference: str
    """To what was charged, signed; empty where either is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What came of it."""

    title: str
    choices: list[Choice] = field(default_factory=list)
    rejected: list[tuple[str, str]] = field(default_factory=list)
    refusal: str = ""
    """Where it would have been refused: why."""
    notes: list[str] = field(default_factory=list)


class AllWell(Health):
    """Deployments of which nothing is known: every breaker closed, nobody throttled."""

    def __init__(self) -> None:
        self.policy = BreakerPolicy()
        self._standings = {}
        self._refused = {}


def replayed(row: RequestRecord, story: RequestStory, *, draft: Draft) -> Replayed:
    """Route a request on the log once more. About ten queries, whatever there is."""
    catalogue, prices = load_catalogue(), load_prices()
    name, strategy, models = _pool(catalogue, draft)
    title = f"{name}, {strategy.replace('_', ' ')}" if strategy else name
    call = _call_of(row, name)
    notes = _notes(row, strategy, name=name, is_draft=bool(draft.members))
    try:
        drawn = [_rank(call, models, name=name, strategy=strategy, prices=prices) for _ in range(DRAWS)]
    except GatewayError as error:
        return Replayed(title=title, refusal=error.message, notes=notes)
    targets, rejected = drawn[0]
    first = Counter(found[0].deployment_id for found, _ in drawn)
    in_order = sorted(targets, key=lambda target: -first[target.deployment_id])
    choices = [
        _choice(target, row, story=story, prices=prices, share=100 * first[target.deployment_id] // DRAWS)
        for target in in_order
    ]
    return Replayed(title=title, choices=choices, rejected=rejected, notes=notes)


def _pool(catalogue: Catalogue, draft: Draft) -> tuple[str, str, list[ModelEntry]]:
    """What to route among: a name for it, the strategy, the models."""
    names: tuple[str, ...] = draft.members
    name, strategy = "a draft", draft.strategy or Strategy.PRIORITY.value
    if not names:
        group = catalogue.groups.get(draft.name)
        name, strategy = draft.name, group.strategy if group else ""
        names = group.members if group else (draft.name,)
    return name, strategy, [catalogue.models[member] for member in names if member in catalogue.models]


def _rank(
    call: Call, models: list[ModelEntry], *, name: str, strategy: str, prices: PriceList
) -> tuple[list[Target], list[tuple[str, str]]]:
    trace = Trace(call.request_id)
    ranking = Ranking(call, name=name, strategy=strategy)
    return rank(ranking, models, view=View(call, trace, AllWell(), prices)), trace.skipped


def _call_of(row: RequestRecord, name: str) -> Call:
    """The call as far as it was written down: its sizes and needs, none of its text."""
    decision = row.decision
    return Call(
        caller=_caller(row),
        request_id=row.request_id,
        operation=row.operation,
        requested_model=name,
        needs=frozenset(decision.get("needs", [row.operation] if row.operation == "chat" else [])),
        wire=WireRequest(operation=row.operation, members={}, stream=row.stream),
        input_bytes=decision.get("input_bytes", 0),
        max_output_tokens=decision.get("max_output_tokens"),
        choices=decision.get("choices", 1),
        service_tier=decision.get("service_tier", ""),
    )


def _caller(row: RequestRecord) -> Caller:
    """Routing asks nothing of its caller; the pipeline settles that before."""
    principal = Principal(
        key_id=row.api_key_id, key_name="", tenant_id=row.tenant_id, tenant_name="", tenant_active=True, timezone="UTC",
        project_id=None, project_name="", user="", scopes=frozenset(), networks=(), expires_at=None,
    )  # fmt: skip
    return Caller(principal, frozenset(), (), (), ZoneInfo("UTC"))


def _choice(target: Target, row: RequestRecord, *, story: RequestStory, prices: PriceList, share: int) -> Choice:
    price = prices.at(target.model_id, row.created_at)
    units = next((told.charge.units for told in reversed(story.attempts) if told.charge), None)
    name = f"{target.model_name} at {target.provider_name}"
    if units is None:
        return Choice(name=name, share=share, cost="not known: nothing was charged to reckon with", difference="")
    if price is None:
        return Choice(name=name, share=share, cost="not known: it had no price then", difference="")
    cost = price.cost_nano_usd(_units_at(price, units, row=row))
    change = cost - story.cost_nano_usd
    sign = "+" if change > 0 else ""
    return Choice(name=name, share=share, cost=usd(cost), difference=f"{sign}{usd(change)}" if change else "the same")


def _units_at(price: PriceVersion, units: dict[str, int], *, row: RequestRecord) -> dict[str, int]:
    """The units, in the tier that this price has for them: a tier's place means nothing at another price."""
    plain = {unit: count for unit, count in units.items() if unit != TIER}
    read = sum(plain.get(unit, 0) for unit in INPUT_TOKENS)
    tier = price.tier_for(read, service_tier=row.decision.get("service_tier", ""), moment=row.created_at)
    return {**plain, TIER: tier} if tier else plain


def _notes(row: RequestRecord, strategy: str, *, name: str, is_draft: bool) -> list[str]:
    notes = [DRAWN[strategy]] if strategy in DRAWN else []
    if not row.decision:
        notes.append("Its sizes and needs were not written down yet when it was made: it is taken as a plain call.")
    if not is_draft and name not in approved_names(row.tenant_id):
        tenant = Tenant.objects.get(pk=row.tenant_id)
        notes.append(f"{name} is not approved for {tenant.name}: as things stand the call would be refused.")
    return list(itertools.chain(notes, UNKNOWN))
