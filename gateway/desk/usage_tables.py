"""The usage explorer's answer: rows with names and links, and the chart above them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from billing.analytics.queries import Measured, Question, measure_groups, measure_series
from billing.models import UsageRecord
from billing.models.analytics import UNMAPPED
from gateway.desk.charts import NOTHING, OTHER, TOP, lines, stacked_bars
from gateway.desk.scales import Number, full
from gateway.desk.usage_measures import COLUMNS, MEASURES
from gateway.desk.usage_questions import GROUPS, UsageForm
from gateway.models import RequestRecord
from tenants.models import ApiKey, Project, Tenant

MOST_ROWS = 200
"""On the page; files have `MOST_EXPORTED`."""
MOST_EXPORTED = 10_000
NO_NAME = {
    "project": "no project", "user": "no user", "agent_type": "no agent type", "key": "no key", "model": "no model",
    "provider": "no provider",
}  # fmt: skip
"""What belongs to none: adjustments without a charge, too."""
NEXT_GROUP = {"tenant": "model", "project": "key", "key": "model", "model": "provider", "provider": "model"}
"""How somebody who has picked one group looks into it; the same grouping where nothing is more telling."""

LISTED_BY = {
    "tenant": "tenant__id__exact", "project": "project__id__exact", "key": "api_key__id__exact", "model": "model_name",
    "provider": "provider_name",
}  # fmt: skip
"""How the lists of requests and of usage call the dimensions they can be narrowed by."""


@dataclass(frozen=True, slots=True)
class Row:
    """A group's line of the table."""

    name: str
    sums: Measured
    link: str = ""
    """To this page, narrowed to the group."""
    requests: str = ""
    """To the list of its requests; empty where no list can be narrowed to them."""

    @property
    def figures(self) -> list[Number | None]:
        return [read(self.sums) for _, read in COLUMNS]

    @property
    def cells(self) -> list[str]:
        """The figures as they are read."""
        return [NOTHING if figure is None else full(figure) for figure in self.figures]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the page shows."""

    groups: list[Any]
    """What each row is of: an id or a name."""
    rows: list[Row]
    total: Row
    has_more: bool
    chart: SafeString = field(default_factory=SafeString)


def answer(form: UsageForm, request: HttpRequest) -> Answer:
    """The page's table and chart: two queries over sums, and one for names."""
    table = rows_of(form, request, most=MOST_ROWS)
    return replace(table, chart=_chart(form, table))


def _chart(form: UsageForm, table: Answer) -> SafeString:
    """The greatest groups over time, and, where figures can be added up, what the others come to."""
    question, measure = form.question(), MEASURES[form.cleaned_data["measure"]]
    series = measure_series(question, table.groups[:TOP], columns=measure.columns)
    moments = list(question.moments())

    def figures(of: tuple[bool, Any]) -> list[Number | None]:
        found = series.get(of, {})
        return [measure.read(found.get(moment, EMPTY)) for moment in moments]

    shown = zip(table.groups[:TOP], table.rows, strict=False)
    drawn = {row.name: figures((True, group)) for group, row in shown}
    if measure.adds_up and (False, None) in series:
        drawn[OTHER] = figures((False, None))
    draw = stacked_bars if measure.adds_up else lines
    title = f"{measure.title} by {GROUPS[question.group_by].lower()}"
    return draw(title, [_label(moment, question) for moment in moments], series=drawn, unit=measure.unit)


EMPTY = Measured()


def rows_of(form: UsageForm, request: HttpRequest, *, most: int) -> Answer:
    """The table alone, at most so many rows of it. One query over sums, and one for names."""
    question, measure = form.question(), MEASURES[form.cleaned_data["measure"]]
    groups, total = measure_groups(question, order=measure.order, most=most + 1)
    names = names_of(question.group_by, [group for group, _ in groups])
    lists = _lists(request)
    rows = [
        Row(
            names[group],
            sums,
            link=_narrowed(form, group, name=names[group]),
            requests=_requests_of(question, group, lists=lists),
        )
        for group, sums in groups[:most]
    ]
    return Answer(
        groups=[group for group, _ in groups[:most]], rows=rows, total=Row("All", total), has_more=len(groups) > most
    )


def _label(moment: dt.datetime, question: Question) -> str:
    local = moment.astimezone(question.zone)
    return f"{local:%m-%d}" if question.step == "day" else f"{local:%m-%d %H:%M}"


def names_of(dimension: str, groups: Iterable[Any]) -> dict[Any, str]:
    """What groups are called; names of projects and keys with their tenant's. One query at most."""
    ids = [group for group in groups if group is not None]
    named: dict[Any, str] = {None: NO_NAME.get(dimension, ""), "": NO_NAME.get(dimension, "")}
    if dimension == "tenant":
        named.update(Tenant.objects.filter(pk__in=ids).values_list("pk", "name"))
    elif dimension in ("project", "key"):
        model = Project if dimension == "project" else ApiKey
        rows = model.objects.filter(pk__in=ids).values_list("pk", "tenant__name", "name")
        # A key's name may be used again: the number tells two apart.
        named.update({pk: f"{tenant} / {name} (#{pk})" for pk, tenant, name in rows})
    elif dimension == "agent_type":
        named[UNMAPPED] = "agent types nobody has mapped"
    return {group: named.get(group) or str(group) for group in {*ids, None, ""}}


def _narrowed(form: UsageForm, group: Any, *, name: str) -> str:
    """This page of one group alone; nothing where that cannot be asked for."""
    dimension = form.cleaned_data["group"]
    if group in (None, ""):
        return ""
    value = name if dimension == "tenant" else group
    return "?" + form.address(**{dimension: value, "group": NEXT_GROUP.get(dimension, dimension)})


def _lists(request: HttpRequest) -> list[tuple[str, frozenset[str]]]:
    """The address of each list of calls, best first, and the filters it offers this operator."""
    found = []
    for model in (RequestRecord, UsageRecord):
        model_admin: Any = admin.site.get_model_admin(model)
        if model_admin.has_view_permission(request):
            offered = model_admin.get_list_filter(request)
            names = frozenset(
                f"{one[0]}__id__exact" if isinstance(one, tuple) else one.parameter_name for one in offered
            )
            found.append((reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"), names))
    return found


def _requests_of(question: Question, group: Any, *, lists: list[tuple[str, frozenset[str]]]) -> str:
    """The list of a group's calls in the same time, from the first list that knows every filter; else nothing.

    To which tenants somebody is limited the lists know themselves.
    """
    if group in (None, ""):
        return ""
    wanted = {name: values[0] for name, values in question.narrow.items() if len(values) == 1}
    wanted[question.group_by] = group
    if not wanted.keys() <= LISTED_BY.keys():
        return ""
    filters = {LISTED_BY[name]: value for name, value in wanted.items()}
    last = (question.end - dt.timedelta(microseconds=1)).date()
    days = {"created_at_from": question.start.date().isoformat(), "created_at_to": last.isoformat()}
    for url, names in lists:
        if filters.keys() <= names:
            return f"{url}?{urlencode({**days, **filters})}"
    return ""
