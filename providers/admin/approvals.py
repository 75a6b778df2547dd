"""Admin pages for what each tenant may use."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display

from providers.models import ApprovalState, TenantApproval
from providers.services import approve_for_tenant, decide_approval
from tenants.models import Operator
from tenants.operator_admin import OperatorModelAdmin, operator_action, operator_of, password_again, utc

REQUESTED = utc("requested_at", "Requested")
DECIDED = utc("decided_at", "Decided")


@admin.register(TenantApproval)
class TenantApprovalAdmin(OperatorModelAdmin):
    """Which tenant may use what. Adding one approves it; asking for one is the tenant's part."""

    list_display = ("tenant", "target_name", "show_state", REQUESTED, "decided_by", DECIDED)
    recorded = ("tenant", "target_name", "state", REQUESTED, "decided_by", DECIDED)
    list_select_related = ("tenant", "model", "group", "decided_by")
    list_filter = (
        ("state", ChoicesDropdownFilter),
        ("tenant", AutocompleteSelectFilter),
        ("model", AutocompleteSelectFilter),
        ("group", AutocompleteSelectFilter),
    )
    search_fields = ("tenant__name", "model__name", "group__name")
    autocomplete_fields = ("tenant", "model", "group")
    object_actions = ("approve", "reject", "suspend")
    buttons_in_list = True
    empty_hint = "A tenant may call only what is approved for it: add an approval of a model or a group."

    @display(description="Model or group")
    def target_name(self, approval: TenantApproval) -> str:
        return approval.target_name

    @display(
        description="State",
        ordering="state",
        label={
            ApprovalState.REQUESTED: "info",
            ApprovalState.APPROVED: "success",
            ApprovalState.REJECTED: "danger",
            ApprovalState.SUSPENDED: "warning",
        },
    )
    def show_state(self, approval: TenantApproval) -> tuple[str, str]:
        return approval.state, approval.get_state_display()

    def get_fieldsets(self, request: HttpRequest, obj: TenantApproval | None = None) -> Any:
        if obj is None:
            return ((None, {"fields": ("tenant", "model", "group"), "description": "Saving approves it at once."}),)
        return ((None, {"fields": self.recorded}),)

    def get_readonly_fields(self, request: HttpRequest, obj: TenantApproval | None = None) -> Any:
        return self.recorded if obj else ()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Nothing here is edited, only decided: no Save."""
        hidden = dict.fromkeys(("show_save", "show_save_and_continue", "show_save_and_add_another"), False)
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **hidden})

    def save_model(
        self, request: HttpRequest, obj: TenantApproval, form: forms.ModelForm[TenantApproval], change: bool
    ) -> None:
        target = obj.model or obj.group
        if change or target is None:
            return
        obj.pk = approve_for_tenant(obj.tenant, target, by=operator_of(request)).pk
        obj.refresh_from_db()

    @operator_action(
        label="Approve", done="Approved", offered=lambda approval: approval.state != ApprovalState.APPROVED
    )
    def approve(self, approval: TenantApproval, *, by: Operator, reason: str) -> None:
        decide_approval(approval, ApprovalState.APPROVED, by=by)

    @operator_action(
        label="Reject", done="Rejected", offered=lambda approval: approval.state == ApprovalState.REQUESTED
    )
    def reject(self, approval: TenantApproval, *, by: Operator, reason: str) -> None:
        decide_approval(approval, ApprovalState.REJECTED, by=by)

    @password_again
    @operator_action(
        label="Suspend",
        done="Suspended",
        question="This tenant's calls to it are refused within two seconds.",
        offered=lambda approval: approval.state == ApprovalState.APPROVED,
    )
    def suspend(self, approval: TenantApproval, *, by: Operator, reason: str) -> None:
        decide_approval(approval, ApprovalState.SUSPENDED, by=by)
