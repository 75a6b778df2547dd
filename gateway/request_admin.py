"""The admin pages of requests: every call of a tenant's, and why each went where it went."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, DropdownFilter
from unfold.decorators import display

from billing.admin.usage import LedgerAdmin, UsageWindowFilter
from gateway.errors import error_codes
from gateway.models import RequestRecord
from gateway.request_display import charges_of, passed_over, timeline_of, verdicts_of
from gateway.request_records import RequestStory, story_of
from tenants.operator_admin import number, two_lines, utc

BROKEN_OFF = ("client_left", "request_cancelled", "server_stopped")
ENDS: dict[str, tuple[str, Q]] = {
    "answered": ("answered", Q(error_code="")),
    "refused": ("refused", ~Q(error_code="") & Q(status__gte=400, status__lt=499)),
    "failed": ("failed", ~Q(error_code="") & Q(status__gte=500) & ~Q(error_code__in=BROKEN_OFF)),
    "broke": ("failed in mid-stream", ~Q(error_code="") & Q(status=200) & ~Q(error_code__in=BROKEN_OFF)),
    "stopped": ("left, cancelled or stopped", Q(error_code__in=BROKEN_OFF)),
}
"""The filter's choices: words, and the rows. All but the first are found by an index of what went wrong."""


class EndFilter(DropdownFilter):
    title = "end"
    parameter_name = "end"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, words) for name, (words, _) in ENDS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(ENDS[self.value()][1]) if self.value() in ENDS else queryset


class ErrorCodeFilter(DropdownFilter):
    title = "error code"
    parameter_name = "error_code"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(code, code) for code in sorted({*error_codes(), *BROKEN_OFF})]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(error_code=self.value()) if self.value() else queryset


@admin.register(RequestRecord)
class RequestAdmin(LedgerAdmin):
    """Every call, refused ones too, with what was considered, skipped and tried."""

    keyset = ("created_at", "id")
    list_display = ("time_column", "tenant_column", "model_column", "show_end", "tried", "latency")
    list_select_related = ("tenant", "api_key")
    list_filter = (
        ("created_at", UsageWindowFilter),
        ("tenant", AutocompleteSelectFilter),
        EndFilter,
        ErrorCodeFilter,
    )
    search_fields = ("request_id",)
    search_help_text = "An exact request id, whenever it was"
    empty_hint = (
        "Every call of a tenant's key is listed here half a second after its answer. REQUEST_LOG_DAYS says how long."
    )
    fieldsets = (
        (None, {"fields": (
            utc("created_at", "Asked"), "request_id", "tenant", "api_key", "operation", "asked_for", "ended",
            "show_replay",
        )}),
        ("What was tried", {"fields": ("timeline",)}),
        ("What hooks said", {"fields": ("hooks_table",)}),
        ("What was passed over", {"fields": ("skipped_table",)}),
        ("What it cost", {"fields": ("charges",)}),
    )  # fmt: skip
    readonly_fields = ("timeline", "hooks_table", "skipped_table", "charges", "asked_for", "ended", "show_replay")

    @display(description="Tenant, key")
    def tenant_column(self, row: RequestRecord) -> SafeString:
        return two_lines(row.tenant.name, row.api_key.name)

    @display(description="Asked for, last asked")
    def model_column(self, row: RequestRecord) -> SafeString:
        last = row.attempts[-1] if row.attempts else None
        return two_lines(row.requested_model or "-", f"{last['model']} at {last['provider']}" if last else "nobody")

    @display(
        description="End",
        label={"answered": "success", "refused": "warning", "failed": "danger", "broke": "danger", "stopped": "info"},
    )
    def show_end(self, row: RequestRecord) -> tuple[str, str]:
        return end_of(row), f"{row.status} {row.error_code.replace('_', ' ')}".strip()

    @display(description="Tried, skipped")
    def tried(self, row: RequestRecord) -> SafeString:
        if row.replay_of:
            return two_lines("replay", "of an earlier answer")
        return number(two_lines(len(row.attempts), f"{len(row.skipped)} skipped" if row.skipped else ""))

    @display(description="Latency, ms")
    def latency(self, row: RequestRecord) -> SafeString:
        first = "" if row.first_content_ms is None else f"first content {row.first_content_ms:,}"
        return number(two_lines(f"{row.latency_ms:,}", first))

    @display(description="End")
    def ended(self, row: RequestRecord) -> str:
        return f"{ENDS[end_of(row)][0]}: {row.status} {row.error_code}".strip()

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

    @display(description="Candidates")
    def skipped_table(self, row: RequestRecord) -> SafeString:
        return passed_over(row)

    @display(description="Hooks")
    def hooks_table(self, row: RequestRecord) -> SafeString:
        return verdicts_of(row)

    @display(description="Charges, USD")
    def charges(self, row: RequestRecord) -> SafeString:
        return charges_of(_story(row))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[RequestRecord], search_term: str
    ) -> tuple[QuerySet[RequestRecord], bool]:
        return (queryset.filter(request_id=search_term.strip()) if search_term else queryset), False


def end_of(row: RequestRecord) -> str:
    """Which of `ENDS` a request came to."""
    if not row.error_code:
        return "answered"
    if row.error_code in BROKEN_OFF:
        return "stopped"
    return "failed" if row.status >= 500 else "refused" if row.status >= 400 else "broke"


def _story(row: RequestRecord) -> RequestStory:
    """What the ledger knows of it, asked once for all fields of its page."""
    if not hasattr(row, "_story"):
        row._story = story_of(row)  # type: ignore[attr-defined]
    story: RequestStory = row._story  # type: ignore[attr-defined]
    return story
