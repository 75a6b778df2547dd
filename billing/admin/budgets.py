"""Admin pages for budgets: limits typed in USD, how each stands now, and extras with a reason."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display
from unfold.views import ChangeList

from billing.admin.budget_display import forecast, fullest_bar, period_text, standing_row
from billing.admin.budget_forms import AllowMoreForm, BudgetForm
from billing.admin.budget_previews import preview_lines, typed_budget
from billing.budget_services import allow_more
from billing.errors import BudgetError
from billing.models import Budget, BudgetOverride, Period, Scope
from billing.money import usd
from billing.standings import Standing, fullest_standings, standings_of, with_extras
from tenants.operator_admin import (
    ActionSpec,
    OperatorModelAdmin,
    ReadOnlyInline,
    number,
    operator_of,
    two_lines,
    utc,
)

WINDOWS_SHOWN = 10


class OverrideInline(ReadOnlyInline):
    """The extras a budget was given."""

    model = BudgetOverride
    fields = ("extra_usd", utc("expires_at", "Until"), "reason", "created_by", utc("created_at", "Allowed"))
    readonly_fields = fields
    verbose_name_plural = "extras allowed"

    @display(description="Extra, USD")
    def extra_usd(self, override: BudgetOverride) -> str:
        return usd(override.extra_nano_usd)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        queryset: QuerySet[Any] = super().get_queryset(request)
        return queryset.select_related("created_by", "budget__tenant")


class BudgetChangeList(ChangeList):
    """Budgets with how each shown one stands: one query for the page."""

    result_list: list[Any]

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        standings = fullest_standings(self.result_list, timezone.now())
        for budget in self.result_list:
            budget.standings = [standings[budget.pk]]


@admin.register(Budget)
class BudgetAdmin(OperatorModelAdmin):
    """Limits on spending. A budget is switched off, never deleted: its windows are history."""

    form = BudgetForm
    list_display = ("about", "show_kind", "limit_column", "bar_column", "remaining_column", "forecast_column")
    list_display_links = ("about",)
    list_select_related = ("tenant",)
    list_filter = (
        ("tenant", AutocompleteSelectFilter),
        ("scope", ChoicesDropdownFilter),
        ("period", ChoicesDropdownFilter),
        "hard",
        "enabled",
    )
    search_fields = ("tenant__name", "subject")
    autocomplete_fields = ("tenant",)
    ordering = ("tenant__name", "scope", "subject", "period")
    inlines = (OverrideInline,)
    object_actions = ("allow_more",)
    change_form_before_template = "admin/billing/budget_preview.html"
    asks_password = ("add", "change")
    list_fullwidth = True
    empty_hint = (
        "Without a budget a tenant may spend without limit: add one for the tenant, a project, a user or a key."
    )
    identity = ("tenant", "scope", "subject", "period")
    terms = ("limit", "hard", "alert_at", "enabled")

    @display(description="Tenant, what for", ordering="tenant__name")
    def about(self, budget: Budget) -> SafeString:
        what = "the whole tenant" if budget.scope == Scope.TENANT else f"{budget.scope}: {budget.subject or 'each'}"
        return two_lines(budget.tenant.name, what)

    @display(description="Kind", label={"hard": "info", "soft": "", "off": "warning"})
    def show_kind(self, budget: Budget) -> tuple[str, str]:
        kind = "off" if not budget.enabled else "hard" if budget.hard else "soft"
        return kind, kind.capitalize()

    @display(description="Limit, USD", ordering="limit_nano_usd")
    def limit_column(self, budget: Budget) -> SafeString:
        extra = budget.extra_nano_usd  # type: ignore[attr-defined]
        period = "for good" if budget.period == Period.TOTAL else f"a {budget.period}"
        return number(two_lines(usd(budget.limit_nano_usd), f"+{usd(extra)} now" if extra else period))

    @display(description="Limit, USD")
    def limit(self, budget: Budget) -> str:
        """For whoever may only look; the form has a field of this name."""
        return usd(budget.limit_nano_usd)

    @display(description="Spent in this period")
    def bar_column(self, budget: Budget) -> SafeString:
        return fullest_bar(self._standings(budget)[0])

    @display(description="Remaining, USD")
    def remaining_column(self, budget: Budget) -> SafeString:
        standing = self._standings(budget)[0]
        return number(two_lines(usd(standing.remaining_nano_usd), f"{usd(standing.reserved_nano_usd)} held"))

    @display(description="Forecast")
    def forecast_column(self, budget: Budget) -> str:
        return forecast(self._standings(budget)[0], timezone.now()) if budget.enabled else "Off: nothing is counted"

    @display(description="Now")
    def windows_now(self, budget: Budget) -> SafeString:
        """The windows of this period, the fullest first, as a table with a bar each."""
        now, standings = timezone.now(), self._standings(budget)
        rows = format_html_join("", "{}", ((standing_row(standing, now),) for standing in standings))
        more = standings[0].windows - len(standings)
        history = reverse("admin:billing_budgetwindow_changelist")
        return format_html(
            '<p>{}</p><div class="scroll-x"><table class="figures standings">'
            "<tr><th>Of</th><th>Spent</th><th>Held, USD</th><th>Remaining, USD</th><th>Forecast</th></tr>"
            '{}</table></div><p><a href="{}?budget__id__exact={}">{}</a></p>',
            period_text(standings[0]),
            rows,
            history,
            budget.pk,
            f"All windows, {more:,} more in this period" if more > 0 else "All windows, past ones too",
        )

    def _standings(self, budget: Budget) -> list[Standing]:
        """As the list has loaded them for its page; else a budget's own, once."""
        if not hasattr(budget, "standings"):
            budget.standings = standings_of(budget, timezone.now(), most=WINDOWS_SHOWN)  # type: ignore[attr-defined]
        return budget.standings  # type: ignore[attr-defined, no-any-return]

    def get_urls(self) -> list[URLPattern]:
        preview = path("preview/", self.admin_site.admin_view(self.preview), name=self.url_name("preview"))
        return [preview, *super().get_urls()]

    def preview(self, request: HttpRequest) -> HttpResponse:
        """What the limit typed so far would mean. Reads only."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        context: dict[str, Any] = {}
        try:
            context["lines"] = preview_lines(typed_budget(request.GET), timezone.now())
        except BudgetError as error:
            context["problem"] = str(error)
        return TemplateResponse(request, "admin/billing/budget_preview_lines.html", context)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return with_extras(super().get_queryset(request), timezone.now())

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return BudgetChangeList

    def get_fieldsets(self, request: HttpRequest, obj: Budget | None = None) -> Any:
        changing = ((None, {"fields": (*self.identity, *self.terms)}),)
        return ((None, {"fields": ("windows_now",)}), *changing) if obj else changing

    def get_inlines(self, request: HttpRequest, obj: Budget | None = None) -> Any:
        return self.inlines if obj else ()

    def get_readonly_fields(self, request: HttpRequest, obj: Budget | None = None) -> Any:
        if obj is None:
            return ()
        return (*self.identity, "windows_now")

    def save_model(self, request: HttpRequest, obj: Budget, form: forms.ModelForm[Budget], change: bool) -> None:
        super().save_model(request, obj, form, change)
        if not (obj.enabled and obj.hard and change):
            return
        now = timezone.now()
        (saved,) = with_extras(Budget.objects.filter(pk=obj.pk).select_related("tenant"), now)
        fullest = standings_of(saved, now, most=1)[0]
        if fullest.spent_nano_usd + fullest.reserved_nano_usd >= fullest.limit_nano_usd:
            whose = f" of {fullest.subject!r}" if fullest.subject and not obj.subject else ""
            messages.warning(
                request,
                f"{usd(fullest.spent_nano_usd)} USD{whose} are spent already and "
                f"{usd(fullest.reserved_nano_usd)} held: calls are refused from now on.",
            )

    def allow_more(self, request: HttpRequest, *, object_id: str) -> HttpResponse:
        """Ask how much, until when and why, then raise the limit; only by POST."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_change_permission(request):
            raise PermissionDenied
        budget = self.get_object(request, object_id)
        if budget is None:
            raise Http404
        if (asking := self.ask_password(request)) is not None:
            return asking
        confirmed = "confirmed" in request.POST
        form = AllowMoreForm(request.POST) if confirmed else AllowMoreForm()
        if confirmed and form.is_valid() and self._allow(request, budget, form=form):
            return HttpResponseRedirect(reverse("admin:billing_budget_change", args=[budget.pk]))
        context = {
            **self.admin_site.each_context(request),
            "title": "Allow more?",
            "opts": self.opts,
            "object": budget,
            "form": form,
            "standing": self._standings(budget)[0],
        }
        return TemplateResponse(request, "admin/billing/allow_more.html", context)

    allow_more.spec = ActionSpec(  # type: ignore[attr-defined]
        label="Allow more",
        done="Allowed more",
        permission="change",
        question="",
        refusals=(BudgetError,),
        offered=lambda budget: budget.enabled,
    )

    def _allow(self, request: HttpRequest, budget: Budget, *, form: AllowMoreForm) -> bool:
        extra, until = form.cleaned_data["extra"], form.cleaned_data["expires_at"]
        try:
            with transaction.atomic():
                override = allow_more(
                    budget, extra, expires_at=until, reason=form.cleaned_data["reason"], by=operator_of(request)
                )
                self.log_change(
                    request, budget, f"Allowed {override}. {override.reason}", verb="allowed_more", made=override
                )
        except BudgetError as error:
            form.add_error(None, str(error))
            return False
        messages.success(request, f"Allowed {override}: {budget}")
        return True
