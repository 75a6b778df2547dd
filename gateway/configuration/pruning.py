"""Taking away what the file does not name, within the sections and lists that it has.

What only configures is deleted. What usage and invoices refer to stays, out of use.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.configuration.apply_registry import deployment_subject
from gateway.configuration.apply_tenants import approval_subject, key_subject
from gateway.configuration.budgets import disable_budgets
from gateway.configuration.caching import prune_cache
from gateway.configuration.document import Document, GroupEntry, ModelEntry, TenantEntry
from gateway.configuration.hooks import prune_hooks
from gateway.configuration.limits import prune_limits
from gateway.configuration.report import Report
from gateway.configuration.types import prune_types
from gateway.configuration.webhooks import disable_webhooks
from providers.models import (
    AgentType,
    ApprovalState,
    Deployment,
    GroupMember,
    Lifecycle,
    Model,
    ModelGroup,
    Provider,
    TenantApproval,
)
from providers.services import move_model
from tenants.models import ApiKey, Tenant, TenantStatus
from tenants.services import revoke_key, set_tenant_status

REASON = "apply --prune"


def prune(document: Document, report: Report) -> None:
    """Prune every section the file has; run it after all of them were applied."""
    if document.tenants is not None:
        for tenant in document.tenants:
            _prune_tenant(tenant, report)
        _suspend_tenants([entry.name for entry in document.tenants], report)
    if document.types is not None:
        prune_types(None, document.types, report=report)
    if document.agent_types is not None:
        for agent_type in AgentType.objects.exclude(name__in=document.agent_types):
            agent_type.delete()
            report.pruned(f"agent type {agent_type.name}", "deleted")
    if document.groups is not None:
        for group in document.groups:
            _prune_members(group, report)
        for unnamed in ModelGroup.objects.exclude(name__in=[entry.name for entry in document.groups]):
            unnamed.delete()
            report.pruned(f"group {unnamed.name}", "deleted")
    if document.models is not None:
        for model in document.models:
            _prune_deployments(model, report)
        _retire_models([entry.name for entry in document.models], report)
    if document.providers is not None:
        _disable_providers([entry.name for entry in document.providers], report)


def _prune_tenant(entry: TenantEntry, report: Report) -> None:
    tenant = Tenant.objects.get(name=entry.name)
    if entry.approved is not None:
        approved = {value.text() for value in entry.approved}
        # A request or a refusal grants nothing, and is the operators' record.
        rows = TenantApproval.objects.filter(tenant=tenant, state=ApprovalState.APPROVED)
        for approval in rows.select_related("model", "group"):
            if approval.target_name not in approved:
                approval.delete()
                report.pruned(approval_subject(tenant, approval.target_name), "deleted")
    if entry.limits is not None:
        prune_limits(tenant, entry.limits, report=report)
    if entry.budgets is not None:
        disable_budgets(tenant, entry.budgets, report=report)
    if entry.webhooks is not None:
        disable_webhooks(tenant, entry.webhooks, report=report)
    if entry.types is not None:
        prune_types(tenant, entry.types, report=report)
    if entry.hooks is not None:
        prune_hooks(tenant, entry.hooks, report=report)
    if entry.cache is not None:
        prune_cache(tenant, entry.cache, report=report)
    if entry.keys is not None:
        named = [key.name for key in entry.keys]
        for key in ApiKey.objects.filter(tenant=tenant, revoked_at=None).exclude(name__in=named):
            revoke_key(key)
            report.pruned(key_subject(tenant, key.name), "revoked")


def _suspend_tenants(named: Iterable[str], report: Report) -> None:
    for tenant in Tenant.objects.filter(status=TenantStatus.ACTIVE).exclude(name__in=named):
        set_tenant_status(tenant, TenantStatus.SUSPENDED)
        report.pruned(f"tenant {tenant.name}", "suspended")


def _prune_members(entry: GroupEntry, report: Report) -> None:
    if entry.members is None:
        return
    named = [value.text() for value in entry.members]
    rows = GroupMember.objects.filter(group__name=entry.name).exclude(model__name__in=named)
    for member in rows.select_related("model"):
        member.delete()
        report.pruned(f"member {member.model.name} of group {entry.name}", "deleted")


def _prune_deployments(entry: ModelEntry, report: Report) -> None:
    if entry.deployments is None:
        return
    named = {(item.provider, item.upstream_model, item.credential) for item in entry.deployments}
    rows = Deployment.objects.filter(model__name=entry.name).select_related("model", "provider", "credential")
    for deployment in rows:
        credential = deployment.credential.name if deployment.credential else None
        if (deployment.provider.name, deployment.upstream_model, credential) not in named:
            subject = deployment_subject(deployment)
            deployment.delete()
            report.pruned(subject, "deleted")


def _retire_models(named: Iterable[str], report: Report) -> None:
    for model in Model.objects.exclude(lifecycle=Lifecycle.RETIRED).exclude(name__in=named):
        move_model(model, Lifecycle.RETIRED, by=None, reason=REASON)
        report.pruned(f"model {model.name}", "retired")


def _disable_providers(named: Iterable[str], report: Report) -> None:
    for provider in Provider.objects.filter(enabled=True).exclude(name__in=named):
        provider.enabled = False
        provider.save(update_fields=["enabled"])
        report.pruned(f"provider {provider.name}", "disabled")
