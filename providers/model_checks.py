"""Whether a model can be had where it is deployed, asked of its providers: what an approval stands on.

It asks for the list of models, which costs nothing; a call would have to go through the pipeline, and that serves no
model before it is approved.
"""

from __future__ import annotations

from collections.abc import Sequence

from providers.asking import list_all
from providers.credentials import CredentialError
from providers.errors import ProviderError
from providers.health_checks import target_of
from providers.models import LAST_ERROR_LENGTH, Deployment, Model, ModelCheck, ProbeStatus
from providers.types import ListedModel, Target
from tenants.models import Operator

SAYS_NOTHING = frozenset({404, 405, 429, 501})
"""It answers, but has no list, or no time."""


def check_model(model: Model, *, by: Operator | None) -> list[ModelCheck]:
    """Ask each provider that serves a model for it now, and keep the answers; none for a model without a deployment."""
    deployments = list(
        model.deployments.filter(enabled=True, provider__enabled=True).select_related("provider", "credential", "model")
    )
    found: dict[int, tuple[ProbeStatus, str]] = {}
    targets: dict[int, Target] = {}
    for deployment in deployments:
        credential = (
            deployment.credential or deployment.provider.credentials.filter(enabled=True).order_by("pk").first()
        )
        try:
            targets[deployment.pk] = target_of(deployment.provider, credential)
        except CredentialError as error:
            found[deployment.pk] = (ProbeStatus.FAILING, str(error))
    by_id = {deployment.pk: deployment for deployment in deployments}
    for pk, listed in zip(targets, list_all(list(targets.values())), strict=True):
        found[pk] = _verdict(by_id[pk], listed)
    return ModelCheck.objects.bulk_create(
        ModelCheck(deployment=one, status=found[one.pk][0], words=found[one.pk][1][:LAST_ERROR_LENGTH], checked_by=by)
        for one in deployments
    )


def _verdict(deployment: Deployment, listed: Sequence[ListedModel] | ProviderError) -> tuple[ProbeStatus, str]:
    name, provider = deployment.upstream_model, deployment.provider.name
    if isinstance(listed, ProviderError):
        if listed.status in SAYS_NOTHING:
            return ProbeStatus.UNKNOWN, f"{provider} answers, and has no list of models to look in."
        return ProbeStatus.FAILING, f"{provider} could not be asked: {listed.message}"
    theirs = next((model for model in listed if model.id == name), None)
    if theirs is None:
        return ProbeStatus.UNKNOWN, f"{provider} answers, and does not list {name}: an alias, or a mistake."
    if theirs.retired:
        return ProbeStatus.FAILING, f"{provider} lists {name} as retired."
    return ProbeStatus.OK, f"{provider} takes the credential and lists {name}."


def newest_checks(models: Sequence[Model]) -> dict[int, list[ModelCheck]]:
    """The newest check of each enabled deployment, by model. One query."""
    rows = (
        ModelCheck.objects.filter(deployment__model__in=models, deployment__enabled=True)
        .select_related("deployment", "checked_by")
        .order_by("deployment_id", "-checked_at", "-pk")
        .distinct("deployment_id")
    )
    found: dict[int, list[ModelCheck]] = {model.pk: [] for model in models}
    for row in rows:
        found[row.deployment.model_id].append(row)
    return found
