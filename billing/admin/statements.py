"""Admin pages for statements: what each tenant owes, from draft to locked, with its files and credit notes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display

from billing.admin.statement_display import breakdown_tables, credit_note_links, figures_table
from billing.admin.statement_forms import CreditForm
from billing.errors import StatementError
from billing.models import Statement, StatementKind, StatementState
from billing.money import usd
from billing.statements.credit_notes import Credit, credit, creditable_nano_usd
from billing.statements.csv_file import render_csv
from billing.statements.documents import cents, file_name, period_bounds, period_name, title
from billing.statements.lifecycle import issue, lock, refresh
from billing.statements.pdf_file import render_pdf
from billing.statements.periods import FINAL
from billing.statements.xlsx_file import render_xlsx
from tenants.models import Operator
from tenants.operator_admin import (
    ActionSpec,
    OperatorModelAdmin,
    number,
    once,
    operator_action,
    operator_of,
    password_again,
    two_lines,
    utc,
)
from tenants.scoping import is_member

FILES: dict[str, tuple[str, Callable[[Statement], bytes]]] = {
    "csv": ("text/csv; charset=utf-8", render_csv),
    "xlsx": ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", render_xlsx),
    "pdf": ("application/pdf", render_pdf),
}
"""Content type and renderer by extension."""


@admin.register(Statement)
class StatementAdmin(OperatorModelAdmin):
    """Statements and credit notes. The nightly job makes them; owners issue, lock and credit."""

    list_display = ("about", "period_column", "show_state", "cost_column", "total_column", "calls_column")
    list_display_links = ("about",)
    list_select_related = ("tenant", "credits", "issued_by", "locked_by")
    list_filter = (
        ("tenant", AutocompleteSelectFilter),
        ("state", ChoicesDropdownFilter),
        ("kind", ChoicesDropdownFilter),
    )
    search_fields = ("number", "tenant_name")
    ordering = ("-starts_at", "tenant_name", "kind", "pk")
    sortable_by = ()
    list_fullwidth = True
    object_actions = ("refresh", "issue", "lock", "credit")
    change_form_template = "admin/billing/statement_change_form.html"
    empty_hint = (
        "Each night a statement is made of every period with charges. To have those there are now: "
        "manage.py make_statements."
    )
    fieldsets = (
        (None, {"fields": ("document", "tenant", "period_text", "state_text", "credited", "reason")}),
        ("Amounts", {"fields": ("figures", "calls", "unpriced_calls", "notes")}),
        ("Usage", {"fields": ("usage",)}),
        ("Record", {"fields": (
            utc("made_at", "Made"), utc("issued_at", "Issued"), "issued_by", utc("locked_at", "Locked"), "locked_by",
            "content_hash",
        )}),
    )  # fmt: skip

    @display(description="Statement")
    def about(self, statement: Statement) -> SafeString:
        return two_lines(title(statement), statement.tenant_name)

    @display(description="Document")
    def document(self, statement: Statement) -> str:
        return title(statement)

    @display(description="Period")
    def period_column(self, statement: Statement) -> SafeString:
        return two_lines(period_name(statement), statement.timezone)

    @display(description="Period")
    def period_text(self, statement: Statement) -> str:
        return f"{period_name(statement)}: {period_bounds(statement)}"

    @display(
        description="State",
        label={StatementState.DRAFT: "warning", StatementState.ISSUED: "success", StatementState.LOCKED: "info"},
    )
    def show_state(self, statement: Statement) -> tuple[str, str]:
        return statement.state, statement.get_state_display()

    @display(description="State")
    def state_text(self, statement: Statement) -> str:
        return statement.get_state_display()

    @display(description="Cost, USD")
    def cost_column(self, statement: Statement) -> SafeString:
        return number(usd(statement.subtotal_nano_usd))

    @display(description="Total, USD")
    def total_column(self, statement: Statement) -> SafeString:
        return number(cents(statement.total_cents))

    @display(description="Calls")
    def calls_column(self, statement: Statement) -> SafeString:
        unpriced = f"{statement.unpriced_calls:,} without a price" if statement.unpriced_calls else ""
        return number(two_lines(f"{statement.calls:,}", unpriced))

    @display(description="USD")
    def figures(self, statement: Statement) -> SafeString:
        return figures_table(statement)

    @display(description="Usage")
    @once
    def usage(self, statement: Statement) -> SafeString:
        return breakdown_tables(statement)

    @display(description="Credit notes")
    @once
    def notes(self, statement: Statement) -> SafeString:
        return credit_note_links(statement)

    @display(description="Credits")
    def credited(self, statement: Statement) -> str:
        return statement.credits.number if statement.credits else "-"

    @operator_action(
        label="Make anew",
        done="Made anew",
        refusals=(StatementError,),
        offered=lambda statement: statement.state == StatementState.DRAFT,
        permission="refresh",
    )
    def refresh(self, statement: Statement, *, by: Operator, reason: str) -> None:
        if refresh(statement.pk) is None:
            raise StatementError("Nothing is posted in this period any more.")

    @password_again
    @operator_action(
        label="Issue",
        done="Issued",
        question="It is made anew once more, gets its number, and never changes again. The tenant is told.",
        permission="issue",
        refusals=(StatementError,),
        offered=lambda statement: statement.state == StatementState.DRAFT,
    )
    def issue(self, statement: Statement, *, by: Operator, reason: str) -> None:
        issue(statement.pk, by=by, reason=reason)

    @password_again
    @operator_action(
        label="Lock",
        done="Locked",
        question="It is settled with the tenant. Only a credit note can follow.",
        permission="issue",
        refusals=(StatementError,),
        offered=lambda statement: statement.state == StatementState.ISSUED,
    )
    def lock(self, statement: Statement, *, by: Operator, reason: str) -> None:
        lock(statement.pk, by=by)

    def credit(self, request: HttpRequest, *, object_id: str) -> HttpResponse:
        """Ask how much and why, then issue a credit note; only by POST."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_issue_permission(request):
            raise PermissionDenied
        statement = self.get_object(request, object_id)
        if statement is None:
            raise Http404
        if (asking := self.ask_password(request)) is not None:
            return asking
        confirmed = "confirmed" in request.POST
        form = CreditForm(request.POST) if confirmed else CreditForm()
        if confirmed and form.is_valid():
            note = self._credit(request, statement, form=form)
            if note is not None:
                return HttpResponseRedirect(reverse("admin:billing_statement_change", args=[note.pk]))
        context = {
            **self.admin_site.each_context(request),
            "title": "Credit?",
            "opts": self.opts,
            "object": statement,
            "form": form,
            "creditable": usd(creditable_nano_usd(statement)),
        }
        return TemplateResponse(request, "admin/billing/credit_statement.html", context)

    credit.spec = ActionSpec(  # type: ignore[attr-defined]
        label="Credit",
        done="Credited",
        permission="issue",
        question="",
        refusals=(StatementError,),
        offered=lambda statement: statement.kind == StatementKind.STATEMENT and statement.state in FINAL,
    )

    def _credit(self, request: HttpRequest, statement: Statement, *, form: CreditForm) -> Statement | None:
        line = Credit(amount_nano_usd=form.cleaned_data["amount"], reason=form.cleaned_data["reason"])
        try:
            with transaction.atomic():
                note = credit(statement.pk, [line], by=operator_of(request))
                message = f"Credited by {note.number}. {line.reason}"
                self.log_change(request, statement, message, verb="credited", made=note)
        except StatementError as error:
            form.add_error(None, str(error))
            return None
        messages.success(request, f"Issued {note.number} for {cents(note.total_cents)} USD: {statement}")
        return note

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Statement]:
        """A tenant's member sees what is final: a draft is made anew each night."""
        rows: models.QuerySet[Statement] = super().get_queryset(request)
        return rows.filter(state__in=FINAL) if is_member(request.user) else rows

    def get_urls(self) -> list[URLPattern]:
        files = (
            path(
                f"<path:object_id>/{extension}/",
                self.admin_site.admin_view(self._download_of(extension)),
                name=self.url_name(extension),
            )
            for extension in FILES
        )
        return [*files, *super().get_urls()]

    def _download_of(self, extension: str) -> Callable[..., HttpResponse]:
        content_type, render = FILES[extension]

        def download(request: HttpRequest, *, object_id: str) -> HttpResponse:
            """The file, for whoever may see the page."""
            if request.method != "GET":
                raise PermissionDenied
            statement = self.get_object(request, object_id)
            if statement is None:
                raise Http404
            if not self.has_view_permission(request, statement):
                raise PermissionDenied
            answer = HttpResponse(render(statement), content_type=content_type)
            answer["Content-Disposition"] = f'attachment; filename="{file_name(statement, extension)}"'
            answer["X-Content-Type-Options"] = "nosniff"
            return answer

        return download

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        statement = kwargs["obj"]
        context["object_actions"] = self.offered_actions(statement, permitted_to=request)
        context["files"] = [
            (extension.upper(), reverse(f"admin:{self.url_name(extension)}", args=[statement.pk]))
            for extension in FILES
        ]
        return super().render_change_form(request, context, **kwargs)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Nobody types into a statement."""
        return False

    def has_refresh_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return bool(request.user.has_perm("billing.change_statement"))

    def has_issue_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Owners only: `tenants.roles` gives operators no action but view, add and change."""
        return bool(request.user.has_perm("billing.issue_statement"))
