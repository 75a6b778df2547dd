"""Admin pages for the ledger: attempts and usage, to look at only."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from django.contrib import admin
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import display

from billing.admin.adjustments import AdjustAction
from billing.admin.windows import KeysetChangeList, Window, WindowFilter
from billing.explanations import explain, tier_words
from billing.models import Attempt, AttemptState, Ending, UsageRecord
from billing.money import usd
from billing.usage_sums import Stretch, UsageSums, sum_usage
from providers.models import Model, Provider
from tenants.operator_admin import OperatorModelAdmin, number, two_lines, utc
from tenants.scoping import visible_to

CREATED = utc("created_at", "Time")
POSTED = utc("created_at", "Posted")
STARTED = utc("started_at", "Asked")
CLOCK_SLACK_MS = 60_000
"""An attempt's id carries the moment it was made, which may precede `created_at` by the time a process was held up."""


class NameFilter(DropdownFilter):
    """By a name that the ledger keeps as text; the choices come from the registry, never from the ledger."""

    named: type[models.Model]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in self.named._default_manager.values_list("name", flat=True)]

    def has_output(self) -> bool:
        return True

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{self.parameter_name: self.value()}) if self.value() else queryset


class ModelNameFilter(NameFilter):
    title = "model"
    parameter_name = "model_name"
    named = Model


class ProviderNameFilter(NameFilter):
    title = "provider"
    parameter_name = "provider_name"
    named = Provider


class LedgerAdmin(OperatorModelAdmin):
    """Rows that only the ledger writes."""

    keyset: tuple[str, ...]
    sortable_by = ()
    show_full_result_count = False
    list_fullwidth = True
    list_before_template = "admin/billing/usage_window.html"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        return KeysetChangeList

    @display(description="Time, UTC")
    def time_column(self, row: Attempt | UsageRecord) -> SafeString:
        return two_lines(f"{row.created_at:%Y-%m-%d %H:%M:%S}", row.request_id)


def formula_of(charge: UsageRecord) -> SafeString:
    """The charge as a sum of products, and the tier whose rates these are."""
    if charge.price is None:
        return two_lines(", ".join(f"{count:,} {unit}" for unit, count in charge.units.items()) or "-", "no price")
    version = charge.price.version
    lines = format_html_join(
        "",
        "<tr><th>{}</th><td>{}</td><td>at {} per million</td><td>{}</td></tr>",
        (
            (line.unit, number(f"{line.amount:,}"), line.rate, number(line.usd))
            for line in explain(version, charge.units)
        ),
    )
    words = tier_words(version, charge.units)
    return format_html('<table class="rates">{}</table><span class="remark">{}</span>', lines, words)


