"""The usage explorer: who used what, when, and what it cost, asked by the page's address alone.

Only sums are read (`billing.analytics`), within a time of their own, so that no question slows down the ledger.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import OperationalError, connection, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseRedirect, QueryDict
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.views import View
from django.views.decorators.http import require_POST

from billing.analytics.queries import data_through
from billing.models import AnalyticsDay
from gateway.desk.models import MOST_VIEWS, QUERY_LENGTH, SavedView
from gateway.desk.usage_files import CSV_TYPE, XLSX_TYPE, as_csv, as_xlsx
from gateway.desk.usage_measures import COLUMNS
from gateway.desk.usage_questions import GROUPS, UsageForm, tenants_seen_by
from gateway.desk.usage_tables import MOST_EXPORTED, MOST_ROWS, Answer, answer, names_of, rows_of
from providers.models import AgentType, Model, Provider
from tenants.models import ApiKey, Project, Tenant
from tenants.operator_admin import operator_of

PERMISSION = "billing.view_usagerecord"
TIMEOUT_MS = 5_000
LATE = dt.timedelta(minutes=5)
"""Behind by more than this, the sums are not being kept."""
MOST_CHOICES = 500
"""Names offered for a filter; any other may be typed."""
SHORTCUTS = (("Today", 1), ("7 days", 7), ("31 days", 31), ("90 days", 90))
NARROWED_BY = ("tenant", "project", "key", "model", "provider", "agent_type", "user")
FILES = {"csv": (as_csv, CSV_TYPE), "xlsx": (as_xlsx, XLSX_TYPE)}


def asked(request: HttpRequest, data: QueryDict | None = None) -> UsageForm:
    """The question of an operator who may ask any. Raises PermissionDenied for one who may not."""
    if not operator_of(request).has_perm(PERMISSION):
        raise PermissionDenied
    return UsageForm(request.GET if data is None else data, seen=tenants_seen_by(request))


class UsageExplorer(View):
    """The page."""

    def get(self, request: HttpRequest) -> HttpResponse:
        form = asked(request)
        context: dict[str, Any] = {
            **admin.site.each_context(request), "title": "Usage explorer", "form": form,
            **_freshness(),
            "columns": [heading for heading, _ in COLUMNS], "most_rows": MOST_ROWS, "most_exported": MOST_EXPORTED,
            "views": _views(request), "choices": _choices(form), "shortcuts": _shortcuts(form),
            "address": form.address(),
        }  # fmt: skip
        is_valid = form.is_valid()
        if is_valid:
            context.update(_shown(form, request))
        return TemplateResponse(request, "admin/desk/usage.html", context, status=200 if is_valid else 400)


def _freshness() -> dict[str, Any]:
    """How far the sums are, and whether that is later than it should be."""
    through = data_through()
    return {"through": through, "is_late": through is not None and through < timezone.now() - LATE}


def _shown(form: UsageForm, request: HttpRequest) -> dict[str, Any]:
    """The answer, or why there is none."""
    question = form.question()
    context: dict[str, Any] = {
        "group_title": GROUPS[question.group_by], "question": question, "chips": _chips(form),
        "first": form.cleaned_data["first"], "last": form.cleaned_data["last"],
    }  # fmt: skip
    try:
        with _in_time():
            found: Answer | None = answer(form, request)
    except OperationalError:
        found = None  # said on the page, with what to narrow
    context["answer"] = found
    if found is not None and not found.rows:
        context["has_any"] = AnalyticsDay.objects.exists()
    return context


@contextmanager
def _in_time() -> Iterator[None]:
    """What is asked within ends by its time with `OperationalError`, so that it never keeps the database busy."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = %s", [TIMEOUT_MS])
        yield


def export(request: HttpRequest, form: str) -> HttpResponse:
    """The table as CSV or XLSX. 400 for what cannot be asked or is more rows than a file may have, 503 for too slow."""
    question = asked(request)
    if not question.is_valid():
        return HttpResponseBadRequest(_said(question), content_type="text/plain; charset=utf-8")
    try:
        with _in_time():
            found = rows_of(question, request, most=MOST_EXPORTED)
    except OperationalError:
        said = "This took too long: ask for fewer days, or narrow it by a tenant."
        return HttpResponse(said, status=503, content_type="text/plain; charset=utf-8")
    if found.has_more:
        said = f"This is more than {MOST_EXPORTED:,} rows: narrow it by a tenant or a project."
        return HttpResponseBadRequest(said, content_type="text/plain; charset=utf-8")
    write, content_type = FILES[form]
    content = write(GROUPS[question.cleaned_data["group"]], found, facts=_facts(question))
    days = f"{question.cleaned_data['first']}-to-{question.cleaned_data['last']}"
    disposition = f'attachment; filename="usage-{days}.{form}"'
    return HttpResponse(content, content_type=content_type, headers={"Content-Disposition": disposition})


