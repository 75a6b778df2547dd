"""Admin pages for models: what each can do, where it is deployed, and its lifecycle."""

from __future__ import annotations

from collections.abc import Callable

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from providers.models import Capability, Deployment, Lifecycle, LifecycleChange, Model
from providers.services import ALLOWED_MOVES, LifecycleError, move_model, propose_model
from tenants.models import Operator
from tenants.operator_admin import OperatorModelAdmin, ReadOnlyInline, operator_action, operator_of, utc


class DeploymentInline(ReadOnlyInline):
    """Where a model is served."""

    model = Deployment
    fields = ("provider", "upstream_model", "credential_name", "priority", "weight", "enabled")
    readonly_fields = fields
    show_change_link = True

    @display(description="Credential")
    def credential_name(self, deployment: Deployment) -> str:
        return deployment.credential.name if deployment.credential else "the provider's first"

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Deployment]:
        rows: models.QuerySet[Deployment] = (
            super().get_queryset(request).select_related("provider", "credential", "model")
        )
        return rows


class LifecycleInline(ReadOnlyInline):
    """Who moved a model, when and why."""

    model = LifecycleChange
    fields = (utc("changed_at", "When"), "from_state", "to_state", "changed_by", "reason", "stood_on")
    readonly_fields = fields
    verbose_name_plural = "lifecycle"

    @display(description="On what")
    def stood_on(self, change: LifecycleChange) -> SafeString | str:
        return format_html_join("", '<span class="remark">{}</span><br>', ((line,) for line in change.evidence)) or "-"

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[LifecycleChange]:
        rows: models.QuerySet[LifecycleChange] = super().get_queryset(request).select_related("changed_by", "model")
        return rows


def _moves_to(state: Lifecycle) -> Callable[[Model], bool]:
    return lambda model: state in ALLOWED_MOVES[model.lifecycle]


@admin.register(Model)
class RegisteredModelAdmin(OperatorModelAdmin):
    """What clients may ask for, and where it stands in its life."""

    list_display = ("name", "show_lifecycle", "capability_names", "context_window", "max_output_tokens", "successor")
    list_select_related = ("successor",)
    list_filter = (("lifecycle", ChoicesDropdownFilter),)
    search_fields = ("name",)
    autocomplete_fields = ("successor",)
    fields = ("name", "lifecycle", "capabilities", "context_window", "max_output_tokens", "successor")
    readonly_fields = ("lifecycle",)
    inlines = (DeploymentInline, LifecycleInline)
    change_form_template = "admin/providers/model/change_form.html"
    object_actions: tuple[str, ...] = ("approve", "deprecate", "retire", "propose")
    buttons_in_list = True
    empty_hint = "A model is what clients ask for by name: add it, say where it is deployed, then approve it."

    @display(
        description="Lifecycle",
        ordering="lifecycle",
        label={
            Lifecycle.PROPOSED: "info",
            Lifecycle.APPROVED: "success",
            Lifecycle.DEPRECATED: "warning",
            Lifecycle.RETIRED: "danger",
        },
    )
    def show_lifecycle(self, model: Model) -> tuple[str, str]:
        return model.lifecycle, model.get_lifecycle_display()

    @display(description="Capabilities")
    def capability_names(self, model: Model) -> str:
        return ", ".join(Capability(capability).label for capability in model.capabilities)

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        """Once a model has served, its name is what clients ask for and what usage was booked under."""
        named = obj is not None and obj.lifecycle != Lifecycle.PROPOSED
        return (*self.readonly_fields, "name") if named else self.readonly_fields

    def save_model(self, request: HttpRequest, obj: Model, form: forms.ModelForm[Model], change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
        else:
            propose_model(obj, by=operator_of(request))

    @operator_action(
        label="Approve", done="Approved", refusals=(LifecycleError,), offered=_moves_to(Lifecycle.APPROVED)
    )
    def approve(self, model: Model, *, by: Operator, reason: str) -> None:
        move_model(model, Lifecycle.APPROVED, by=by, reason=reason)

    @operator_action(
        label="Deprecate",
        done="Deprecated",
        question="It keeps answering calls, and its callers should move to its successor.",
        refusals=(LifecycleError,),
        offered=_moves_to(Lifecycle.DEPRECATED),
    )
    def deprecate(self, model: Model, *, by: Operator, reason: str) -> None:
        move_model(model, Lifecycle.DEPRECATED, by=by, reason=reason)

    @operator_action(
        label="Retire",
        done="Retired",
        question="It stops answering calls in every process within two seconds.",
        refusals=(LifecycleError,),
        offered=_moves_to(Lifecycle.RETIRED),
    )
    def retire(self, model: Model, *, by: Operator, reason: str) -> None:
        move_model(model, Lifecycle.RETIRED, by=by, reason=reason)

    @operator_action(
        label="Propose again", done="Proposed", refusals=(LifecycleError,), offered=_moves_to(Lifecycle.PROPOSED)
    )
    def propose(self, model: Model, *, by: Operator, reason: str) -> None:
        move_model(model, Lifecycle.PROPOSED, by=by, reason=reason)