class UsageWindowFilter(WindowFilter):
    """An exact request id is found whenever it was: it has an index."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if request.GET.get("q"):
            self.window = None
            return queryset
        return super().queryset(request, queryset)


class UsageChangeList(KeysetChangeList):
    """Usage with what the whole window comes to, adjustments included."""

    totals: UsageSums | None = None

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        # Sums are not kept by the source of the figures, and adding up rows would take as long as there are many.
        by_source = any(name.startswith("usage_source") for name in self.filter_params)
        if self.window is not None and not by_source:
            stretch = Stretch(start=self.window.start, end=None if self.window.ends_now else self.window.end)
            self.totals = sum_usage(stretch, narrow=lambda rows: visible_to(request.user, self.narrowed(request, rows)))


@admin.register(UsageRecord)
class UsageRecordAdmin(AdjustAction, LedgerAdmin):
    """Every charge, with the totals of the time shown."""

    keyset = ("created_at", "attempt_id")
    list_display = ("time_column", "tenant_column", "model_column", "show_ending", "tokens_column", "cost", "latency")
    list_select_related = ("tenant", "project")
    list_filter = (
        ("created_at", UsageWindowFilter),
        ("tenant", AutocompleteSelectFilter),
        ("project", AutocompleteSelectFilter),
        ModelNameFilter,
        ProviderNameFilter,
        ("ending", ChoicesDropdownFilter),
        ("usage_source", ChoicesDropdownFilter),
    )
    search_fields = ("request_id",)
    search_help_text = "An exact request id, whenever it was"
    empty_hint = "Every charged call is listed here. Call a model with a key, and look again."
    fieldsets = (
        (None, {"fields": (
            POSTED, STARTED, "request_id", "tenant", "project", "api_key", "user", "attempt", "adjustments",
        )}),
        ("Call", {"fields": (
            "operation", "requested_model", "model_name", "provider_name", "upstream_model", "stream", "ending",
            "latency", "first_content_ms", "conversation", "agent", "agent_type",
        )}),
        ("Charge", {"fields": (
            "cost", "price", "formula", "usage_source", "input_tokens", "output_tokens", "cache_read_tokens",
            "cache_write_tokens", "reasoning_tokens", "provider_usage",
        )}),
    )  # fmt: skip

    @display(description="Tenant, project")
    def tenant_column(self, row: UsageRecord) -> SafeString:
        return two_lines(row.tenant.name, row.project.name if row.project else "no project")

    @display(description="Model, provider")
    def model_column(self, row: UsageRecord) -> SafeString:
        same = row.requested_model == row.model_name
        model = row.model_name if same else f"{row.requested_model} → {row.model_name}"
        return two_lines(model, row.provider_name)

    @display(
        description="Ending",
        label={Ending.COMPLETED: "success", Ending.CLIENT_LEFT: "warning", Ending.FAILED: "danger"},
    )
    def show_ending(self, row: UsageRecord) -> tuple[str, str]:
        return row.ending, row.ending.replace("_", " ")

    @display(description="Tokens")
    def tokens_column(self, row: UsageRecord) -> SafeString:
        return number(two_lines(f"{row.input_tokens:,} in", f"{row.output_tokens:,} out"))

    @display(description="Cost, USD")
    def cost(self, row: UsageRecord) -> SafeString:
        return number(usd(row.cost_nano_usd) if row.price_id else "no price")

    @display(description="Formula, USD")
    def formula(self, row: UsageRecord) -> SafeString:
        return formula_of(row)

    @display(description="Latency, ms")
    def latency(self, row: UsageRecord) -> SafeString:
        return number(f"{row.latency_ms:,}")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        return UsageChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[UsageRecord], search_term: str
    ) -> tuple[QuerySet[UsageRecord], bool]:
        """Exactly, so that the index answers; Django's own exact search compares upper-cased text and scans."""
        return (queryset.filter(request_id=search_term.strip()) if search_term else queryset), False


def lowest_attempt_id(moment: dt.datetime, slack_ms: int) -> uuid.UUID:
    """The least UUIDv7 that could have been made at a moment, give or take some milliseconds."""
    return uuid.UUID(int=(int(moment.timestamp() * 1000) + slack_ms) << 80)


class AttemptWindowFilter(WindowFilter):
    """Ids are ordered by time, and their index is the only one on settled attempts: bound it, so that it ends."""

    def within(self, queryset: QuerySet[Any], window: Window) -> QuerySet[Any]:
        return (
            super()
            .within(queryset, window)
            .filter(
                pk__gte=lowest_attempt_id(window.start, -CLOCK_SLACK_MS),
                pk__lt=lowest_attempt_id(window.end, CLOCK_SLACK_MS),
            )
        )


@admin.register(Attempt)
class AttemptAdmin(LedgerAdmin):
    """Every call to a provider, charged or not."""

    keyset = ("id",)
    list_display = ("time_column", "tenant", "model_column", "operation", "show_state", "failure", "duration")
    list_select_related = ("tenant",)
    list_filter = (
        ("created_at", AttemptWindowFilter),
        ("tenant", AutocompleteSelectFilter),
        ModelNameFilter,
        ProviderNameFilter,
        ("state", ChoicesDropdownFilter),
    )
    search_fields = ("request_id",)
    search_help_text = "An exact request id of the days shown"
    empty_hint = "Every call to a provider is listed here from before it is sent."
    fields = (
        CREATED, "id", "request_id", "tenant", "api_key", "deployment", "operation", "model_name", "provider_name",
        "state", "failure", "swept", utc("ended_at", "Ended"),
    )  # fmt: skip

    @display(
        description="State",
        label={AttemptState.OPEN: "info", AttemptState.SETTLED: "success", AttemptState.VOIDED: "warning"},
    )
    def show_state(self, row: Attempt) -> tuple[str, str]:
        return row.state, row.get_state_display()

    @display(description="Model, provider")
    def model_column(self, row: Attempt) -> SafeString:
        return two_lines(row.model_name, row.provider_name)

    @display(description="Duration, ms")
    def duration(self, row: Attempt) -> SafeString:
        return number(f"{(row.ended_at - row.created_at) // dt.timedelta(milliseconds=1):,}" if row.ended_at else "-")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Attempt], search_term: str
    ) -> tuple[QuerySet[Attempt], bool]:
        return (queryset.filter(request_id=search_term.strip()) if search_term else queryset), False
