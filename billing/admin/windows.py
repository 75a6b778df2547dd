"""Lists of tables that grow for ever: a stretch of time, page after page by the last row seen, no COUNT, no OFFSET."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import build_q_object_from_lookup_parameters
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.contrib.filters.admin import RangeDateFilter
from unfold.views import ChangeList

CURSOR = "before"
DEFAULT_WINDOW = dt.timedelta(hours=24)
LONGEST_WINDOW = dt.timedelta(days=92)
SHORTCUTS = (("24 hours", 0), ("today", 1), ("7 days", 7), ("31 days", 31))
"""Labels, and how many UTC days each shows; 0 for the default window."""


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` to before `end`, both UTC."""

    start: dt.datetime
    end: dt.datetime
    is_default: bool = False
    ends_now: bool = False


def window_between(first_day: str, last_day: str) -> Window:
    """The window of two UTC days such as 2026-11-21, both included; the last 24 hours when neither is one.

    A window is at most `LONGEST_WINDOW` long; the earlier part is dropped.
    """
    start, end = _midnight(first_day), _midnight(last_day)
    now = timezone.now()
    if start is None and end is None:
        return Window(now - DEFAULT_WINDOW, now, is_default=True, ends_now=True)
    until = min(end + dt.timedelta(days=1), now) if end else now
    return Window(max(start or until - LONGEST_WINDOW, until - LONGEST_WINDOW), until, ends_now=until == now)


def _midnight(day: str) -> dt.datetime | None:
    try:
        midnight = dt.datetime.combine(dt.date.fromisoformat(day), dt.time(), dt.UTC)
    except ValueError:
        return None
    # Days that no ledger has, and from which a window cannot be reckoned.
    return midnight if 2000 <= midnight.year < 9000 else None


class WindowFilter(RangeDateFilter):
    """Keeps a list to a window."""

    window: Window | None

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        days = (str(self.used_parameters.get(f"{self.parameter_name}_{side}", "")) for side in ("from", "to"))
        self.window = window = window_between(*days)
        return self.within(queryset, window)

    def within(self, queryset: QuerySet[Any], window: Window) -> QuerySet[Any]:
        """The rows of a window; `created_at` is indexed."""
        return queryset.filter(created_at__gte=window.start, created_at__lt=window.end)


class KeysetPaginator(Paginator):
    """Knows its page only; the template links to what is older."""

    template_name = "admin/keyset_pagination.html"

    @property
    def count(self) -> int:
        return len(self.object_list)


class KeysetChangeList(ChangeList):
    """A newest-first list by the model admin's `keyset`: a time and an id, or an id alone."""

    window: Window | None
    other_filters: dict[str, Any]
    """What the address asks for beyond the filters shown."""
    older: str | None
    newest: str
    is_first_page: bool
    shortcuts: list[tuple[str, str]]

    def get_filters_params(self, params: dict[str, Any] | None = None) -> dict[str, Any]:
        found: dict[str, Any] = super().get_filters_params(params)
        found.pop(CURSOR, None)
        return found

    def get_filters(self, request: HttpRequest) -> Any:
        found = super().get_filters(request)
        self.other_filters = found[2]
        return found

    def narrowed(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """What the filters leave of rows that have the same columns, but for the window of time."""
        for spec in self.filter_specs:
            if not isinstance(spec, WindowFilter):
                left = spec.queryset(request, queryset)
                queryset = queryset if left is None else left
        return queryset.filter(build_q_object_from_lookup_parameters(self.other_filters))

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[str]:
        """Always the keyset: no other order is indexed."""
        return [f"-{field}" for field in self.model_admin.keyset]

    def get_results(self, request: HttpRequest) -> None:
        cursor = self.params.get(CURSOR, "")
        self.is_first_page = not cursor
        self.filter_params.pop(CURSOR, None)
        page = self.queryset.filter(self._older_than(cursor)) if cursor else self.queryset
        rows = list(page[: self.list_per_page + 1])
        self.result_list = rows[: self.list_per_page]
        has_more = len(rows) > self.list_per_page
        self.older = self.get_query_string({CURSOR: self._cursor_at(self.result_list[-1])}) if has_more else None
        self.newest = self.get_query_string()
        self.window = next((spec.window for spec in self.filter_specs if isinstance(spec, WindowFilter)), None)
        self.shortcuts = [(label, self._link_to_last(days)) for label, days in SHORTCUTS]
        self.result_count = self.full_result_count = len(self.result_list)
        self.show_full_result_count = self.show_admin_actions = False
        self.can_show_all = self.multi_page = False
        self.paginator = KeysetPaginator(self.result_list, self.list_per_page)

    def _link_to_last(self, days: int) -> str:
        first_day = timezone.now().date() - dt.timedelta(days=days - 1)
        return str(self.get_query_string({"created_at_from": first_day.isoformat()} if days else {}, ["created_at"]))

    def _cursor_at(self, row: Model) -> str:
        values = (getattr(row, field) for field in self.model_admin.keyset)
        return "_".join(value.isoformat() if isinstance(value, dt.datetime) else str(value) for value in values)

    def _older_than(self, cursor: str) -> Q:
        """The rows after a cursor. The first condition is what the index can begin at."""
        fields = self.model_admin.keyset
        try:
            parts = zip(fields, cursor.split("_"), strict=True)
            values = [self.opts.get_field(field).to_python(text) for field, text in parts]
        except (ValueError, ValidationError) as error:
            raise IncorrectLookupParameters(error) from error
        if len(fields) == 1:
            return Q(**{f"{fields[0]}__lt": values[0]})
        time, row_id = fields
        return Q(**{f"{time}__lte": values[0]}) & (Q(**{f"{time}__lt": values[0]}) | Q(**{f"{row_id}__lt": values[1]}))
