"""Admin pages for adjustments, and the action on a charge's page that posts one."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import models, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget

from billing.adjustments import adjust_charge, read_amount
from billing.admin.budget_forms import AMOUNT_WIDGET
from billing.admin.budget_history import RecordAdmin
from billing.errors import AdjustmentError
from billing.models import Adjustment, AdjustmentKind, UsageRecord
from billing.money import usd
from tenants.operator_admin import REASON_LENGTH, ActionSpec, OperatorModelAdmin, number, operator_of, two_lines, utc

POSTED = utc("created_at", "Posted")


class AdjustForm(forms.Form):
    """What the page asks that adjusts a charge."""

    amount = forms.CharField(
        label="Amount, USD",
        max_length=40,
        widget=AMOUNT_WIDGET,
        help_text="Added to the charge. A credit has a minus: -0.25.",
    )
    reason = forms.CharField(
        label="Reason",
        max_length=REASON_LENGTH,
        widget=UnfoldAdminTextareaWidget({"rows": 2}),
        help_text="Kept with the adjustment, and shown on the tenant's statement.",
    )

    def clean_amount(self) -> int:
        try:
            return read_amount(self.cleaned_data["amount"])
        except AdjustmentError as error:
            raise ValidationError(str(error)) from error


class AdjustAction(OperatorModelAdmin):
    """The button on a charge's page, for whoever may adjust."""

    object_actions = ("adjust",)

    def has_adjust_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return operator_of(request).has_perm("billing.add_adjustment")

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        if self.has_adjust_permission(request):
            context["object_actions"] = self.offered_actions(kwargs["obj"])
        return super().render_change_form(request, context, **kwargs)

    @display(description="Adjustments")
    def adjustments(self, charge: UsageRecord) -> SafeString | str:
        """What was posted for the charge later, each with its reason. Asked several times a page, read once."""
        if not hasattr(charge, "posted_later"):
            posted = Adjustment.objects.filter(attempt=charge.attempt_id).order_by("created_at")
            charge.posted_later = [(usd(row.amount_nano_usd), row.reason) for row in posted]  # type: ignore[attr-defined]
        lines = format_html_join("", "<li>{} USD: {}</li>", charge.posted_later)  # type: ignore[attr-defined]
        return format_html("<ul>{}</ul>", lines) if lines else "none"

    def adjust(self, request: HttpRequest, *, object_id: str) -> HttpResponse:
        """Ask how much and why, then post the adjustment; only by POST."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_adjust_permission(request):
            raise PermissionDenied
        charge = self.get_object(request, object_id)
        if charge is None:
            raise Http404
        if (asking := self.ask_password(request)) is not None:
            return asking
        confirmed = "confirmed" in request.POST
        form = AdjustForm(request.POST) if confirmed else AdjustForm()
        page = reverse("admin:billing_usagerecord_change", args=[charge.pk])
        if confirmed and form.is_valid() and self._post(request, charge, form=form):
            return HttpResponseRedirect(page)
        context = {
            **self.admin_site.each_context(request),
            "title": "Adjust?",
            "opts": self.opts,
            "object": charge,
            "cost": usd(charge.cost_nano_usd),
            "form": form,
            "page": page,
        }
        return TemplateResponse(request, "admin/billing/adjust.html", context)

    adjust.spec = ActionSpec(  # type: ignore[attr-defined]
        label="Adjust",
        done="Adjusted",
        permission="adjust",
        question="",
        refusals=(AdjustmentError,),
        offered=lambda charge: True,
    )

    def _post(self, request: HttpRequest, charge: UsageRecord, *, form: AdjustForm) -> bool:
        amount, reason = form.cleaned_data["amount"], form.cleaned_data["reason"]
        try:
            with transaction.atomic():
                adjustment = adjust_charge(charge, amount, reason=reason, by=operator_of(request))
                self.log_change(request, charge, f"Adjusted by {adjustment}", verb="adjusted", made=adjustment)
        except AdjustmentError as error:
            form.add_error(None, str(error))
            return False
        messages.success(request, f"Adjusted by {adjustment}")
        return True


@admin.register(Adjustment)
class AdjustmentAdmin(RecordAdmin):
    """Everything that was moved after the fact, by operators and by the ledger itself."""

    list_display = (POSTED, "tenant_column", "show_kind", "amount", "reason", "model_column", "created_by")
    list_display_links = (POSTED,)
    list_select_related = ("tenant", "project", "created_by")
    list_filter = (("tenant", AutocompleteSelectFilter), ("kind", ChoicesDropdownFilter))
    ordering = ("-created_at", "-id")
    sortable_by = ()
    list_fullwidth = True
    search_fields = ("reason",)
    fields = (
        POSTED, "tenant", "project", "charge", "kind", "amount", "reason", "created_by", "user", "model_name",
        "provider_name", "windows",
    )  # fmt: skip
    empty_hint = "A charge never changes: what corrects it is listed here. Adjust one from its page under Usage."

    @display(description="Tenant, project")
    def tenant_column(self, row: Adjustment) -> SafeString:
        return two_lines(row.tenant.name, row.project.name if row.project else "no project")

    @display(description="Model, provider")
    def model_column(self, row: Adjustment) -> SafeString:
        return two_lines(row.model_name or "no charge", row.provider_name)

    @display(description="Kind", label={AdjustmentKind.ADJUSTMENT: "info", AdjustmentKind.CORRECTION: "warning"})
    def show_kind(self, row: Adjustment) -> tuple[str, str]:
        return row.kind, row.kind

    @display(description="Amount, USD")
    def amount(self, row: Adjustment) -> SafeString:
        return number(usd(row.amount_nano_usd))

    @display(description="Charge")
    def charge(self, row: Adjustment) -> SafeString | str:
        """Its page; a charge that was voided by a sweep has none, nor one beyond retention."""
        if not UsageRecord.objects.filter(pk=row.attempt_id).exists():
            return str(row.attempt_id or "none")
        page = reverse("admin:billing_usagerecord_change", args=[row.attempt_id])
        return format_html('<a href="{}">{}</a>', page, row.attempt_id)
