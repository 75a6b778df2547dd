"""The admin pages of requests: every call of a tenant's, and why each went where it went."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import display

from billing.admin.usage import LedgerAdmin, UsageWindowFilter
from billing.admin.windows import KeysetChangeList
from gateway.desk.replay import replayed
from gateway.desk.replay_forms import ReplayForm
from gateway.models import RequestRecord
from gateway.request_display import timeline_of, verdicts_of
from gateway.request_explained import (
    candidates_table,
    cost_table,
    end_words,
    events_of,
    files_of,
    sentence_of,
    statement_of,
)
from gateway.request_filters import (
    EndFilter,
    ErrorCodeFilter,
    LastModelFilter,
    LastProviderFilter,
    WayFilter,
    end_of,
)
from gateway.request_lists import RequestChangeList
from gateway.request_records import RequestStory, story_of
from tenants.operator_admin import number, once, two_lines, utc


@admin.register(RequestRecord)
class RequestAdmin(LedgerAdmin):
    """Every call, refused ones too, with what was considered, skipped and tried."""

    keyset = ("created_at", "id")
    list_display = ("time_column", "tenant_column", "model_column", "show_end", "latency", "cost_column")
    change_form_template = "admin/desk/request.html"
    list_select_related = ("tenant", "api_key")
    list_filter = (
        ("created_at", UsageWindowFilter),
        ("tenant", AutocompleteSelectFilter),
        ("api_key", AutocompleteSelectFilter),
        LastModelFilter,
        LastProviderFilter,
        EndFilter,
        WayFilter,
        ErrorCodeFilter,
    )
    search_fields = ("request_id",)
    search_help_text = "An exact request id, whenever it was"
    empty_hint = (
        "Every call of a tenant's key is listed here half a second after its answer. REQUEST_LOG_DAYS says how long."
    )
    fieldsets = (
        (None, {"fields": (
            "sentence", "request_id", (utc("created_at", "Asked"), "operation"), ("tenant", "api_key"), "asked_for",
            "ended", "show_replay",
        )}),
        ("What was tried", {"fields": ("timeline",)}),
        ("Who could have answered", {"fields": ("candidates",)}),
        ("What it cost", {"fields": ("charges", "statement")}),
        ("What hooks said", {"fields": ("hooks_table",)}),
        ("What else was written down", {"fields": ("events", "files")}),
    )  # fmt: skip
    readonly_fields = (
        "sentence", "timeline", "candidates", "charges", "statement", "hooks_table", "events", "files", "asked_for",
        "ended", "show_replay",
    )  # fmt: skip

    class Media:
        css = {"all": ("bursar/trace.css",)}

    @display(description="Tenant, key")
    def tenant_column(self, row: RequestRecord) -> SafeString:
        return two_lines(row.tenant.name, row.api_key.name)

    @display(description="Asked for, last asked")
    def model_column(self, row: RequestRecord) -> SafeString:
        last = row.attempts[-1] if row.attempts else None
        remarks = [f"{last['model']} at {last['provider']}" if last else "nobody", *_remarks(row)]
        return two_lines(row.requested_model or "-", ", ".join(remarks))

    @display(
        description="End",
        label={"answered": "success", "refused": "warning", "failed": "danger", "broke": "danger", "stopped": "info"},
    )
    def show_end(self, row: RequestRecord) -> tuple[str, str]:
        return end_of(row), f"{row.status} {row.error_code.replace('_', ' ')}".strip()

    @display(description="Latency, ms")
    def latency(self, row: RequestRecord) -> SafeString:
        first = "" if row.first_content_ms is None else f"first {row.first_content_ms:,}"
        return number(two_lines(f"{row.latency_ms:,}", first))

    @display(description="End")
    def ended(self, row: RequestRecord) -> SafeString:
        return end_words(row)

    @display(description="Asked for")
    def asked_for(self, row: RequestRecord) -> str:
        return f"{row.requested_model or '-'}, {'a stream' if row.stream else 'a whole answer'}"

    @display(description="Replay of")
    def show_replay(self, row: RequestRecord) -> SafeString | str:
        if not row.replay_of:
            return "-"
        url = reverse("admin:gateway_requestrecord_changelist")
        return format_html('<a class="link" href="{}?q={}">{}</a>', url, row.replay_of, row.replay_of)

    @display(description="Since it arrived")
    def timeline(self, row: RequestRecord) -> SafeString:
        return timeline_of(row, _story(row))

    @display(description="Cost, USD")
    def cost_column(self, row: RequestRecord) -> SafeString:
        return number(row.cost.as_text() if row.cost.charges else "-")  # type: ignore[attr-defined]

    @display(description="In a sentence")
    def sentence(self, row: RequestRecord) -> SafeString:
        return format_html("<strong>{}</strong>", sentence_of(row, _story(row)))

    @display(description="Candidates")
    def candidates(self, row: RequestRecord) -> SafeString:
        return candidates_table(row)

    @display(description="Hooks")
    def hooks_table(self, row: RequestRecord) -> SafeString:
        return verdicts_of(row)

    @display(description="Charges, USD")
    def charges(self, row: RequestRecord) -> SafeString:
        return cost_table(_story(row))

    @display(description="Statement")
    @once
    def statement(self, row: RequestRecord) -> SafeString:
        return format_html("{}", statement_of(row, _story(row)))

    @display(description="Audit events")
    @once
    def events(self, row: RequestRecord) -> SafeString:
        return events_of(row)

    @display(description="Files")
    @once
    def files(self, row: RequestRecord) -> SafeString:
        return files_of(row)

    def has_replay_permission(self, request: HttpRequest) -> bool:
        """Trying another routing changes nothing, and tells what tenants are routed to and pay."""
        return bool(request.user.has_perm("gateway.change_requestrecord"))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        return RequestChangeList

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.against)
        return [path("<path:object_id>/against/", view, name=self.url_name("against")), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """An exact id of one request goes straight to its page."""
        term = request.GET.get("q", "").strip()
        if term and "\0" not in term and request.method == "GET" and self.has_view_permission(request):
            found = list(self.get_queryset(request).filter(request_id=term).values_list("pk", flat=True)[:2])
            if len(found) == 1:
                return HttpResponseRedirect(reverse(f"admin:{self.url_name('change')}", args=found))
        return super().changelist_view(request, extra_context)

    def against(self, request: HttpRequest, *, object_id: str) -> HttpResponse:
        """What another routing would have chosen and cost: dry, from what was written down."""
        if not self.has_replay_permission(request):
            raise PermissionDenied
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        form = ReplayForm(request.POST if request.method == "POST" else None)
        result = replayed(row, story_of(row), draft=form.draft()) if form.is_bound and form.is_valid() else None
        context = {
            **self.admin_site.each_context(request),
            "title": "Replay against…",
            "opts": self.opts,
            "object": row,
            "sentence": sentence_of(row, _story(row)),
            "form": form,
            "result": result,
        }
        return TemplateResponse(request, "admin/desk/replay.html", context)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        context["may_replay"] = self.has_replay_permission(request)
        return super().render_change_form(request, context, **kwargs)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[RequestRecord], search_term: str
    ) -> tuple[QuerySet[RequestRecord], bool]:
        return (queryset.filter(request_id=search_term.strip()) if search_term else queryset), False


def _remarks(row: RequestRecord) -> list[str]:
    """What went another way than usual."""
    remarks = ["replay of an earlier answer"] if row.replay_of else []
    if row.cache == "hit":
        remarks.append("cached")
    if len(row.attempts) > 1:
        remarks.append(f"{len(row.attempts)} attempts")
    if row.fallback:
        remarks.append("fallback")
    if row.skipped:
        remarks.append(f"{len(row.skipped)} skipped")
    return remarks


def _story(row: RequestRecord) -> RequestStory:
    """What the ledger knows of it, asked once for all fields of its page."""
    if not hasattr(row, "_story"):
        row._story = story_of(row)  # type: ignore[attr-defined]
    story: RequestStory = row._story  # type: ignore[attr-defined]
    return story
