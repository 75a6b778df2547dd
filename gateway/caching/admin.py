"""The admin page of cache rules: whose answers are kept, how often they were there, and the purge."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet, Sum
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import display
from unfold.views import ChangeList

from billing.money import usd
from gateway.caching.models import CacheDay, CacheRule
from gateway.caching.services import kept_now, purge, purge_tenant
from tenants.models import Operator
from tenants.operator_admin import OperatorModelAdmin, ReadOnlyInline, number, once, operator_action, two_lines

LIST_DAYS, PAGE_DAYS = 7, 31


def rate_of(hits: int, misses: int) -> str:
    """How many of a hundred calls found their answer."""
    asked = hits + misses
    return f"{100 * hits / asked:.1f} %" if asked else "-"


def _since(days: int) -> dt.date:
    return timezone.now().astimezone(dt.UTC).date() - dt.timedelta(days=days - 1)


class CacheDayInline(ReadOnlyInline):
    """The last month, day by day."""

    model = CacheDay
    fields = ("day", "hits", "misses", "show_rate", "saved_usd")
    readonly_fields = fields
    verbose_name_plural = f"last {PAGE_DAYS} days, UTC"

    @display(description="Hit rate")
    def show_rate(self, day: CacheDay) -> str:
        return rate_of(day.hits, day.misses)

    @display(description="Saved, USD")
    def saved_usd(self, day: CacheDay) -> str:
        return usd(day.saved_nano_usd)

    def get_queryset(self, request: HttpRequest) -> QuerySet[CacheDay]:
        rows: QuerySet[CacheDay] = super().get_queryset(request)
        return rows.filter(day__gte=_since(PAGE_DAYS))


class CacheChangeList(ChangeList):
    """The list with what all its rules came to."""

    totals: dict[str, str]

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        days = CacheDay.objects.filter(day__gte=_since(LIST_DAYS), rule__in=self.queryset.order_by().values("pk"))
        found = days.aggregate(hits=Sum("hits"), misses=Sum("misses"), saved=Sum("saved_nano_usd"))
        hits, misses = found["hits"] or 0, found["misses"] or 0
        self.totals = {
            "Hit rate": rate_of(hits, misses),
            "Answered from the cache": f"{hits:,} of {hits + misses:,} calls",
            "Saved": f"{usd(found['saved'] or 0)} USD",
        }


@admin.register(CacheRule)
class CacheRuleAdmin(OperatorModelAdmin):
    """Whose answers are given again. Without a rule nothing is kept."""

    list_display = ("tenant", "target_column", "kept_for", "any_temperature", "enabled", "show_rate", "show_saved")
    list_select_related = ("tenant", "model", "group")
    list_filter = (
        ("tenant", AutocompleteSelectFilter),
        ("model", AutocompleteSelectFilter),
        ("group", AutocompleteSelectFilter),
        "enabled",
    )
    search_fields = ("tenant__name", "model__name", "group__name")
    autocomplete_fields = ("tenant", "model", "group")
    fields = ("tenant", "model", "group", "enabled", "ttl_seconds", "any_temperature")
    readonly_fields = ("show_kept",)
    inlines = (CacheDayInline,)
    list_before_template = "admin/gateway/cacherule/totals.html"
    object_actions = ("purge", "purge_tenant")
    buttons_in_list = True
    may_be_deleted = True
    empty_hint = "No answer is kept. Add a rule for a tenant: for one model or group, or for all it may use."

    @display(description="Model or group", ordering="model__name")
    def target_column(self, rule: CacheRule) -> str:
        return rule.target_name

    @display(description="Kept for, s", ordering="ttl_seconds")
    def kept_for(self, rule: CacheRule) -> SafeString:
        return number(f"{rule.ttl_seconds:,}")

    @display(description=f"Hit rate, {LIST_DAYS} days")
    def show_rate(self, rule: Any) -> SafeString:
        hits, misses = rule.hits or 0, rule.misses or 0
        return number(two_lines(rate_of(hits, misses), f"{hits:,} of {hits + misses:,}"))

    @display(description=f"Saved, {LIST_DAYS} days, USD")
    def show_saved(self, rule: Any) -> SafeString:
        return number(usd(rule.saved or 0))

    @display(description="Kept now")
    @once
    def show_kept(self, rule: CacheRule) -> SafeString:
        kept = kept_now(rule)
        if kept is None:
            return format_html("{}", "Redis does not answer, so nothing is given from the cache at the moment.")
        answers = f"{kept.answers:,} answer{'' if kept.answers == 1 else 's'}"
        return format_html("{}{}", "at least " if kept.at_least else "", answers)

    def get_fields(self, request: HttpRequest, obj: CacheRule | None = None) -> Any:
        return (*self.fields, "show_kept") if obj else self.fields

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return CacheChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[CacheRule]:
        recent = Q(days__day__gte=_since(LIST_DAYS))
        rows: QuerySet[CacheRule] = super().get_queryset(request)
        return rows.annotate(
            hits=Sum("days__hits", filter=recent),
            misses=Sum("days__misses", filter=recent),
            saved=Sum("days__saved_nano_usd", filter=recent),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: CacheRule | None = None) -> Any:
        """Entries are kept by rule: one that is about something else is another rule."""
        return ("tenant", "model", "group", *self.readonly_fields) if obj else ()

    @operator_action(label="Purge", done="Purged", question="What is kept under this rule is given to nobody any more.")
    def purge(self, rule: CacheRule, *, by: Operator, reason: str) -> None:
        purge(rule)

    @operator_action(
        label="Purge the tenant",
        done="Purged the whole tenant",
        question="What is kept under any rule of this tenant is given to nobody any more.",
    )
    def purge_tenant(self, rule: CacheRule, *, by: Operator, reason: str) -> None:
        purge_tenant(rule)
