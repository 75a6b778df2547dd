"""The admin page of what providers list: findings, for an operator to propose or ignore."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display

from providers.model_lists import ModelListError, consider_offered, ignore_offered, propose_offered
from providers.models import OfferedModel, OfferState
from tenants.models import Operator
from tenants.operator_admin import OperatorModelAdmin, operator_action, utc


def _is_new(offered: OfferedModel) -> bool:
    return offered.state == OfferState.NEW


@admin.register(OfferedModel)
class OfferedModelAdmin(OperatorModelAdmin):
    """Models that providers list, compared with those that are deployed here."""

    list_display = (
        "upstream_model", "provider", "show_state", "context_window", "max_output_tokens",
        utc("first_seen_at", "First seen"), utc("last_seen_at", "Last seen"),
    )  # fmt: skip
    list_select_related = ("provider",)
    list_filter = (("provider", AutocompleteSelectFilter), ("state", ChoicesDropdownFilter))
    search_fields = ("upstream_model", "display_name")
    fields = (
        "provider", "upstream_model", "display_name", "state", "context_window", "max_output_tokens",
        utc("first_seen_at", "First seen"), utc("last_seen_at", "Last seen"),
    )  # fmt: skip
    readonly_fields = fields
    object_actions = ("propose", "ignore", "consider")
    buttons_in_list = True
    may_be_deleted = True
    empty_hint = "Open a provider and press Compare models; each night all of them are compared."

    @display(
        description="State",
        ordering="state",
        label={
            OfferState.NEW: "info",
            OfferState.KNOWN: "success",
            OfferState.IGNORED: "warning",
            OfferState.GONE: "danger",
        },
    )
    def show_state(self, offered: OfferedModel) -> tuple[str, str]:
        return offered.state, offered.get_state_display()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @operator_action(label="Propose", done="Proposed", refusals=(ModelListError,), offered=_is_new)
    def propose(self, offered: OfferedModel, *, by: Operator, reason: str) -> None:
        propose_offered(offered, by=by)

    @operator_action(label="Ignore", done="Ignored", offered=_is_new)
    def ignore(self, offered: OfferedModel, *, by: Operator, reason: str) -> None:
        ignore_offered(offered)

    @operator_action(
        label="Consider again", done="New again", offered=lambda offered: offered.state == OfferState.IGNORED
    )
    def consider(self, offered: OfferedModel, *, by: Operator, reason: str) -> None:
        consider_offered(offered)
