"""Questions about the registry, answered from the database: read into frozen objects that the hot path keeps."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass, field

from django.db.models import Prefetch

from providers.credentials import CredentialError, decrypt_secret
from providers.models import (
    AgentType,
    ApprovalState,
    Credential,
    Deployment,
    GroupMember,
    Lifecycle,
    Model,
    ModelGroup,
    TenantApproval,
)
from providers.types import Target

logger = logging.getLogger(__name__)

SERVING = frozenset({Lifecycle.APPROVED.value, Lifecycle.DEPRECATED.value})


@dataclass(frozen=True, slots=True)
class WeightedTarget:
    """A deployment's place among those of its model."""

    target: Target
    priority: int
    weight: int


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
            deployments[row.model_id].append(WeightedTarget(_target(row, secret), row.priority, row.weight))
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
            created=int(group.created_at.timestamp()),
            members=tuple(member.model.name for member in group.members.all()),
        )
        for group in ModelGroup.objects.prefetch_related(members)
    }
    return Catalogue(models, groups, dict(AgentType.objects.values_list("name", "target")))


def _open_secrets() -> dict[int, dict[int, str]]:
    """Decrypted secrets by provider and credential; one that does not open is left out and reported."""
    secrets: dict[int, dict[int, str]] = defaultdict(dict)
    for credential in Credential.objects.filter(enabled=True).select_related("provider").order_by("pk"):
        try:
            secrets[credential.provider_id][credential.pk] = decrypt_secret(credential)
        except CredentialError as error:
            logger.error("registry.credential_unusable", extra={"credential": str(credential), "reason": str(error)})
    return secrets


def _secret_of(deployment: Deployment, secrets: dict[int, dict[int, str]]) -> tuple[bool, str | None]:
    """Whether the deployment can be called as far as its credential goes, and with which secret."""
    available = secrets.get(deployment.provider_id, {})
    if deployment.credential_id is not None:
        return deployment.credential_id in available, available.get(deployment.credential_id)
    return True, next(iter(available.values()), None)


def _target(deployment: Deployment, secret: str | None) -> Target:
    provider = deployment.provider
    return Target(
        deployment_id=deployment.pk,
        model_id=deployment.model_id,
        model_name=deployment.model.name,
        provider_name=provider.name,
        kind=provider.kind,
        base_url=provider.base_url.rstrip("/"),
        allow_private_network=provider.allow_private_network,
        secret=secret,
        upstream_model=deployment.upstream_model,
        context_window=deployment.model.context_window,
        max_output_tokens=deployment.model.max_output_tokens,
    )


def approved_names(tenant_id: int) -> frozenset[str]:
    """Names of the models and groups a tenant may ask for. One query."""
    rows = TenantApproval.objects.filter(tenant_id=tenant_id, state=ApprovalState.APPROVED)
    return frozenset(model or group for model, group in rows.values_list("model__name", "group__name"))
