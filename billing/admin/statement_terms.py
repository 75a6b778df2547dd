"""Admin pages for what statements are made by: schedules and markups."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display

from billing.admin.statement_forms import MarkupForm
from billing.errors import StatementError
from billing.models import Markup, Statement, StatementKind, StatementSchedule, StatementState
from billing.money import usd
from billing.statements.amounts import amounts_of
from billing.statements.documents import cents, period_name
from billing.statements.markups import percent_text, read_percent, set_markup
from tenants.operator_admin import OperatorModelAdmin, number, operator_of, utc

SAMPLE_NANO_USD = 100_000_000_000
"""A hundred USD at cost, where a tenant has no draft to show the markup on."""


@admin.register(StatementSchedule)
class StatementScheduleAdmin(OperatorModelAdmin):
    """How often tenants get statements."""

    list_display = ("tenant", "period", "issues_by_itself")
    list_select_related = ("tenant",)
    list_filter = (("tenant", AutocompleteSelectFilter), ("period", ChoicesDropdownFilter), "issues_by_itself")
    search_fields = ("tenant__name",)
    autocomplete_fields = ("tenant",)
    ordering = ("tenant__name",)
    fields = ("tenant", "period", "issues_by_itself")
    empty_hint = "Every tenant gets monthly statements, issued by themselves. Add a schedule for one that should not."

    def get_readonly_fields(self, request: HttpRequest, obj: models.Model | None = None) -> Any:
        return ("tenant",) if obj else ()


@admin.register(Markup)
class MarkupAdmin(OperatorModelAdmin):
    """Markups and discounts. A change is a further row: none is edited or deleted."""

    form = MarkupForm
    list_display = ("tenant", "percent_column", utc("valid_from", "Valid from"), "reason", "created_by")
    list_select_related = ("tenant", "created_by")
    list_filter = (("tenant", AutocompleteSelectFilter),)
    search_fields = ("tenant__name",)
    autocomplete_fields = ("tenant",)
    asks_password = ("add",)
    ordering = ("tenant__name", "-valid_from", "-pk")
    change_form_before_template = "admin/billing/markup_preview.html"
    recorded = (
        "tenant",
        "percent_column",
        utc("valid_from", "Valid from"),
        "reason",
        utc("created_at", "Set"),
        "created_by",
    )
    empty_hint = "Tenants pay what their calls cost. Add a markup, or a discount, for one that pays otherwise."

    @display(description="Markup")
    def percent_column(self, markup: Markup) -> SafeString:
        return number(percent_text(markup.basis_points))

    def get_fieldsets(self, request: HttpRequest, obj: Markup | None = None) -> Any:
        return ((None, {"fields": self.recorded if obj else ("tenant", "percent", "valid_from", "reason")}),)

    def get_readonly_fields(self, request: HttpRequest, obj: Markup | None = None) -> Any:
        return self.recorded if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Markup, form: forms.ModelForm[Markup], change: bool) -> None:
        saved = set_markup(
            obj.tenant,
            form.cleaned_data["percent"],
            valid_from=form.cleaned_data["valid_from"],
            reason=form.cleaned_data["reason"],
            by=operator_of(request),
        )
        obj.pk = saved.pk
        obj.refresh_from_db()

    def get_urls(self) -> list[URLPattern]:
        preview = path("preview/", self.admin_site.admin_view(self.preview), name=self.url_name("preview"))
        return [preview, *super().get_urls()]

    def preview(self, request: HttpRequest) -> HttpResponse:
        """What the tenant's draft, or a hundred USD, would come to with the percentage typed so far. Reads only."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        context: dict[str, str] = {}
        try:
            basis_points = read_percent(request.GET.get("percent", ""))
        except StatementError as error:
            context["problem"] = str(error)
        else:
            draft = _draft_of(request.GET.get("tenant", ""))
            cost = draft.subtotal_nano_usd if draft else SAMPLE_NANO_USD
            context["what"] = f"The draft of {period_name(draft)}" if draft else "An example"
            context["cost"] = usd(cost)
            context["percent"] = percent_text(basis_points)
            context["total"] = cents(amounts_of(cost, basis_points).total_cents)
        return TemplateResponse(request, "admin/billing/markup_preview_line.html", context)


def _draft_of(tenant_id: str) -> Statement | None:
    """A tenant's newest draft."""
    if not (tenant_id.isascii() and tenant_id.isdigit() and len(tenant_id) < 19):
        return None
    drafts = Statement.objects.filter(
        tenant_id=int(tenant_id), kind=StatementKind.STATEMENT, state=StatementState.DRAFT
    )
    return drafts.order_by("-starts_at").first()
