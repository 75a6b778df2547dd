"""Decisions about the registry: a model's lifecycle, and which tenant may use what."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from providers.models import ApprovalState, Lifecycle, LifecycleChange, Model, ModelGroup, TenantApproval
from tenants.audit import SYSTEM, record, subject_of
from tenants.models import Operator, Tenant

SERVING_STATES = frozenset({Lifecycle.APPROVED, Lifecycle.DEPRECATED})

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
def move_model(
    model: Model, to_state: Lifecycle, *, by: Operator | None, reason: str = "", evidence: Sequence[str] = ()
) -> None:
    """Move a model along its lifecycle and record who did. Raises `LifecycleError` for a move that does not exist.

    Approval asks for what a call would need: a deployment that is switched on, and something the model can do. Where
    two people have to agree (`MODEL_APPROVERS`), who approves is another one than who proposed. `evidence` is kept.
    """
    locked = Model.objects.select_for_update().get(pk=model.pk)
    if to_state not in ALLOWED_MOVES[locked.lifecycle]:
        allowed = ", ".join(sorted(ALLOWED_MOVES[locked.lifecycle]))
        raise LifecycleError(f"{locked.name} is {locked.lifecycle}; from there it can become {allowed}.")
    if to_state == Lifecycle.APPROVED and not locked.deployments.filter(enabled=True).exists():
        raise LifecycleError(f"{locked.name} has no enabled deployment: add one before approving it.")
    if to_state == Lifecycle.APPROVED and not locked.capabilities:
        raise LifecycleError(f"{locked.name} has no capabilities: say what it can do before approving it.")
    if to_state == Lifecycle.APPROVED and locked.lifecycle == Lifecycle.PROPOSED and by is not None:
        _check_second(locked, by)
    LifecycleChange.objects.create(
        model=locked,
        from_state=locked.lifecycle,
        to_state=to_state,
        changed_by=by,
        reason=reason,
        evidence=list(evidence),
    )
    locked.lifecycle = to_state
    if to_state in (Lifecycle.APPROVED, Lifecycle.PROPOSED):
        locked.retires_at = None
    locked.save(update_fields=["lifecycle", "retires_at"])
    model.lifecycle, model.retires_at = to_state, locked.retires_at


def needs_two() -> bool:
    """Whether two people have to agree to a model."""
    return bool(settings.MODEL_APPROVERS == 2)


def proposer_of(model: Model) -> Operator | None:
    """Who stands behind a proposed model: whoever proposed or seconded it last; None where no person did."""
    proposed = model.lifecycle_changes.filter(to_state=Lifecycle.PROPOSED).select_related("changed_by")
    newest = proposed.order_by("-changed_at", "-pk").first()
    return newest.changed_by if newest is not None else None


def _check_second(model: Model, by: Operator) -> None:
    if not needs_two():
        return
    first = proposer_of(model)
    if first is None:
        raise LifecycleError(f"No person has proposed {model.name}: press Second, and have somebody else approve it.")
    if first.pk == by.pk:
        raise LifecycleError(f"You proposed {model.name} yourself: here somebody else approves it.")


@transaction.atomic
def second_model(model: Model, *, by: Operator, reason: str = "") -> None:
    """Stand behind a model that no person proposed, as the first of two. Raises `LifecycleError`."""
    locked = Model.objects.select_for_update().get(pk=model.pk)
    if locked.lifecycle != Lifecycle.PROPOSED or proposer_of(locked) is not None:
        raise LifecycleError(f"{locked.name} needs no first person: it is {locked.lifecycle}, or has one.")
    state = Lifecycle.PROPOSED
    LifecycleChange.objects.create(model=locked, from_state=state, to_state=state, changed_by=by, reason=reason)


def set_end(model: Model, *, successor: Model | None, retires_at: dt.datetime | None) -> None:
    """Say what takes a model's place, and when it retires by itself. Raises `LifecycleError`."""
    if retires_at is not None and retires_at <= timezone.now():
        raise LifecycleError("The moment at which it retires has passed: choose a later one, or retire it.")
    if successor is not None and (successor.pk == model.pk or successor.lifecycle not in SERVING_STATES):
        raise LifecycleError(f"{successor.name} cannot take its place: it is {successor.lifecycle}, or the same model.")
    model.successor, model.retires_at = successor, retires_at
    model.save(update_fields=["successor", "retires_at"])


def retire_due_models() -> int:
    """Retire the deprecated models whose time has come; returns how many. Repeating it is harmless."""
    due = Model.objects.filter(lifecycle=Lifecycle.DEPRECATED, retires_at__lte=timezone.now())
    retired = 0
    for model in due:
        with transaction.atomic():
            move_model(model, Lifecycle.RETIRED, by=None, reason="Its time had come.")
            details = {"before": {"lifecycle": Lifecycle.DEPRECATED.value}, "after": {"lifecycle": model.lifecycle}}
            record("model.retired", by=SYSTEM, about=subject_of(model), details=details)
        retired += 1
    return retired


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