def _facts(form: UsageForm) -> list[tuple[str, str]]:
    found, through = form.cleaned_data, data_through()
    zone = form.question().zone.key
    facts = [("Days", f"{found['first']} to {found['last']}, {zone}")]
    facts.append(("Data through", f"{through:%Y-%m-%d %H:%M:%S} UTC" if through else "not summed yet"))
    return [*facts, *((GROUPS[name], str(found[name])) for name in NARROWED_BY if found[name])]


def _said(form: UsageForm) -> str:
    return "\n".join(f"{name}: {' '.join(map(str, errors))}" for name, errors in form.errors.items())


# Around the answer --------------------------------------------------------------------------------------------------
def _chips(form: UsageForm) -> list[tuple[str, str, str]]:
    """What the usage is narrowed by: the dimension, its value, and the address without it."""
    found, chips = form.cleaned_data, []
    for name in NARROWED_BY:
        if value := found[name]:
            shown = names_of(name, [value])[value] if name in ("project", "key") else str(value)
            chips.append((GROUPS[name], shown, "?" + form.address(**{name: None})))
    return chips


def _shortcuts(form: UsageForm) -> list[tuple[str, str]]:
    today = timezone.now().date()
    return [
        (label, "?" + form.address(first=today - dt.timedelta(days=days - 1), last=today, per=None))
        for label, days in SHORTCUTS
    ]


def _choices(form: UsageForm) -> dict[str, list[Any]]:
    """Names from the small tables, never from usage. Somebody who sees some tenants only is offered these alone."""
    tenants = Tenant.objects.all() if form.seen is None else Tenant.objects.filter(pk__in=form.seen)
    choices: dict[str, list[Any]] = {
        "tenant": list(tenants.order_by("name").values_list("name", flat=True)[:MOST_CHOICES])
    }
    if form.seen is None:
        for name, model in (("model", Model), ("provider", Provider), ("agent_type", AgentType)):
            choices[name] = list(model._default_manager.order_by("name").values_list("name", flat=True)[:MOST_CHOICES])
    form.is_valid()
    if form.tenant_row is not None:
        for name, owned in (("project", Project), ("key", ApiKey)):
            rows = owned._default_manager.filter(tenant=form.tenant_row).order_by("name", "pk")
            choices[name] = list(rows.values_list("pk", "name")[:MOST_CHOICES])
    return choices


# Saved views --------------------------------------------------------------------------------------------------------
def _views(request: HttpRequest) -> list[SavedView]:
    return list(SavedView.objects.filter(operator=operator_of(request))[:MOST_VIEWS])


@require_POST
def save_view(request: HttpRequest) -> HttpResponse:
    """Keep the question under a name, in the place of an earlier one of that name."""
    name = request.POST.get("name", "").strip()
    form = asked(request, QueryDict(request.POST.get("query", "")))
    refusal = ""
    if not form.is_valid():
        refusal = f"query: {_said(form)}"
    elif not 1 <= len(name) <= 100 or "\0" in name:
        refusal = "name: Give it a name of 1 to 100 characters."
    elif len(form.address()) > QUERY_LENGTH:
        refusal = "query: This is too long to keep."
    else:
        refusal = _keep(request, name, query=form.address())
    if refusal:
        messages.error(request, refusal)
    else:
        messages.success(request, f"Saved: {name}.")
    return HttpResponseRedirect(f"{reverse('admin:desk_usage')}?{form.address()}")


def _keep(request: HttpRequest, name: str, *, query: str) -> str:
    """Write it down; what was refused, or nothing."""
    mine = SavedView.objects.filter(operator=operator_of(request))
    if not mine.filter(name=name).exists() and mine.count() >= MOST_VIEWS:
        return f"name: You have {MOST_VIEWS} views already; delete one first."
    SavedView.objects.update_or_create(operator=operator_of(request), name=name, defaults={"query": query})
    return ""


def open_view(request: HttpRequest, view_id: int) -> HttpResponse:
    """Anybody's view, at an address that can be passed on; what it shows depends on who opens it."""
    asked(request)
    view = get_object_or_404(SavedView, pk=view_id)
    return HttpResponseRedirect(f"{reverse('admin:desk_usage')}?{view.query}")


@require_POST
def delete_view(request: HttpRequest, view_id: int) -> HttpResponse:
    """One's own view."""
    asked(request)
    view = get_object_or_404(SavedView, pk=view_id, operator=operator_of(request))
    view.delete()
    messages.success(request, f"Deleted: {view.name}.")
    return HttpResponseRedirect(reverse("admin:desk_usage"))
