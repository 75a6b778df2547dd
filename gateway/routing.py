"""Which deployments may answer a call, and why the others may not."""

from __future__ import annotations

from typing import NoReturn, Protocol

from billing.counting import count_tokens
from billing.pricing import PriceList
from gateway.context import Call, Ranking, Trace
from gateway.errors import (
    CapabilityNotSupportedError,
    ModelNotApprovedError,
    ModelNotFoundError,
    ProviderUnavailableError,
    ValidationError,
)
from gateway.health.board import Health
from gateway.strategies import STRATEGIES, View, by_priority
from providers.models import Capability, Lifecycle
from providers.registry import capabilities_of, operations_of
from providers.selectors import Catalogue, ModelEntry, WeightedTarget
from providers.types import Target

MEDIA = frozenset({Capability.VISION.value, Capability.AUDIO.value, Capability.VIDEO.value, Capability.DOCUMENTS.value})

AUTO = "auto"
"""The model name that leaves the choice to the caller's agent type."""


class Registry(Protocol):
    """What is registered and what it costs: a process's directory, or as somebody has just read it."""

    @property
    def catalogue(self) -> Catalogue: ...

    @property
    def prices(self) -> PriceList: ...


def candidates(directory: Registry, call: Call, *, health: Health, trace: Trace) -> list[Target]:
    """The deployments to try, best first. Raises the error that says why there is none.

    Whatever was left out, and why, is in the trace.
    """
    catalogue = directory.catalogue
    trace.ranking = ranking = Ranking(call)
    ranking.name = name = requested_name(catalogue, call)
    group = catalogue.groups.get(name)
    if group is not None:
        models = [catalogue.models[member] for member in group.members if member in catalogue.models]
    elif name in catalogue.models:
        models = [catalogue.models[name]]
    else:
        raise ModelNotFoundError(f"There is no model or group called {name!r}.", param="model")
    _check_approval(name, call, model=None if group else models[0])
    ranking.strategy = group.strategy if group is not None else ""
    ranking.targets = targets = rank(ranking, models, view=View(call, trace, health, directory.prices))
    return targets


def rank(ranking: Ranking, models: list[ModelEntry], *, view: View) -> list[Target]:
    """The deployments of some models that can do a call and may be asked, best first. Raises as `candidates` does.

    Who may call what, and what the registry holds, is settled before: routings that are only tried out come here too.
    """
    call, trace, health = view.call, view.trace, view.health
    models = _able(ranking.name, call, models=models, trace=trace)
    _check_protocols(ranking.name, call, models=models)
    members = [_open(model, call, health=health, trace=trace) for model in models]
    if not any(members):
        _refuse(ranking.name, models, health=health, trace=trace)
    order = STRATEGIES[ranking.strategy] if ranking.strategy else by_priority
    return order(members, view)


def _able(name: str, call: Call, *, models: list[ModelEntry], trace: Trace) -> list[ModelEntry]:
    """The models that serve and can do what is asked."""
    serving = []
    for model in models:
        if model.serves:
            serving.append(model)
        else:
            trace.skipped.append((model.name, f"the model is {model.lifecycle}"))
    _check_capabilities(name, call, models=serving)
    able = []
    for model in serving:
        missing = call.needs - model.capabilities
        if missing:
            trace.skipped.append((model.name, f"cannot do {', '.join(sorted(missing))}"))
        else:
            able.append(model)
    return _roomy(call, able, trace=trace)


def _roomy(call: Call, models: list[ModelEntry], *, trace: Trace) -> list[ModelEntry]:
    """The models whose context window holds the input, as far as its length tells: all of them when none does.

    Media say nothing by their length, so calls with media pass; where the estimate is wrong the provider says so.
    """
    if len(models) < 2 or call.needs & MEDIA:
        return models
    tokens = count_tokens(call.input_bytes)
    roomy = [model for model in models if model.context_window is None or tokens <= model.context_window]
    if not roomy:
        return models
    for model in models:
        if model not in roomy:
            trace.skipped.append((model.name, f"about {tokens} tokens do not fit its context window"))
    return roomy


def _open(model: ModelEntry, call: Call, *, health: Health, trace: Trace) -> tuple[WeightedTarget, ...]:
    """The model's deployments that may be asked now."""
    found = []
    for deployment in model.deployments:
        target = deployment.target
        objection = _beyond(call, target) or _drained(deployment, trace) or health.objection(target)
        if objection is None:
            found.append(deployment)
        else:
            trace.skipped.append((f"{target.model_name} at {target.provider_name}", objection))
    return tuple(found)


def _drained(deployment: WeightedTarget, trace: Trace) -> str:
    """Whether an operator keeps new calls from it, in words; empty for no."""
    until = deployment.drained_until
    return "drained by an operator" if until is not None and trace.started_at < until else ""


def _beyond(call: Call, target: Target) -> str:
    """What of a call the deployment's protocol cannot carry, in words; empty for nothing."""
    if call.operation not in operations_of(target.kind):
        return f"its protocol has no {call.operation}"
    missing = call.needs - capabilities_of(target.kind, call.operation)
    return f"its protocol cannot carry {', '.join(sorted(missing))}" if missing else ""


def _check_protocols(name: str, call: Call, *, models: list[ModelEntry]) -> None:
    """Where no deployment's protocol can carry what a call needs, say what it is."""
    kinds = [one.target.kind for model in models for one in model.deployments]
    carried = [capabilities_of(kind, call.operation) for kind in kinds if call.operation in operations_of(kind)]
    if carried and not any(call.needs <= capabilities for capabilities in carried):
        missing = sorted(call.needs - carried[0])
        raise CapabilityNotSupportedError(
            f"No provider of {name!r} can carry what this request needs: {', '.join(missing)}.",
            param="model",
            capability=missing[0],
        )


def _refuse(name: str, models: list[ModelEntry], *, health: Health, trace: Trace) -> NoReturn:
    """Nobody may be asked now: say why, and when to come back."""
    targets = [deployment.target for model in models for deployment in model.deployments]
    attempts = [f"{subject}: {reason}" for subject, reason in trace.skipped]
    if not targets:
        raise ProviderUnavailableError(f"{name!r} has no enabled deployment at the moment.", attempts=attempts)
    raise ProviderUnavailableError(
        f"No deployment of {name!r} may be asked at the moment.",
        retry_after_seconds=health.free_in_seconds(targets),
        attempts=attempts,
    )


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
