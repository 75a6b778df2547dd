"""What every page of the operators' admin shares: safe defaults, and actions that change one object by POST.

Role checks are Django's permission checks, answered by `tenants.roles`. Every change leaves a LogEntry and an audit
event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.contrib.admin import ShowFacets
from django.contrib.admin.utils import quote, unquote
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from unfold.admin import TabularInline
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from tenants.audited_admin import AuditedAdmin, verb_of
from tenants.models import Operator
from tenants.reauthentication import PasswordAgain
from tenants.scoping import is_member, visible_to

REASON_LENGTH = 500

Change = Callable[..., Any]
"""An action's body: `(model_admin, obj, *, by, reason)`; it calls a service. `response_action` gets what it returns."""


def operator_of(request: HttpRequest) -> Operator:
    """The logged-in operator; only for views that the admin site has let through."""
    return cast(Operator, request.user)


def number(text: object) -> SafeString:
    """A figure for a list column: set right, in digits of one width."""
    return format_html('<span class="figure">{}</span>', text)


def two_lines(first: object, second: object) -> SafeString:
    """A list cell of two facts that belong together, the lesser one below."""
    return format_html('{}<br><span class="remark">{}</span>', first, second)


def utc(field: str, title: str) -> Callable[[Any], str]:
    """A column or read-only field of a moment, as 2026-11-21 09:41:07 in UTC."""

    @display(description=f"{title}, UTC", ordering=field)
    def column(obj: Any) -> str:
        moment = getattr(obj, field)
        return f"{moment:%Y-%m-%d %H:%M:%S}" if moment else "-"

    column.__name__ = f"{field}_utc"
    return cast(Callable[[Any], str], column)


def once(make: Callable[[Any, Any], SafeString]) -> Callable[[Any, Any], SafeString]:
    """Keep what a read-only field that asks the database has made of a row: a page asks each field several times."""
    kept = f"_{make.__name__}_made"

    @wraps(make)
    def field(model_admin: Any, obj: Any) -> SafeString:
        if not hasattr(obj, kept):
            setattr(obj, kept, make(model_admin, obj))
        return cast(SafeString, getattr(obj, kept))

    return field


