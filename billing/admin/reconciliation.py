"""Admin pages for reconciliation: upload what a provider says, see where it drifts from the ledger."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import display

from billing.admin.reconciliation_display import drift_chart, drift_text, rows_table
from billing.admin.statement_forms import UploadForm
from billing.models import ReconciliationRun
from billing.money import usd
from billing.reconciliation.comparison import Drift, reconcile
from tenants.operator_admin import OperatorModelAdmin, number, once, operator_of, two_lines, utc


@admin.register(ReconciliationRun)
class ReconciliationRunAdmin(OperatorModelAdmin):
    """Comparisons of providers' usage exports with the ledger. Each is kept as it was."""

    form = UploadForm
    list_display = ("about", "tokens_column", "cost_column", "lines_column", utc("created_at", "Compared"))
    list_display_links = ("about",)
    list_select_related = ("provider", "created_by")
    list_filter = (("provider", AutocompleteSelectFilter),)
    search_fields = ("provider__name", "file_name")
    autocomplete_fields = ("provider",)
    ordering = ("-created_at", "-pk")
    sortable_by = ()
    list_fullwidth = True
    empty_hint = "Upload a provider's usage export (CSV of day, model, tokens, cost) to compare it with the ledger."
    recorded = (
        "provider", "file_name", "days", "lines", "tokens_column", "cost_column", utc("created_at", "Compared"),
        "created_by", "file_hash",
    )  # fmt: skip

    @display(description="Provider")
    def about(self, run: ReconciliationRun) -> SafeString:
        return two_lines(run.provider.name, f"{run.first_day} to {run.last_day}")

    @display(description="Days, UTC")
    def days(self, run: ReconciliationRun) -> str:
        return f"{run.first_day} to {run.last_day}"

    @display(description="Tokens: theirs, drift")
    def tokens_column(self, run: ReconciliationRun) -> SafeString:
        drift = Drift(theirs=run.their_tokens, ours=run.our_tokens)
        return number(two_lines(f"{run.their_tokens:,}", drift_text(drift, f"{drift.difference:+,}")))

    @display(description="Cost, USD: theirs, drift")
    def cost_column(self, run: ReconciliationRun) -> SafeString:
        drift = Drift(theirs=run.their_cost_nano_usd, ours=run.our_cost_nano_usd)
        return number(two_lines(usd(run.their_cost_nano_usd), drift_text(drift, usd(drift.difference))))

    @display(description="Lines")
    def lines_column(self, run: ReconciliationRun) -> SafeString:
        return number(f"{run.lines:,}")

    @display(description="Cost drift by day")
    @once
    def chart(self, run: ReconciliationRun) -> SafeString:
        return drift_chart(run)

    @display(description="By day and model")
    @once
    def table(self, run: ReconciliationRun) -> SafeString:
        return rows_table(run)

    def get_fieldsets(self, request: HttpRequest, obj: ReconciliationRun | None = None) -> Any:
        if obj is None:
            return ((None, {"fields": ("provider", "file")}),)
        return ((None, {"fields": self.recorded}), ("Drift", {"fields": ("chart", "table")}))

    def get_readonly_fields(self, request: HttpRequest, obj: ReconciliationRun | None = None) -> Any:
        return (*self.recorded, "chart", "table") if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def save_model(
        self, request: HttpRequest, obj: ReconciliationRun, form: forms.ModelForm[ReconciliationRun], change: bool
    ) -> None:
        saved = reconcile(obj.provider, form.cleaned_data["file"], by=operator_of(request))
        obj.pk = saved.pk
        obj.refresh_from_db()
