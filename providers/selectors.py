"""Questions about the registry, answered from the database: read into frozen objects that the hot path keeps."""

from __future__ import annotations

import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.db.models import Prefetch

from providers.credentials import CredentialError, decrypt_secret
from providers.models import (
    AgentType,
    ApprovalState,
    Capability,
    Credential,
    Deployment,
    GroupMember,
    Lifecycle,
    Model,
    ModelGroup,
    ProbeStatus,
    Provider,
    ProviderHealth,
    TenantApproval,
)
from providers.registry import adapter_for
from providers.types import OnDisconnect, Target, TimeoutOverrides

logger = logging.getLogger(__name__)

FOR_EVER = dt.datetime.max.replace(tzinfo=dt.UTC)

TIMEOUTS = ("connect", "first_token", "idle", "total")

SERVING = frozenset({Lifecycle.APPROVED.value, Lifecycle.DEPRECATED.value})
WORST_FIRST = (ProbeStatus.FAILING, ProbeStatus.UNKNOWN, ProbeStatus.OK)


@dataclass(frozen=True, slots=True)
class _Secret:
    """A credential, opened. `version` changes with the secret."""

    credential_id: int
    version: int
    text: str


@dataclass(frozen=True, slots=True)
class WeightedTarget:
    """A deployment's place among those of its model."""

    target: Target
    priority: int
    weight: int
    drained_until: dt.datetime | None = None
    """Until when an operator keeps new calls from it; None: they may come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A model as the data plane sees it."""

    id: int
    name: str
    capabilities: frozenset[str]
    context_window: int | None
    max_output_tokens: int | None
    lifecycle: str
    successor: str | None
    created: int
    deployments: tuple[WeightedTarget, ...]

    @property
    def pool(self) -> tuple[int, ...]:
        """The ids of all its deployments: no more than half of them are ever given up for broken."""
        return tuple(deployment.target.deployment_id for deployment in self.deployments)

    @property
    def serves(self) -> bool:
        """Whether its lifecycle lets it answer calls."""
        return self.lifecycle in SERVING

    @property
    def owned_by(self) -> str:
        """The provider that is tried first."""
        return self.deployments[0].target.provider_name if self.deployments else "bursar"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupEntry:
    """A group and its members' names, in order."""

    name: str
    strategy: str
    created: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The whole registry at one moment."""

    models: dict[str, ModelEntry] = field(default_factory=dict)
    groups: dict[str, GroupEntry] = field(default_factory=dict)
    agent_types: dict[str, str] = field(default_factory=dict)


def load_catalogue() -> Catalogue:
    """Read the registry: a fixed number of queries, whatever its size."""
    secrets = _open_secrets()
    deployments: dict[int, list[WeightedTarget]] = defaultdict(list)
    rows = Deployment.objects.filter(enabled=True, provider__enabled=True).select_related("provider", "model")
    for row in rows.order_by("model_id", "priority", "pk"):
        found, secret = _secret_of(row, secrets)
        if found:
            deployments[row.model_id].append(
                WeightedTarget(_target(row, secret), row.priority, row.weight, _drained_until(row))
            )
    models = {
        model.name: ModelEntry(
            id=model.pk,
            name=model.name,
            capabilities=frozenset(model.capabilities),
            context_window=model.context_window,
            max_output_tokens=model.max_output_tokens,
            lifecycle=model.lifecycle,
            successor=model.successor.name if model.successor else None,
            created=int(model.created_at.timestamp()),
            deployments=tuple(deployments[model.pk]),
        )
        for model in Model.objects.select_related("successor")
    }
    members = Prefetch("members", GroupMember.objects.select_related("model").order_by("position", "pk"))
    groups = {
        group.name: GroupEntry(
            name=group.name,
            strategy=group.strategy,
            created=int(group.created_at.timestamp()),
            members=tuple(member.model.name for member in group.members.all()),
        )
        for group in ModelGroup.objects.prefetch_related(members)
    }
    return Catalogue(models, groups, dict(AgentType.objects.values_list("name", "target")))


def _open_secrets() -> dict[int, dict[int, _Secret]]:
    """Decrypted secrets by provider and credential; one that does not open is left out and reported."""
    secrets: dict[int, dict[int, _Secret]] = defaultdict(dict)
    for credential in Credential.objects.filter(enabled=True).select_related("provider").order_by("pk"):
        try:
            text = decrypt_secret(credential)
        except CredentialError as error:
            logger.error("registry.credential_unusable", extra={"credential": str(credential), "reason": str(error)})
        else:
            version = int(credential.changed_at.timestamp() * 1000)
            secrets[credential.provider_id][credential.pk] = _Secret(credential.pk, version, text)
    return secrets


def _secret_of(deployment: Deployment, secrets: dict[int, dict[int, _Secret]]) -> tuple[bool, _Secret | None]:
    """Whether the deployment can be called as far as its credential goes, and with which secret."""
    available = secrets.get(deployment.provider_id, {})
    if deployment.credential_id is not None:
        return deployment.credential_id in available, available.get(deployment.credential_id)
    return True, next(iter(available.values()), None)


def _target(deployment: Deployment, secret: _Secret | None) -> Target:
    provider = deployment.provider
    return Target(
        deployment_id=deployment.pk,
        model_id=deployment.model_id,
        model_name=deployment.model.name,
        provider_name=provider.name,
        kind=provider.kind,
        base_url=provider.base_url.rstrip("/"),
        allow_private_network=provider.allow_private_network,
        secret=secret.text if secret else None,
        credential_id=secret.credential_id if secret else None,
        credential_version=secret.version if secret else 0,
        upstream_model=deployment.upstream_model,
        context_window=deployment.model.context_window,
        max_output_tokens=deployment.model.max_output_tokens,
        on_disconnect=OnDisconnect(provider.on_disconnect or adapter_for(provider.kind).on_disconnect),
        reasons=Capability.REASONING in deployment.model.capabilities,
        timeouts=TimeoutOverrides(**{name: _timeout(deployment, name) for name in TIMEOUTS}),
    )


def _drained_until(deployment: Deployment) -> dt.datetime | None:
    if deployment.drained_at is None:
        return None
    return deployment.drained_until or FOR_EVER


def _timeout(deployment: Deployment, name: str) -> int | None:
    own: int | None = getattr(deployment, f"{name}_timeout_seconds")
    general: int | None = getattr(deployment.provider, f"{name}_timeout_seconds")
    return own if own is not None else general


def approved_names(tenant_id: int) -> frozenset[str]:
    """Names of the models and groups a tenant may ask for. One query."""
    rows = TenantApproval.objects.filter(tenant_id=tenant_id, state=ApprovalState.APPROVED)
    return frozenset(model or group for model, group in rows.values_list("model__name", "group__name"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderStanding:
    """An enabled provider as its last probes have it; the worst of its credentials speaks for it."""

    name: str
    status: str
    checked_at: dt.datetime | None
    latency_ms: int | None
    average_latency_ms: int | None
    last_error: str
    deployments: tuple[tuple[int, str], ...]
    """Id and model of each that is enabled."""


def provider_standings() -> list[ProviderStanding]:
    """Every enabled provider, by name. Three queries."""
    deployments = Prefetch("deployments", Deployment.objects.filter(enabled=True).select_related("model"))
    rows = Provider.objects.filter(enabled=True).prefetch_related("health", deployments).order_by("name")
    return [_standing_of(row) for row in rows]


def _standing_of(provider: Provider) -> ProviderStanding:
    health = worst_of(provider.health.all())
    return ProviderStanding(
        name=provider.name,
        status=health.status if health else ProbeStatus.UNKNOWN.value,
        checked_at=health.checked_at if health else None,
        latency_ms=health.latency_ms if health else None,
        average_latency_ms=health.average_latency_ms if health else None,
        last_error=health.last_error if health else "",
        deployments=tuple((deployment.pk, deployment.model.name) for deployment in provider.deployments.all()),
    )


def worst_of(health: Iterable[ProviderHealth]) -> ProviderHealth | None:
    """The row that speaks for a provider with several credentials; None before the first probe."""
    return min(health, key=lambda row: WORST_FIRST.index(ProbeStatus(row.status)), default=None)
