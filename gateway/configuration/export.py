"""The database in the form that `apply` reads, without secrets. What has its default value is left out."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from billing.selectors import price_holding
from gateway.configuration.budgets import export_budgets
from gateway.configuration.caching import export_cache
from gateway.configuration.hooks import export_hooks
from gateway.configuration.limits import export_limits
from gateway.configuration.prices import doubtful_units
from gateway.configuration.types import export_types
from gateway.configuration.webhooks import export_webhooks
from providers.models import (
    AgentType,
    ApprovalState,
    Deployment,
    Lifecycle,
    Model,
    ModelGroup,
    Provider,
    TenantApproval,
    Timeouts,
)
from providers.selectors import TIMEOUTS
from tenants.models import ApiKey, Tenant, TenantStatus

Form = dict[str, Any]


def export_document() -> Form:
    """Everything `apply` knows about; applying it to the same database changes nothing, with or without pruning.

    Revoked keys and approvals that are not granted are left out: a file cannot ask for them.
    """
    models = Model.objects.select_related("successor").order_by("pk")
    return {
        "providers": [export_provider(provider) for provider in Provider.objects.order_by("pk")],
        "models": [export_model(model) for model in models],
        "groups": [export_group(group) for group in ModelGroup.objects.order_by("pk")],
        "agent_types": dict(AgentType.objects.order_by("name").values_list("name", "target")),
        **({"types": types} if (types := export_types(None)) else {}),
        "tenants": [export_tenant(tenant) for tenant in Tenant.objects.order_by("pk")],
    }


def export_provider(provider: Provider) -> Form:
    form: Form = {"name": provider.name, "kind": provider.kind, "base_url": provider.base_url}
    if provider.allow_private_network:
        form["allow_private_network"] = True
    if provider.on_disconnect:
        form["on_disconnect"] = provider.on_disconnect
    form |= _timeouts(provider)
    if not provider.enabled:
        form["enabled"] = False
    return form


def export_model(model: Model) -> Form:
    """A model with the prices that hold now."""
    price = price_holding(model.pk, timezone.now())
    form: Form = {
        "name": model.name,
        "capabilities": model.capabilities,
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "prices": price.usd_per_million() if price else {},
        "price_tiers": price.quoted_tiers() if price else [],
        "confirm_prices": doubtful_units(model, price) if price else [],
        "lifecycle": model.lifecycle if model.lifecycle != Lifecycle.APPROVED else "",
        "successor": model.successor.name if model.successor else "",
    }
    deployments = Deployment.objects.filter(model=model).select_related("provider", "credential").order_by("pk")
    return {**_without_empty(form), "deployments": [_deployment(deployment) for deployment in deployments]}


def _deployment(deployment: Deployment) -> Form:
    form: Form = {"provider": deployment.provider.name, "upstream_model": deployment.upstream_model}
    if deployment.credential is not None:
        form["credential"] = deployment.credential.name
    form |= {"priority": deployment.priority, "weight": deployment.weight, **_timeouts(deployment)}
    if not deployment.enabled:
        form["enabled"] = False
    return form


def _timeouts(row: Timeouts) -> Form:
    set_here = {name: getattr(row, f"{name}_timeout_seconds") for name in TIMEOUTS}
    return _without_empty({"timeouts": _without_empty(set_here)})


def export_group(group: ModelGroup) -> Form:
    members = group.members.order_by("position", "pk").values_list("model__name", flat=True)
    return {"name": group.name, "strategy": group.strategy, "members": list(members)}


def export_tenant(tenant: Tenant) -> Form:
    approvals = TenantApproval.objects.filter(tenant=tenant, state=ApprovalState.APPROVED).order_by("pk")
    keys = ApiKey.objects.filter(tenant=tenant, revoked_at=None).select_related("project").order_by("pk")
    form: Form = {"name": tenant.name, "timezone": tenant.timezone, "currency": tenant.currency}
    if tenant.status != TenantStatus.ACTIVE:
        form["status"] = tenant.status
    if tenant.notify_emails:
        form["notify_emails"] = tenant.notify_emails
    return {
        **form,
        "projects": list(tenant.projects.order_by("pk").values_list("name", flat=True)),
        "approved": [approval.target_name for approval in approvals.select_related("model", "group")],
        "limits": export_limits(tenant),
        "budgets": export_budgets(tenant),
        **({"webhooks": webhooks} if (webhooks := export_webhooks(tenant)) else {}),
        **({"types": types} if (types := export_types(tenant)) else {}),
        **({"hooks": hooks} if (hooks := export_hooks(tenant)) else {}),
        **({"cache": cache} if (cache := export_cache(tenant)) else {}),
        "keys": [_key(key) for key in keys],
    }


def _key(key: ApiKey) -> Form:
    form: Form = {
        "name": key.name,
        "project": key.project.name if key.project else "",
        "user": key.user,
        "scopes": key.scopes,
        "ip_allow_list": key.ip_allow_list,
        "expires_at": key.expires_at.isoformat() if key.expires_at else "",
    }
    return _without_empty(form)


def _without_empty(form: Form) -> Form:
    return {key: value for key, value in form.items() if value not in (None, "", [], {})}
