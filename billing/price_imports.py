"""The catalogue against the public price list: what differs, and what operators decide about it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Prefetch
from django.utils import timezone

from billing.errors import PriceError
from billing.models import Price, PriceProposal, ProposalState
from billing.money import plain, usd_per_million
from billing.price_doubts import Known
from billing.pricing import UNITS, rate_in
from billing.public_prices import SOURCE, VERSION, Place, PublicPrice, public_price
from billing.selectors import price_holding
from billing.services import set_price
from billing.tiers import Tier, check_tiers, stored_tiers
from providers.models import Deployment, Lifecycle, Model
from tenants.models import Operator

SUSPICIOUS_CHANGE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One figure that differs, in USD per million units; `ours` is empty where we have none."""

    tier: str
    unit: str
    ours: str
    theirs: str
    percent: str
    suspicious: bool
    """More than ten times up or down."""

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A model beside its public price, None where there is none; `rates` and `tiers` are what would be proposed."""

    model: Model
    public: PublicPrice | None
    changes: tuple[Change, ...] = ()
    rates: Mapping[str, int]
    tiers: tuple[Tier, ...] = ()
    rejected: bool = False
    """Whether an operator has refused exactly these figures."""

    @property
    def differs(self) -> bool:
        return bool(self.changes) and not self.rejected

    @property
    def suspicious(self) -> bool:
        return any(change.suspicious for change in self.changes)


def known_public(model: Model, moment: dt.datetime) -> list[Known]:
    """The public price of a model as something to hold others against; empty where there is none. One query."""
    serving = Deployment.objects.filter(model=model, enabled=True, provider__enabled=True)
    public = public_price(_places(serving.select_related("provider").order_by("priority", "pk")), moment)
    return [Known(f"The public price of {public.name}", public.rates)] if public is not None else []


def known_prices(model: Model, moment: dt.datetime) -> list[Known]:
    """What is known of a model's price before a new one is set: the one that holds, and the public one. Two queries."""
    current = price_holding(model.pk, moment)
    return [*([Known("The price so far", current.rates)] if current else []), *known_public(model, moment)]


def compare(*, provider: str = "", names: Sequence[str] = ()) -> list[Comparison]:
    """Every model that is not retired, or those asked for, beside its public price. Four queries at most."""
    moment = timezone.now()
    deployments = Deployment.objects.filter(enabled=True, provider__enabled=True).select_related("provider")
    models = Model.objects.exclude(lifecycle=Lifecycle.RETIRED).order_by("name")
    if provider:
        deployments = deployments.filter(provider__name=provider)
        models = models.filter(deployments__provider__name=provider, deployments__enabled=True).distinct()
    if names:
        models = models.filter(name__in=names)
    models = models.prefetch_related(Prefetch("deployments", deployments.order_by("priority", "pk"), to_attr="serving"))
    held = Price.objects.filter(valid_from__lte=moment).order_by("model_id", "-valid_from").distinct("model_id")
    prices = {price.model_id: price for price in held}
    refused: dict[int, list[PriceProposal]] = {}
    for proposal in PriceProposal.objects.filter(state=ProposalState.REJECTED):
        refused.setdefault(proposal.model_id, []).append(proposal)
    return [
        _compare(
            model,
            public_price(_places(model.serving), moment),
            current=prices.get(model.pk),
            refused=refused.get(model.pk, ()),
        )
        for model in models
    ]


def propose(comparison: Comparison) -> PriceProposal | None:
    """Keep what differs for an operator to decide on; None where it is agreed, refused or waiting already."""
    if not comparison.differs or comparison.public is None:
        return None
    figures = {"rates": dict(comparison.rates), "tiers": [tier.as_json() for tier in comparison.tiers]}
    with transaction.atomic():
        Model.objects.select_for_update().get(pk=comparison.model.pk)  # two imports at once propose one after the other
        waiting = PriceProposal.objects.filter(model=comparison.model, state=ProposalState.OPEN)
        if waiting.filter(**figures).exists():
            return None
        waiting.update(state=ProposalState.SUPERSEDED, decided_at=timezone.now())
        return PriceProposal.objects.create(
            model=comparison.model,
            source=f"{SOURCE} {comparison.public.name}",
            source_version=VERSION,
            diff=[change.as_json() for change in comparison.changes],
            **figures,
        )