class ReasonForm(forms.Form):
    """What the confirmation page asks: why, for the object's history."""

    reason = forms.CharField(
        label="Reason (optional, kept in the history)",
        max_length=REASON_LENGTH,
        required=False,
        widget=UnfoldAdminTextareaWidget({"rows": 2, "autofocus": True}),
    )

    def __init__(self, *args: Any, about: models.Model, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.about = about

    def answers(self) -> dict[str, Any]:
        """What was asked beside the reason and the confirmation, for the action. Only after `is_valid`."""
        return {name: value for name, value in self.cleaned_data.items() if name not in ("reason", "typed_name")}


class TypedForm(ReasonForm):
    """Asked before what stops many calls at once: a reason, and the object's name, typed."""

    reason = forms.CharField(
        label="Reason (kept in the history)",
        max_length=REASON_LENGTH,
        widget=UnfoldAdminTextareaWidget({"rows": 2, "autofocus": True}),
    )
    typed_name = forms.CharField(
        label="Type its name to confirm", max_length=200, widget=UnfoldAdminTextInputWidget({"autocomplete": "off"})
    )

    def clean_typed_name(self) -> str:
        typed = str(self.cleaned_data["typed_name"])
        if typed.strip() != str(self.about):
            raise forms.ValidationError(f"Type {self.about}, exactly as it is written here.")
        return typed


def nothing_to_say(obj: Any) -> Sequence[str]:
    """For actions whose question says it all."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSpec:
    """What a button says and needs."""

    label: str
    done: str
    permission: str
    question: str
    refusals: tuple[type[Exception], ...]
    offered: Callable[[Any], bool]
    consequences: Callable[[Any], Sequence[str]] = nothing_to_say
    form: type[ReasonForm] = ReasonForm
    asks_password: bool = False


def operator_action(
    *,
    label: str,
    done: str,
    question: str = "",
    permission: str = "change",
    refusals: tuple[type[Exception], ...] = (),
    offered: Callable[[Any], bool] = lambda obj: True,
) -> Callable[[Change], Callable[..., HttpResponse]]:
    """Turn a change of one object into a view that only a POST by a permitted operator can run.

    `question` asks for confirmation and a reason first; `refusals` are the service's errors to show as messages;
    `offered` says for which objects the button is drawn: what may happen is the service's to decide. `permission` names
    the model admin's `has_<permission>_permission`. Name the method in `object_actions` to give it a URL and a button.
    """
    return action_of(
        ActionSpec(label=label, done=done, permission=permission, question=question, refusals=refusals, offered=offered)
    )


def action_of(spec: ActionSpec) -> Callable[[Change], Callable[..., HttpResponse]]:
    """`operator_action` for one that says in numbers what it will do (`consequences`) or asks more (`form`).

    What the form asks beside the reason reaches the action as keywords.
    """

    def decorate(change: Change) -> Callable[..., HttpResponse]:
        @wraps(change)
        def view(model_admin: OperatorModelAdmin, request: HttpRequest, *, object_id: str) -> HttpResponse:
            return model_admin.perform_action(request, object_id, spec=view.spec, change=change)  # type: ignore[attr-defined]

        view.spec = spec  # type: ignore[attr-defined]
        return view

    return decorate


def password_again(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Have the password given again before an `operator_action`, unless it was just given. Put it above that."""
    view.spec = replace(view.spec, asks_password=True)  # type: ignore[attr-defined]
    return view


class OperatorModelAdmin(PasswordAgain, AuditedAdmin):
    """The base of every model's admin."""

    actions = None
    object_actions: tuple[str, ...] = ()
    """Names of `operator_action` methods."""
    buttons_in_list = False
    may_be_deleted = False
    """Off where usage, history or calls refer to rows: those are suspended, retired, revoked or disabled instead."""
    empty_hint = ""
    """What to do next, shown by an empty list."""
    change_form_template = "admin/operator_change_form.html"
    list_per_page = 50
    list_filter_submit = True
    show_facets = ShowFacets.NEVER

    def url_name(self, page: str) -> str:
        """The name of one of this model's pages within the `admin` namespace."""
        return f"{self.opts.app_label}_{self.opts.model_name}_{page}"

    def get_urls(self) -> list[URLPattern]:
        views = ((name, self.admin_site.admin_view(getattr(self, name))) for name in self.object_actions)
        own = [path(f"<path:object_id>/{name}/", view, name=self.url_name(name)) for name, view in views]
        return [*own, *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        queryset: QuerySet[Any] = super().get_queryset(request)
        related = self.list_select_related
        queryset = visible_to(request.user, queryset)
        return queryset.select_related(*related) if isinstance(related, tuple) and related else queryset

    def perform_action(self, request: HttpRequest, object_id: str, *, spec: ActionSpec, change: Change) -> HttpResponse:
        """Run an action for whoever posted it, in one transaction with its LogEntry. For `operator_action` only."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        may = getattr(self, f"has_{spec.permission}_permission")
        if not may(request):
            raise PermissionDenied
        obj = self.get_object(request, unquote(object_id))
        if obj is None:
            raise Http404
        if not may(request, obj):
            raise PermissionDenied
        if spec.asks_password and (page := self.ask_password(request)) is not None:
            return page
        form = spec.form(request.POST, about=obj)
        if spec.question and not ("confirmed" in request.POST and form.is_valid()):
            return self._ask(request, obj, spec=spec, form=form)
        reason = form.cleaned_data["reason"] if form.is_valid() else ""
        answers = form.answers() if form.is_valid() else {}
        try:
            with transaction.atomic():
                result = change(self, obj, by=operator_of(request), reason=reason, **answers)
                self.log_change(request, obj, f"{spec.done}. {reason}".strip(), verb=verb_of(spec.done))
        except spec.refusals as refusal:
            messages.error(request, str(refusal))
        else:
            if (shown := self.response_action(request, obj, result=result)) is not None:
                return shown
            messages.success(request, f"{spec.done}: {obj}")
        return HttpResponseRedirect(self.page_of_origin(request, obj))

    def response_action(self, request: HttpRequest, obj: models.Model, *, result: Any) -> HttpResponse | None:
        """A page for what an action returned and nobody can see again; None for the usual message."""
        return None

    def _ask(self, request: HttpRequest, obj: models.Model, *, spec: ActionSpec, form: ReasonForm) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"{spec.label}?",
            "opts": self.opts,
            "object": obj,
            "spec": spec,
            "consequences": spec.consequences(obj),
            "form": form if "confirmed" in request.POST else spec.form(about=obj),
            "next": self.page_of_origin(request, obj),
        }
        return TemplateResponse(request, "admin/confirm_action.html", context)

    def page_of_origin(self, request: HttpRequest, obj: models.Model) -> str:
        """Where the button was pressed, filters included; the object's page when the browser does not say."""
        origin = request.POST.get("next") or request.headers.get("Referer", "")
        if url_has_allowed_host_and_scheme(origin, {request.get_host()}, require_https=request.is_secure()):
            return origin
        return reverse(f"admin:{self.url_name('change')}", args=[quote(obj.pk)])

    def offered_actions(self, obj: models.Model, *, permitted_to: HttpRequest | None = None) -> list[dict[str, str]]:
        """The buttons that make sense for an object as it stands: `label`, `variant` and `url` to POST to.

        The first is the usual next step and stands out, unless it is one that asks first. `permitted_to` leaves out
        what its operator may not do; without it, the caller has seen to that.
        """
        offered: list[dict[str, str]] = []
        for name in self.object_actions:
            spec: ActionSpec = getattr(self, name).spec
            may = permitted_to is None or getattr(self, f"has_{spec.permission}_permission")(permitted_to)
            if may and spec.offered(obj):
                variant = "danger" if spec.question else "plain" if offered else "primary"
                url = reverse(f"admin:{self.url_name(name)}", args=[quote(obj.pk)])
                offered.append({"label": spec.label, "variant": variant, "url": url})
        return offered

    @display(description="")
    def buttons(self, obj: models.Model) -> SafeString:
        """A list column of the harmless actions; each button posts the list's own form, which has the CSRF token."""
        harmless = (action for action in self.offered_actions(obj) if action["variant"] != "danger")
        rows = ((action["url"], action["variant"], action["label"]) for action in harmless)
        buttons = format_html_join(" ", '<button formaction="{}" class="row-button {}">{}</button>', rows)
        return format_html('<span class="row-buttons">{}</span>', buttons)

    def get_list_display(self, request: HttpRequest) -> tuple[Any, ...]:
        columns = tuple(super().get_list_display(request))
        return (*columns, "buttons") if self.buttons_in_list and self.has_change_permission(request) else columns

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        obj = kwargs.get("obj")
        if obj is not None:
            context["object_actions"] = self.offered_actions(obj, permitted_to=request)
        context["is_member"] = is_member(request.user)
        response: HttpResponse = super().render_change_form(request, context, **kwargs)
        return response

    def formfield_for_dbfield(self, db_field: models.Field[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        if isinstance(db_field, ArrayField) and db_field.base_field.choices:
            return forms.MultipleChoiceField(
                choices=db_field.base_field.choices,
                required=not db_field.blank,
                label=capfirst(str(db_field.verbose_name)),
                help_text=db_field.help_text,
                widget=UnfoldAdminCheckboxSelectMultipleWidget,
            )
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def get_list_filter(self, request: HttpRequest) -> Any:
        """Members get no filter that looks a row up by its id: the box shows the name of whatever was asked for."""
        filters = super().get_list_filter(request)
        if not is_member(request.user):
            return filters
        return [one for one in filters if not (isinstance(one, tuple) and issubclass(one[1], AutocompleteSelectFilter))]

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Only the declared filters: any field may be probed otherwise, a credential's ciphertext among them."""
        names = [entry[0] if isinstance(entry, tuple) else entry for entry in self.get_list_filter(request)]
        fields = [getattr(name, "parameter_name", name) for name in names]
        suffixes = ("", "__exact", "__id__exact", "__isnull", "_from", "_to")
        return lookup in {f"{field}{suffix}" for field in fields for suffix in suffixes}

    def response_post_save_add(self, request: HttpRequest, obj: models.Model) -> HttpResponse:
        """Back to the tenant whose page led here with `?tenant=`; the list otherwise."""
        tenant_id = getattr(obj, "tenant_id", None)
        if tenant_id is not None and request.GET.get("tenant") == str(tenant_id):
            return HttpResponseRedirect(reverse("admin:tenants_tenant_change", args=[tenant_id]))
        response: HttpResponse = super().response_post_save_add(request, obj)
        return response

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return self.may_be_deleted and super().has_delete_permission(request, obj)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method == "POST":
            raise PermissionDenied
        response: HttpResponse = super().changelist_view(request, extra_context)
        return response

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method == "POST":
            raise PermissionDenied
        response: HttpResponse = super().history_view(request, object_id, extra_context)
        return response


class ReadOnlyInline(TabularInline):
    """Rows of another model on an object's page, to look at."""

    extra = 0
    hide_title = True
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False
