"""Making providers, models, groups and agent types match the file."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from gateway.configuration.document import DeploymentEntry, GroupEntry, ModelEntry, ProviderEntry
from gateway.configuration.errors import ConfigurationError
from gateway.configuration.prices import apply_prices
from gateway.configuration.report import Report
from gateway.configuration.rows import fill, find, put
from gateway.configuration.source import Source, Value
from providers.credentials import CredentialError, decrypt_secret, store_credential
from providers.models import AgentType, Credential, Deployment, GroupMember, Lifecycle, Model, ModelGroup, Provider
from providers.services import ALLOWED_MOVES, LifecycleError, move_model, propose_model

REASON = "apply"
"""What the lifecycle's history says about a move that a file made."""


def apply_provider(entry: ProviderEntry, report: Report) -> None:
    """Create or change a provider and, when the file gives one, its `default` credential."""
    provider = Provider.objects.filter(name=entry.name).first() or Provider(name=entry.name)
    wanted = {
        "kind": entry.kind,
        "base_url": entry.base_url,
        "allow_private_network": entry.allow_private_network,
        "on_disconnect": entry.on_disconnect,
        **entry.timeouts,
        "enabled": entry.enabled,
    }
    subject = f"provider {entry.name}"
    put(provider, wanted, source=entry.source, subject=subject, report=report)
    if entry.api_key is not None and _stored_secret(provider) != entry.api_key:
        credential = store_credential(provider, entry.api_key)
        if not credential.enabled:
            credential.enabled = True
            credential.save(update_fields=["enabled"])
        report.changed(subject, ["api_key"])


def _stored_secret(provider: Provider) -> str | None:
    """What the default credential holds; None when there is none that can be used."""
    credential = Credential.objects.filter(provider=provider, name="default", enabled=True).first()
    try:
        return decrypt_secret(credential) if credential else None
    except CredentialError:
        return None


def apply_models(entries: Sequence[ModelEntry], report: Report) -> None:
    """Create or change models, their deployments, prices and lifecycle; a successor may stand further down."""
    found = {model.name: model for model in Model.objects.filter(name__in=[entry.name for entry in entries])}
    models = [(entry, found.get(entry.name) or Model(name=entry.name)) for entry in entries]
    for entry, model in models:
        _apply_model(entry, model, report=report)
    for entry, model in models:
        successor = find(Model.objects.all(), entry.source.need("successor"), what="model") if entry.successor else None
        put(model, {"successor": successor}, source=entry.source, subject=_subject(model), report=report)


def _apply_model(entry: ModelEntry, model: Model, *, report: Report) -> None:
    wanted = {
        "capabilities": entry.capabilities,
        "context_window": entry.context_window,
        "max_output_tokens": entry.max_output_tokens,
    }
    differing = fill(model, wanted, source=entry.source)
    if model.pk is None:
        propose_model(model, by=None, reason=REASON)
        report.created(_subject(model))
    elif differing:
        model.save(update_fields=differing)
        report.changed(_subject(model), differing)
    for deployment in entry.deployments or ():
        _apply_deployment(deployment, model, report=report)
    if entry.prices is not None and apply_prices(model, entry.prices):
        report.changed(_subject(model), ["prices"])
    _apply_lifecycle(model, Lifecycle(entry.lifecycle), source=entry.source, report=report)


def _subject(model: Model) -> str:
    return f"model {model.name}"


def _apply_deployment(entry: DeploymentEntry, model: Model, *, report: Report) -> None:
    provider = find(Provider.objects.all(), entry.source.need("provider"), what="provider")
    credential = None
    if entry.credential is not None:
        at_provider = Credential.objects.filter(provider=provider)
        credential = find(at_provider, entry.source.need("credential"), what=f"credential of {provider.name}")
    identity = {"model": model, "provider": provider, "upstream_model": entry.upstream_model, "credential": credential}
    deployment = Deployment.objects.filter(**identity).first() or Deployment(**identity)
    wanted = {"priority": entry.priority, "weight": entry.weight, **entry.timeouts, "enabled": entry.enabled}
    put(deployment, wanted, source=entry.source, subject=deployment_subject(deployment), report=report)


def deployment_subject(deployment: Deployment) -> str:
    """How a report names a deployment, by all that tells it from others."""
    credential = f" with {deployment.credential.name}" if deployment.credential else ""
    return (
        f"deployment {deployment.model.name} at {deployment.provider.name} as {deployment.upstream_model}{credential}"
    )


def _apply_lifecycle(model: Model, goal: Lifecycle, *, source: Source, report: Report) -> None:
    """Move a model to the state the file gives, along the moves there are: each is recorded."""
    moves = _moves(Lifecycle(model.lifecycle), goal)
    for state in moves:
        try:
            move_model(model, state, by=None, reason=REASON)
        except LifecycleError as error:
            raise ConfigurationError(str(error), source.place_of("lifecycle")) from error
    if moves:
        report.changed(_subject(model), ["lifecycle"])


def _moves(start: Lifecycle, goal: Lifecycle) -> list[Lifecycle]:
    """The shortest way through the lifecycle; it has one from every state to every other."""
    ways: deque[list[Lifecycle]] = deque([[start]])
    while ways[0][-1] != goal:
        way = ways.popleft()
        ways.extend([*way, Lifecycle(state)] for state in sorted(ALLOWED_MOVES[way[-1]]) if state not in way)
    return ways[0][1:]


def apply_group(entry: GroupEntry, report: Report) -> None:
    """Create or change a group; members that the file does not name stay, behind those it names."""
    group = ModelGroup.objects.filter(name=entry.name).first() or ModelGroup(name=entry.name)
    subject = f"group {entry.name}"
    put(group, {"strategy": entry.strategy}, source=entry.source, subject=subject, report=report)
    if entry.members is not None and _order_members(group, entry.members):
        report.changed(subject, ["members"])


def _order_members(group: ModelGroup, members: Sequence[Value]) -> bool:
    present = {row.model_id: row for row in group.members.order_by("position", "pk")}
    named = [find(Model.objects.all(), member, what="model").pk for member in members]
    order = [*named, *(model_id for model_id in present if model_id not in named)]
    if order == list(present):
        return False
    for position, model_id in enumerate(order, start=1):
        row = present.get(model_id) or GroupMember(group=group, model_id=model_id, position=0)
        if row.position != position:
            row.position = position
            row.save()
    return True


def apply_agent_type(name: str, target: Value, *, report: Report) -> None:
    """Create an agent type, or point it at another model or group."""
    agent_type = AgentType.objects.filter(name=name).first() or AgentType(name=name)
    put(agent_type, {"target": target.text()}, source=target, subject=f"agent type {name}", report=report)