@transaction.atomic
def approve_proposal(proposal: PriceProposal, *, by: Operator | None) -> Price:
    """Make a proposal the model's price from now on. Raises `PriceError` when it is decided or out of date."""
    held = _open(proposal)
    current = price_holding(held.model_id, timezone.now())
    if current is not None and current.created_at > held.created_at:
        raise PriceError(f"{held.model}'s price was changed after this was proposed: run import_prices again.")
    price = set_price(held.model, held.rates, tiers=stored_tiers(held.tiers), by=by) or current
    _decide(proposal, ProposalState.APPROVED, by=by, price=price)
    assert price is not None
    return price


@transaction.atomic
def reject_proposal(proposal: PriceProposal, *, by: Operator | None) -> None:
    """Refuse these figures: they are not proposed again. Raises `PriceError` when it is decided."""
    _open(proposal)
    _decide(proposal, ProposalState.REJECTED, by=by, price=None)


def _open(proposal: PriceProposal) -> PriceProposal:
    held = PriceProposal.objects.select_for_update(of=("self",)).select_related("model").get(pk=proposal.pk)
    if held.state != ProposalState.OPEN:
        raise PriceError(f"This proposal is {held.get_state_display().lower()} already.")
    return held


def _decide(proposal: PriceProposal, state: ProposalState, *, by: Operator | None, price: Price | None) -> None:
    proposal.state, proposal.decided_by, proposal.decided_at = state, by, timezone.now()
    proposal.price = price
    proposal.save(update_fields=["state", "decided_by", "decided_at", "price"])


def _places(deployments: Iterable[Deployment]) -> list[Place]:
    return [
        Place(deployment.provider.kind, deployment.provider.base_url, deployment.upstream_model)
        for deployment in deployments
    ]


def _compare(
    model: Model, public: PublicPrice | None, *, current: Price | None, refused: Iterable[PriceProposal]
) -> Comparison:
    ours: Mapping[str, int] = current.rates if current is not None else {}
    if public is None:
        return Comparison(model=model, public=None, rates=ours)
    our_tiers = stored_tiers(current.tiers) if current is not None else ()
    by_condition = {tier.condition(): tier for tier in our_tiers}
    changes = _changes("", public.rates, ours=ours if current is not None else None, theirs=public.rates)
    for tier in public.tiers:
        own = by_condition.get(tier.condition())
        changes += _changes(
            tier.condition(),
            tier.rates,
            ours={**ours, **own.rates} if own is not None else None,
            theirs={**public.rates, **tier.rates},
        )
    rates, tiers = {**ours, **public.rates}, _merged(public.tiers, our_tiers)
    stored = [tier.as_json() for tier in tiers]
    return Comparison(
        model=model,
        public=public,
        changes=tuple(changes),
        rates=rates,
        tiers=tiers,
        rejected=any(one.rates == rates and one.tiers == stored for one in refused),
    )


def _changes(
    tier: str, units: Iterable[str], *, ours: Mapping[str, int] | None, theirs: Mapping[str, int]
) -> list[Change]:
    found = []
    for unit in sorted(units, key=UNITS.index):
        own, other = rate_in(ours, unit) if ours is not None else None, rate_in(theirs, unit)
        if own == other:
            continue
        found.append(
            Change(
                tier=tier,
                unit=unit,
                ours=usd_per_million(own) if own is not None else "",
                theirs=usd_per_million(other),
                percent=plain(round(Decimal(other - own) * 100 / own, 1)) if own else "",
                suspicious=bool(own) and max(own or 0, other) > SUSPICIOUS_CHANGE * min(own or 0, other),
            )
        )
    return found


def _merged(theirs: tuple[Tier, ...], ours: tuple[Tier, ...]) -> tuple[Tier, ...]:
    """Their tiers, then those of ours with other conditions that can still win."""
    merged = theirs
    for tier in ours:
        try:
            check_tiers((*merged, tier))
        except PriceError:
            continue  # theirs has one of its name, or one that covers it: it says the same or more
        merged = (*merged, tier)
    return merged
