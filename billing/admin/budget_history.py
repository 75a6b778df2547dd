"""Admin pages for what budgets leave behind: windows and alerts, to look at only."""

from __future__ import annotations

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import display

from billing.models import BudgetAlert, BudgetWindow
from billing.money import usd
from tenants.operator_admin import OperatorModelAdmin, number, utc


class RecordAdmin(OperatorModelAdmin):
    """Rows that only the ledger writes."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


@admin.register(BudgetWindow)
class BudgetWindowAdmin(RecordAdmin):
    """Every period of every budget. A new period is a new row, so this is a budget's history."""

    list_display = (
        "budget", "of", utc("starts_at", "From"), utc("ends_at", "To"), "spent", "held", "ceiling", "overrun",
    )  # fmt: skip
    list_select_related = ("budget__tenant",)
    list_filter = (("budget__tenant", AutocompleteSelectFilter), ("budget", AutocompleteSelectFilter))
    search_fields = ("budget__tenant__name", "subject")
    ordering = ("-starts_at", "pk")
    list_fullwidth = True
    fields = list_display
    empty_hint = "A window is opened by the first call of a period that a budget is about."

    @display(description="Of")
    def of(self, window: BudgetWindow) -> str:
        return window.subject or "all"

    @display(description="Spent, USD")
    def spent(self, window: BudgetWindow) -> SafeString:
        return number(usd(window.spent_nano_usd))

    @display(description="Held, USD")
    def held(self, window: BudgetWindow) -> SafeString:
        return number(usd(window.reserved_nano_usd))

    @display(description="Highest limit, USD")
    def ceiling(self, window: BudgetWindow) -> SafeString:
        return number(usd(window.ceiling_nano_usd))

    @display(description="Overrun, USD")
    def overrun(self, window: BudgetWindow) -> SafeString:
        return number(usd(window.overrun_nano_usd))


@admin.register(BudgetAlert)
class BudgetAlertAdmin(RecordAdmin):
    """Thresholds that were crossed, each once in a window."""

    list_display = (utc("crossed_at", "Crossed"), "budget", "of", "percentage", "spent_now", utc("sent_at", "Sent"))
    list_select_related = ("window__budget__tenant",)
    list_filter = (("window__budget__tenant", AutocompleteSelectFilter), ("window__budget", AutocompleteSelectFilter))
    search_fields = ("window__budget__tenant__name", "window__subject")
    ordering = ("-crossed_at",)
    fields = ("budget", "of", "percentage", "spent_now", utc("crossed_at", "Crossed"), utc("sent_at", "Sent"))
    empty_hint = "A row is written when spending crosses one of a budget's percentages."

    @display(description="Budget")
    def budget(self, alert: BudgetAlert) -> str:
        return str(alert.window.budget)

    @display(description="Of")
    def of(self, alert: BudgetAlert) -> str:
        return alert.window.subject or "all"

    @display(description="Threshold")
    def percentage(self, alert: BudgetAlert) -> SafeString:
        return number(f"{alert.percent} %")

    @display(description="Spent in the window, USD")
    def spent_now(self, alert: BudgetAlert) -> SafeString:
        return number(usd(alert.window.spent_nano_usd))
