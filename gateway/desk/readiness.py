"""What a model still needs before it may serve: a price, something it can do, a route, and a provider that has it."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils import timezone

from billing.models import Price, PriceProposal, ProposalState
from billing.quotes import quote_rates
from providers.model_checks import newest_checks
from providers.models import (
    Capability,
    Deployment,
    Lifecycle,
    LifecycleChange,
    Model,
    ModelCheck,
    OfferedModel,
    OfferState,
    ProbeStatus,
)
from providers.selectors import SERVING

QUEUE_SHOWN = 20
CHECK_HOLDS = dt.timedelta(hours=24)
"""For so long a provider's answer counts; then it is asked again."""

DEPLOYMENTS_COMPARED = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One thing that an approval stands on."""

    name: str
    is_there: bool
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model with what there is of it."""

    model: Model
    needs: Sequence[Need]
    proposed: LifecycleChange | None
    """Who proposed it last, when and why."""
    price: Price | None
    deployments: Sequence[Deployment]
    checks: Sequence[ModelCheck]
    proposals: Sequence[PriceProposal]
    """What a public price list says otherwise, undecided."""

    @property
    def missing(self) -> list[Need]:
        return [need for need in self.needs if not need.is_there]

    def evidence(self) -> list[str]:
        """What it is approved on, in words, to be kept."""
        return [f"{need.name}: {need.words}" for need in self.needs]


def candidates_of(models: Sequence[Model]) -> list[Candidate]:
    """Models with what each needs. Five queries, however many there are."""
    now = timezone.now()
    newest = Price.objects.filter(model__in=models, valid_from__lte=now).order_by("model_id", "-valid_from")
    prices = {price.model_id: price for price in newest.distinct("model_id")}
    deployments: dict[int, list[Deployment]] = defaultdict(list)
    for one in Deployment.objects.filter(model__in=models).select_related("provider", "model"):
        deployments[one.model_id].append(one)
    checks = newest_checks(models)
    changes = LifecycleChange.objects.filter(model__in=models, to_state=Lifecycle.PROPOSED).select_related("changed_by")
    proposed = {
        change.model_id: change for change in changes.order_by("model_id", "-changed_at", "-pk").distinct("model_id")
    }
    proposals: dict[int, list[PriceProposal]] = defaultdict(list)
    for proposal in PriceProposal.objects.filter(model__in=models, state=ProposalState.OPEN):
        proposals[proposal.model_id].append(proposal)
    return [
        Candidate(
            model=model,
            needs=_needs(model, prices.get(model.pk), deployments=deployments[model.pk], checks=checks[model.pk]),
            proposed=proposed.get(model.pk),
            price=prices.get(model.pk),
            deployments=deployments[model.pk],
            checks=checks[model.pk],
            proposals=proposals[model.pk],
        )
        for model in models
    ]


def _needs(
    model: Model, price: Price | None, *, deployments: Sequence[Deployment], checks: Sequence[ModelCheck]
) -> list[Need]:
    routes = [one for one in deployments if one.enabled and one.provider.enabled]
    where = ", ".join(f"{one.upstream_model} at {one.provider.name}" for one in routes)
    can = ", ".join(Capability(capability).label for capability in model.capabilities)
    return [
        Need(name="Price", is_there=price is not None, words=price_words(price)),
        Need(name="Capability", is_there=bool(can), words=can or "nothing is said of what it can do"),
        Need(name="Route", is_there=bool(routes), words=where or "no enabled deployment at an enabled provider"),
        _tested(routes, checks),
    ]


def price_words(price: Price | None) -> str:
    """A price in a line, in USD per million units."""
    if price is None:
        return "none: its calls would be booked at no cost"
    quoted = ", ".join(f"{unit} {rate}" for unit, rate in quote_rates(price.rates).items())
    return f"{quoted} USD per million" + (f", {len(price.tiers)} tiers" if price.tiers else "")


def _tested(routes: Sequence[Deployment], checks: Sequence[ModelCheck]) -> Need:
    """Every route asked in the last day, and none of them in vain."""
    fresh = {check.deployment_id: check for check in checks if check.checked_at >= timezone.now() - CHECK_HOLDS}
    asked = [fresh[route.pk] for route in routes if route.pk in fresh]
    failing = [check for check in asked if check.status == ProbeStatus.FAILING]
    if failing or not asked or len(asked) < len(routes):
        words = "; ".join(check.words for check in failing) or "not asked in the last 24 hours"
        return Need(name="Live test", is_there=False, words=words)
    words = "; ".join(f"{check.words} {check.checked_at:%Y-%m-%d %H:%M} UTC" for check in asked)
    return Need(name="Live test", is_there=True, words=words)


# The queue ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Difference:
    """Where a provider's list no longer says what is registered here."""

    model: Model
    provider: str
    words: str


def proposed_models() -> list[Candidate]:
    """Those that wait for an approval, the oldest first, at most twenty."""
    rows = Model.objects.filter(lifecycle=Lifecycle.PROPOSED).order_by("created_at", "pk")
    return candidates_of(list(rows[:QUEUE_SHOWN]))


def ending_models() -> list[Model]:
    """Deprecated models that retire by themselves, the next first."""
    rows = Model.objects.filter(lifecycle=Lifecycle.DEPRECATED, retires_at__isnull=False).select_related("successor")
    return list(rows.order_by("retires_at")[:QUEUE_SHOWN])


def open_proposals() -> list[PriceProposal]:
    """Undecided differences to a public price list."""
    rows = PriceProposal.objects.filter(state=ProposalState.OPEN, model__lifecycle__in=SERVING).select_related("model")
    return list(rows.order_by("created_at")[:QUEUE_SHOWN])


def list_differences() -> list[Difference]:
    """What providers' lists say otherwise of serving models: that they are gone, or take more or less. Two queries."""
    rows = Deployment.objects.filter(enabled=True, model__lifecycle__in=SERVING).select_related("model", "provider")
    deployments = list(rows.order_by("pk")[:DEPLOYMENTS_COMPARED])
    names = {one.upstream_model for one in deployments}
    offered = {
        (one.provider_id, one.upstream_model): one
        for one in OfferedModel.objects.filter(
            provider__in={one.provider_id for one in deployments}, upstream_model__in=names
        )
    }
    found = []
    for one in deployments:
        theirs = offered.get((one.provider_id, one.upstream_model))
        words = _difference(one.model, theirs) if theirs is not None else ""
        if words:
            found.append(Difference(one.model, one.provider.name, words))
    return found[:QUEUE_SHOWN]


def _difference(model: Model, theirs: OfferedModel) -> str:
    if theirs.state == OfferState.GONE:
        return f"no longer lists {theirs.upstream_model}, last seen {theirs.last_seen_at:%Y-%m-%d}"
    pairs = (
        ("context window", model.context_window, theirs.context_window),
        ("longest answer", model.max_output_tokens, theirs.max_output_tokens),
    )
    told = [
        f"{name} {ours or 'not stated'} here, {listed:,} there"
        for name, ours, listed in pairs
        if listed is not None and listed != ours
    ]
    return ", ".join(told)
