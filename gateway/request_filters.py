"""What the list of requests is narrowed by. Every filter is answered by an index, and none hides what failed."""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import DropdownFilter

from billing.admin.usage import ModelNameFilter, ProviderNameFilter
from gateway.errors import error_codes
from gateway.models import RequestRecord

BROKEN_OFF = ("client_left", "request_cancelled", "server_stopped")
ENDS: dict[str, tuple[str, Q]] = {
    "answered": ("answered", Q(error_code="")),
    "refused": ("refused", ~Q(error_code="") & Q(status__gte=400, status__lt=499)),
    "failed": ("failed", ~Q(error_code="") & Q(status__gte=500) & ~Q(error_code__in=BROKEN_OFF)),
    "broke": ("failed in mid-stream", ~Q(error_code="") & Q(status=200) & ~Q(error_code__in=BROKEN_OFF)),
    "stopped": ("left, cancelled or stopped", Q(error_code__in=BROKEN_OFF)),
}
"""The filter's choices: words, and the rows. All but the first are found by an index of what went wrong."""

WAYS: dict[str, tuple[str, Q]] = {
    "fallback": ("asked more than one", Q(fallback=True)),
    "cached": ("answered from the cache", Q(cache="hit")),
    "nobody": ("nobody was asked", Q(provider_name="")),
}
"""How it was answered: words, and the rows, each by an index of its own."""


class ChosenFilter(DropdownFilter):
    """One of a few conditions."""

    conditions: dict[str, tuple[str, Q]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, words) for name, (words, _) in self.conditions.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(self.conditions[self.value()][1]) if self.value() in self.conditions else queryset


class EndFilter(ChosenFilter):
    title = "end"
    parameter_name = "end"
    conditions = ENDS


class WayFilter(ChosenFilter):
    title = "way"
    parameter_name = "way"
    conditions = WAYS


class LastModelFilter(ModelNameFilter):
    """A refused request counts as its model's, so that no filter by model hides what went wrong."""

    title = "model"


class LastProviderFilter(ProviderNameFilter):
    title = "provider asked last"


class ErrorCodeFilter(DropdownFilter):
    title = "error code"
    parameter_name = "error_code"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(code, code) for code in sorted({*error_codes(), *BROKEN_OFF})]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(error_code=self.value()) if self.value() else queryset


def end_of(row: RequestRecord) -> str:
    """Which of `ENDS` a request came to."""
    if not row.error_code:
        return "answered"
    if row.error_code in BROKEN_OFF:
        return "stopped"
    return "failed" if row.status >= 500 else "refused" if row.status >= 400 else "broke"
