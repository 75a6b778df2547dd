"""Which models providers list, compared with those that are deployed here. Operators decide what follows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from providers.asking import list_all
from providers.credentials import CredentialError
from providers.errors import ProviderError
from providers.health_checks import target_of
from providers.models import Deployment, Model, ModelGroup, OfferedModel, OfferState, Provider
from providers.services import propose_model
from providers.sole_run import SoleWork, sole_run
from providers.types import ListedModel, Target
from tenants.models import Operator

logger = logging.getLogger(__name__)

LARGEST_COUNT = 2**31 - 1
"""Tokens, as a row can hold them."""


class ModelListError(Exception):
    """A list that could not be had, or a listed model that cannot be proposed; in words for an operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How a provider's list stands to what is deployed here; names as the provider has them, sorted."""

    new: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)
    """Deployed here and not in the list, now or ever: an alias, or a mistake."""
    unusable: int = 0
    """Entries whose names are too long or cannot be printed; they are left out."""

    def as_text(self) -> str:
        """In one line, such as "2 new, 3 known, 0 ignored, 1 gone"."""
        counts = f"{len(self.new)} new, {len(self.known)} known, {len(self.ignored)} ignored, {len(self.gone)} gone"
        unlisted = f"; deployed here but not listed: {', '.join(self.unlisted)}" if self.unlisted else ""
        return counts + unlisted + (f"; {self.unusable} entries with unusable names" if self.unusable else "")


def compare_models(provider: Provider) -> Comparison:
    """Ask a provider for its models now, and write down what is found.

    Raises `ModelListError`; then nothing changes.
    """
    (outcome,) = _fetch([provider])
    if isinstance(outcome, str):
        raise ModelListError(f"{provider.name} has no list of models to compare: {outcome}")
    return _compare(provider, outcome)


def sync_models(providers: Sequence[Provider]) -> dict[str, Comparison | str]:
    """Compare the lists of several providers, asked at the same time; by name what was found, or why nothing was.

    While another run is under way it does nothing and returns nothing.
    """
    with sole_run(SoleWork.MODEL_LISTS) as is_sole:
        if not is_sole:
            return {}
        found: dict[str, Comparison | str] = {}
        for provider, outcome in zip(providers, _fetch(providers), strict=True):
            if isinstance(outcome, str):
                logger.warning("models.not_listed", extra={"provider": provider.name, "reason": outcome})
                found[provider.name] = outcome
            else:
                found[provider.name] = _compare(provider, outcome)
        return found


def _fetch(providers: Sequence[Provider]) -> list[list[ListedModel] | str]:
    """Each provider's list, or why there is none."""
    outcomes: dict[int, list[ListedModel] | str] = {}
    targets: dict[int, Target] = {}
    for place, provider in enumerate(providers):
        try:
            targets[place] = target_of(provider, provider.credentials.filter(enabled=True).order_by("pk").first())
        except CredentialError as error:
            outcomes[place] = str(error)
    for place, listed in zip(targets, list_all(list(targets.values())), strict=True):
        outcomes[place] = listed.message if isinstance(listed, ProviderError) else listed
    return [outcomes[place] for place in range(len(providers))]


@transaction.atomic
def _compare(provider: Provider, listed: Iterable[ListedModel]) -> Comparison:
    """Bring the findings up to date: nothing is deleted, and what an operator ignores stays ignored."""
    Provider.objects.select_for_update(no_key=True).get(pk=provider.pk)  # two comparisons would write the same rows
    now = timezone.now()
    listed = list(listed)
    usable = {model.id: model for model in listed if _is_usable(model.id)}
    deployed = set(Deployment.objects.filter(provider=provider).values_list("upstream_model", flat=True))
    rows = {row.upstream_model: row for row in OfferedModel.objects.filter(provider=provider)}
    added = [OfferedModel(provider=provider, upstream_model=name, first_seen_at=now) for name in usable.keys() - rows]
    for row in (*rows.values(), *added):
        model = usable.get(row.upstream_model)
        if model is not None:
            _describe(row, model)
            row.last_seen_at = now
        row.state = _state_of(row, is_listed=model is not None and not model.retired, deployed=deployed)
    OfferedModel.objects.bulk_create(added)
    described = ["display_name", "context_window", "max_output_tokens", "last_seen_at", "state"]
    OfferedModel.objects.bulk_update(rows.values(), described, batch_size=500)
    by_state: dict[str, list[str]] = {state: [] for state in OfferState.values}
    for row in (*rows.values(), *added):
        by_state[row.state].append(row.upstream_model)
    names = {state: sorted(found) for state, found in by_state.items()}
    unlisted = sorted(deployed - usable.keys() - rows.keys())
    return Comparison(**names, unlisted=unlisted, unusable=sum(not _is_usable(model.id) for model in listed))


def _is_usable(name: str) -> bool:
    return 0 < len(name) <= 200 and name.isprintable()


def _describe(row: OfferedModel, model: ListedModel) -> None:
    row.display_name = "".join(letter for letter in model.display_name if letter.isprintable())[:200]
    row.context_window = _count(model.context_window)
    row.max_output_tokens = _count(model.max_output_tokens)


def _count(tokens: int | None) -> int | None:
    return tokens if tokens is not None and 0 < tokens <= LARGEST_COUNT else None


def _state_of(row: OfferedModel, *, is_listed: bool, deployed: set[str]) -> OfferState:
    if row.state == OfferState.IGNORED and row.upstream_model not in deployed:
        return OfferState.IGNORED
    if not is_listed:
        return OfferState.GONE
    return OfferState.KNOWN if row.upstream_model in deployed else OfferState.NEW


@transaction.atomic
def propose_offered(offered: OfferedModel, *, by: Operator | None) -> Model:
    """Make a new finding a proposed model with a deployment, which serves nobody until it is approved.

    It has the provider's own name for it, with the provider's before it where that is taken here. What it can do is for
    an operator to say: no list tells. Raises `ModelListError`.
    """
    locked = OfferedModel.objects.select_for_update(of=("self",)).select_related("provider").get(pk=offered.pk)
    if locked.state != OfferState.NEW:
        raise ModelListError(f"{locked} is {locked.get_state_display().lower()}: only a new one can be proposed.")
    model = Model(
        name=_free_name(locked), context_window=locked.context_window, max_output_tokens=locked.max_output_tokens
    )
    try:
        model.full_clean(exclude=["capabilities"])
    except ValidationError as error:
        problem = " ".join(error.messages)
        raise ModelListError(f"{locked} cannot be proposed as {model.name!r}; add it by hand. {problem}") from error
    propose_model(model, by=by, reason=f"listed by {locked.provider.name}")
    Deployment.objects.create(model=model, provider=locked.provider, upstream_model=locked.upstream_model)
    _move(locked, OfferState.KNOWN)
    offered.state = locked.state
    return model


def _free_name(offered: OfferedModel) -> str:
    name = offered.upstream_model
    is_taken = Model.objects.filter(name=name).exists() or ModelGroup.objects.filter(name=name).exists()
    return f"{offered.provider.name}/{name}" if is_taken else name


def ignore_offered(offered: OfferedModel) -> None:
    """Keep a new finding out of the way, for good."""
    _move(offered, OfferState.IGNORED)


def consider_offered(offered: OfferedModel) -> None:
    """Have an ignored finding count as new again; the next comparison says whether it is still there."""
    _move(offered, OfferState.NEW)


def _move(offered: OfferedModel, state: OfferState) -> None:
    offered.state = state
    offered.save(update_fields=["state"])
