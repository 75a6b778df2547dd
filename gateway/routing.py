"""Which deployments may answer a call, in the order they are tried."""

from __future__ import annotations

import random
from itertools import groupby

from gateway.context import Call
from gateway.errors import (
    CapabilityNotSupportedError,
    ModelNotApprovedError,
    ModelNotFoundError,
    ProviderUnavailableError,
    ValidationError,
)
from providers.models import Lifecycle
from providers.registry import adapter_for
from providers.selectors import Catalogue, ModelEntry, WeightedTarget
from providers.types import Target

AUTO = "auto"
"""The model name that leaves the choice to the caller's agent type."""


def candidates(catalogue: Catalogue, call: Call) -> list[Target]:
    """The deployments to try, best first. Raises the error that says why there is none."""
    name = requested_name(catalogue, call)
    group = catalogue.groups.get(name)
    if group is not None:
        models = [catalogue.models[member] for member in group.members if member in catalogue.models]
    elif name in catalogue.models:
        models = [catalogue.models[name]]
    else:
        raise ModelNotFoundError(f"There is no model or group called {name!r}.", param="model")
    _check_approval(name, call, model=None if group else models[0])
    models = [model for model in models if model.serves]
    _check_capabilities(name, call, models=models)
    targets = [target for model in models if call.needs <= model.capabilities for target in in_order(model.deployments)]
    targets = [target for target in targets if call.operation in adapter_for(target.kind).operations]
    if not targets:
        raise ProviderUnavailableError(f"{name!r} has no enabled deployment at the moment.", attempts=[])
    return targets


def requested_name(catalogue: Catalogue, call: Call) -> str:
    """The model or group a call asks for, `auto` resolved by its agent type."""
    if call.requested_model != AUTO:
        return call.requested_model
    agent_type = call.attribution.agent_type
    if agent_type not in catalogue.agent_types:
        raise ValidationError(
            f"model 'auto' needs an X-Agent-Type header that an operator has mapped; {agent_type!r} is not.",
            param="model",
        )
    return catalogue.agent_types[agent_type]


def in_order(deployments: tuple[WeightedTarget, ...]) -> list[Target]:
    """By priority; deployments of one priority in a random order that follows their weights."""
    if len(deployments) == 1:
        return [deployments[0].target]
    ordered: list[Target] = []
    for _, peers in groupby(deployments, key=lambda deployment: deployment.priority):
        drawn = sorted(peers, key=lambda deployment: random.random() ** (1 / deployment.weight), reverse=True)
        ordered.extend(deployment.target for deployment in drawn)
    return ordered


def _check_approval(name: str, call: Call, *, model: ModelEntry | None) -> None:
    """A group is approved as a whole; a model must itself be in a state that serves."""
    if model is not None and model.lifecycle == Lifecycle.RETIRED:
        hint = f" Use {model.successor!r} instead." if model.successor else ""
        raise ModelNotFoundError(f"The model {name!r} is retired.{hint}", param="model")
    if name not in call.caller.approved or (model is not None and not model.serves):
        raise ModelNotApprovedError(
            f"{name!r} exists, but no operator has approved it for tenant {call.caller.principal.tenant_name!r}.",
            param="model",
        )


def _check_capabilities(name: str, call: Call, *, models: list[ModelEntry]) -> None:
    if not models or any(call.needs <= model.capabilities for model in models):
        return
    missing = min((sorted(call.needs - model.capabilities) for model in models), key=len)
    raise CapabilityNotSupportedError(
        f"{name!r} cannot do what this request needs: {', '.join(missing)}.", param="model", capability=missing[0]
    )
