"""The admin page of voice sessions: which there are, why they ended, what they used."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display

from billing.money import usd
from gateway.realtime.models import RealtimeSession
from gateway.realtime.rows import summary_of_charges
from tenants.operator_admin import OperatorModelAdmin, number, two_lines, utc


@admin.register(RealtimeSession)
class RealtimeSessionAdmin(OperatorModelAdmin):
    """Sessions as their process wrote them down; nobody edits them."""

    list_display = ("opened", "tenant_column", "model_column", "show_state", "duration", "cost")
    list_select_related = ("tenant", "api_key")
    list_filter = (("tenant", AutocompleteSelectFilter), ("reason", ChoicesDropdownFilter))
    search_fields = ("id",)
    search_help_text = "An exact session id"
    sortable_by = ()
    show_full_result_count = False
    list_fullwidth = True
    empty_hint = (
        "Sessions of /v1/realtime are listed here from their handshake on. Approve a voice model for a tenant first."
    )
    fields = (
        "id", "tenant", "api_key", "user", "conversation", "requested_model", "model_name", "provider_name",
        utc("opened_at", "Opened"), utc("closed_at", "Closed"), "reason", "close_code", "cost", "used", "charges",
    )  # fmt: skip
    readonly_fields = ("cost", "used", "charges")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[RealtimeSession], search_term: str
    ) -> tuple[models.QuerySet[RealtimeSession], bool]:
        return (queryset.filter(pk=search_term.strip()) if search_term else queryset), False

    @display(description="Opened, UTC")
    def opened(self, row: RealtimeSession) -> SafeString:
        return two_lines(f"{row.opened_at:%Y-%m-%d %H:%M:%S}", row.pk)

    @display(description="Tenant, key")
    def tenant_column(self, row: RealtimeSession) -> SafeString:
        return two_lines(row.tenant.name, row.api_key.name)

    @display(description="Asked for, served by")
    def model_column(self, row: RealtimeSession) -> SafeString:
        return two_lines(row.requested_model, f"{row.model_name} at {row.provider_name}")

    @display(
        description="State",
        label={"open": "info", "ended": "success", "cut": "warning", "failed": "danger"},
    )
    def show_state(self, row: RealtimeSession) -> tuple[str, str]:
        return state_of(row), row.get_reason_display() if row.closed_at is not None else "Open"

    @display(description="Seconds")
    def duration(self, row: RealtimeSession) -> SafeString | str:
        if row.closed_at is None:
            return "-"
        return number(f"{(row.closed_at - row.opened_at).total_seconds():,.0f}")

    @display(description="Cost, USD")
    def cost(self, row: RealtimeSession) -> SafeString | str:
        return number(usd(row.cost_nano_usd)) if row.closed_at is not None else "not over yet"

    @display(description="Used")
    def used(self, row: RealtimeSession) -> str:
        usage: dict[str, Any] = row.usage or summary_of_charges(row)
        parts = [
            f"{count:,} {name.replace('_', ' ')} {side}"
            for side in ("input", "output", "transcription")
            for name, count in usage[side].items()
            if count
        ]
        return f"{usage['responses']} responses: {', '.join(parts) or 'nothing'}"

    @display(description="Charges")
    def charges(self, row: RealtimeSession) -> SafeString:
        url = reverse("admin:billing_usagerecord_changelist")
        return format_html('<a class="link" href="{}?q={}">One for each response and transcription</a>', url, row.pk)


def state_of(row: RealtimeSession) -> str:
    """In one word, for a colour."""
    if row.closed_at is None:
        return "open"
    if row.reason in ("client_close", "idle", "expired", "draining"):
        return "ended"
    return "failed" if row.reason in ("provider_closed", "gateway_lost", "error") else "cut"
