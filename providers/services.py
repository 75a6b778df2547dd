"""Decisions about the registry: a model's lifecycle, and which tenant may use what."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from providers.models import ApprovalState, Lifecycle, LifecycleChange, Model, ModelGroup, TenantApproval
from tenants.models import Operator, Tenant

ALLOWED_MOVES: dict[str, frozenset[str]] = {
    Lifecycle.PROPOSED: frozenset({Lifecycle.APPROVED, Lifecycle.RETIRED}),
    Lifecycle.APPROVED: frozenset({Lifecycle.DEPRECATED, Lifecycle.RETIRED}),
    Lifecycle.DEPRECATED: frozenset({Lifecycle.APPROVED, Lifecycle.RETIRED}),
    Lifecycle.RETIRED: frozenset({Lifecycle.PROPOSED}),
}


class LifecycleError(ValueError):
    """A move the lifecycle does not have, in words for the operator."""


@transaction.atomic
def propose_model(model: Model, *, by: Operator | None, reason: str = "") -> Model:
    """Save a new model as proposed and record who did."""
    model.lifecycle = Lifecycle.PROPOSED
    model.save()
    LifecycleChange.objects.create(model=model, to_state=Lifecycle.PROPOSED, changed_by=by, reason=reason)
    return model


@transaction.atomic
def move_model(model: Model, to_state: Lifecycle, *, by: Operator | None, reason: str = "") -> None:
    """Move a model along its lifecycle and record who did. Raises `LifecycleError` for a move that does not exist.

    Approval asks for what a call would need: a deployment that is switched on, and something the model can do.
    """
    locked = Model.objects.select_for_update().get(pk=model.pk)
    if to_state not in ALLOWED_MOVES[locked.lifecycle]:
        allowed = ", ".join(sorted(ALLOWED_MOVES[locked.lifecycle]))
        raise LifecycleError(f"{locked.name} is {locked.lifecycle}; from there it can become {allowed}.")
    if to_state == Lifecycle.APPROVED and not locked.deployments.filter(enabled=True).exists():
        raise LifecycleError(f"{locked.name} has no enabled deployment: add one before approving it.")
    if to_state == Lifecycle.APPROVED and not locked.capabilities:
        raise LifecycleError(f"{locked.name} has no capabilities: say what it can do before approving it.")
    LifecycleChange.objects.create(
        model=locked, from_state=locked.lifecycle, to_state=to_state, changed_by=by, reason=reason
    )
    locked.lifecycle = to_state
    locked.save(update_fields=["lifecycle"])
    model.lifecycle = to_state


def decide_approval(approval: TenantApproval, state: ApprovalState, *, by: Operator | None) -> None:
    """Approve, reject or suspend a tenant's use of a model or group."""
    approval.state = state
    approval.decided_by = by
    approval.decided_at = timezone.now()
    approval.save(update_fields=["state", "decided_by", "decided_at"])


def approve_for_tenant(tenant: Tenant, target: Model | ModelGroup, *, by: Operator | None) -> TenantApproval:
    """Let a tenant use a model or group, whether or not it was asked for."""
    chosen = {"model": target} if isinstance(target, Model) else {"group": target}
    approval, _ = TenantApproval.objects.get_or_create(tenant=tenant, **chosen)
    if approval.state != ApprovalState.APPROVED:
        decide_approval(approval, ApprovalState.APPROVED, by=by)
    return approval
