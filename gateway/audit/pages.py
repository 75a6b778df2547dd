"""The audit explorer: what happened, newest first, with what it was before and after, and whether the chains hold."""

from __future__ import annotations

import hmac
from functools import cache
from typing import Any

from django.contrib import admin
from django.db import models
from django.db.models import Count, Q, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import display

from billing.admin.usage import LedgerAdmin
from billing.admin.windows import KeysetChangeList, WindowFilter
from gateway.audit.kept_texts import OpenedText, read
from gateway.audit.verification import chain_name
from gateway.models import AuditCheck, KeptText
from tenants.audit import type_name
from tenants.models import ActorKind, AuditChain, AuditEvent, Operator, Role, Tenant
from tenants.operator_admin import number, operator_action, operator_of, password_again, two_lines, utc
from tenants.sealing import SealError

REQUEST = "request"
ACTOR_PAGES = {
    ActorKind.OPERATOR.value: "admin:tenants_operator_change",
    ActorKind.KEY.value: "admin:tenants_apikey_change",
}
LONGEST_VALUE = 300


class TextGoneError(Exception):
    """A call's text cannot be shown; the text says why."""


class ObjectTypeFilter(DropdownFilter):
    """By what it happened to; the choices are the pages there are, never the log's own rows."""

    title = "what"
    parameter_name = "object_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = {type_name(model) for model in admin.site._registry}
        return [(name, name.replace("_", " ")) for name in sorted(names | {REQUEST})]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(object_type=self.value()) if self.value() else queryset


class WhoFilter(DropdownFilter):
    """By operator. Keys are found by their name in the search."""

    title = "operator"
    parameter_name = "who"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in Operator.objects.order_by("username").values_list("username", flat=True)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(~Q(actor_kind=ActorKind.KEY), actor=self.value()) if self.value() else queryset


CALLS = tuple(
    f"request.{end}" for end in ("completed", "failed", "blocked", "cancelled", "fallback", "retried", "started")
)
REFUSALS = ("operator.refused", "operator.login_refused", "key.refused")
LOGINS = ("operator.logged_in", "operator.logged_out", "operator.login_refused")
TEXT_READ = "audit_event.text_read"
KINDS: dict[str, tuple[str, Q]] = {
    "changes": (
        "Changes by operators",
        Q(actor_kind=ActorKind.OPERATOR) & ~Q(event__in=(*LOGINS, *REFUSALS, TEXT_READ)),
    ),
    "refused": ("Refused keys, logins and actions", Q(event__in=REFUSALS)),
    "logins": ("Logins and logouts", Q(event__in=LOGINS)),
    "texts": ("Kept texts read", Q(event=TEXT_READ)),
    "alerts": ("Budget alerts", Q(event="budget.alert")),
    **{event: (f"Calls {event.partition('.')[2]}", Q(event=event)) for event in CALLS},
}


class KindFilter(DropdownFilter):
    """By what kind of thing happened."""

    title = "kind of event"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, label) for name, (label, _) in KINDS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = KINDS.get(self.value() or "")
        return queryset.filter(chosen[1]) if chosen else queryset


class OwnerFilter(DropdownFilter):
    """What is no tenant's: beside the filter by tenant."""

    title = "platform"
    parameter_name = "platform"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("only", "Only the platform's own")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(tenant=None) if self.value() == "only" else queryset


class AuditChangeList(KeysetChangeList):
    """The list with how the chains stand."""

    chains: dict[str, Any]

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        totals = AuditChain.objects.aggregate(chains=Count("pk"), events=Sum("sequence"), dropped=Sum("base_sequence"))
        check = AuditCheck.objects.first()
        self.chains = {
            **totals,
            "check": check,
            "breaks": _named(check.breaks) if check else [],
        }


def _named(breaks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first bad event of each chain, with whose it is."""
    names = dict(Tenant.objects.filter(pk__in=[each["chain"] for each in breaks]).values_list("pk", "name"))
    return [{**each, "whose": names.get(each["chain"]) or chain_name(each["chain"])} for each in breaks]


@admin.register(AuditEvent)
class AuditEventAdmin(LedgerAdmin):
    """Everybody may look, and nobody may change: there is no form, and the database refuses besides."""

    keyset = ("created_at", "id")
    list_display = ("when", "show_event", "who", "what", "tenant_name", "place")
    list_display_links = ("when", "show_event")
    list_select_related = ("tenant",)
    list_before_template = "admin/audit/status.html"
    list_filter = (
        ("created_at", WindowFilter),
        KindFilter,
        ("tenant", AutocompleteSelectFilter),
        OwnerFilter,
        ("actor_kind", ChoicesDropdownFilter),
        WhoFilter,
        ObjectTypeFilter,
    )
    search_fields = ("event",)
    search_help_text = "An exact event, name of a key or operator, object id or name, within the time shown"
    empty_hint = "Calls, changes by operators and logins are listed here within a second."
    fieldsets = (
        (None, {"fields": (
            utc("happened_at", "Happened"), "event", "tenant", "show_actor", "address", "show_object",
        )}),
        ("Before and after", {"fields": ("difference",)}),
        ("Details", {"fields": ("further",)}),
        ("Place in the chain", {"fields": (utc("created_at", "Chained"), "sequence", "show_digest", "show_chain")}),
    )  # fmt: skip
    readonly_fields = ("show_actor", "show_object", "difference", "further", "show_digest", "show_chain")
    object_actions = ("reveal",)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        return AuditChangeList

    def has_read_text_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Prompts and answers are for owners, whose reading them is an event itself."""
        return operator_of(request).role == Role.OWNER

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        if self.has_read_text_permission(request):
            context["object_actions"] = self.offered_actions(kwargs["obj"])
        return super().render_change_form(request, context, **kwargs)

    @display(description="Time, UTC")
    def when(self, row: AuditEvent) -> str:
        return f"{row.happened_at:%Y-%m-%d %H:%M:%S}"

    @display(
        description="Event",
        label={"completed": "success", "blocked": "warning", "failed": "danger", "refused": "danger", "other": "info"},
    )
    def show_event(self, row: AuditEvent) -> tuple[str, str]:
        verb = row.event.rpartition(".")[2].removeprefix("login_")
        return verb if verb in ("completed", "blocked", "failed", "refused") else "other", row.event.replace("_", " ")

    @display(description="Who")
    def who(self, row: AuditEvent) -> SafeString:
        return two_lines(row.actor or "-", row.get_actor_kind_display().lower())

    @display(description="What")
    def what(self, row: AuditEvent) -> SafeString:
        name, url = row.object_name or row.object_id or "-", _page_of(row)
        told = format_html('<a class="link" href="{}">{}</a>', url, name) if url else name
        return two_lines(told, row.object_type.replace("_", " "))

    @display(description="Whose")
    def tenant_name(self, row: AuditEvent) -> str:
        return row.tenant.name if row.tenant else "the platform's"

    @display(description="Place")
    def place(self, row: AuditEvent) -> SafeString:
        return number(two_lines(f"{row.sequence:,}", row.digest[:12]))

    @display(description="Who")
    def show_actor(self, row: AuditEvent) -> SafeString | str:
        name = f" {row.actor} (id {row.actor_id})" if row.actor_id else f" {row.actor}".rstrip()
        words = f"{row.get_actor_kind_display()}{name}"
        page = ACTOR_PAGES.get(row.actor_kind)
        if page is None or not row.actor_id:
            return words
        return format_html('<a class="link" href="{}">{}</a>', reverse(page, args=[row.actor_id]), words)

    @display(description="Digest")
    def show_digest(self, row: AuditEvent) -> SafeString:
        return format_html('<span class="digest">{}</span>', row.digest)

    @display(description="Chain")
    def show_chain(self, row: AuditEvent) -> SafeString:
        url = reverse("admin:tenants_auditchain_change", args=[row.chain])
        return format_html('<a class="link" href="{}">{}</a>', url, chain_name(row.chain))

    @display(description="What")
    def show_object(self, row: AuditEvent) -> SafeString | str:
        words = f"{row.object_type.replace('_', ' ')} {row.object_name or ''} (id {row.object_id})"
        url = _page_of(row)
        return format_html('<a class="link" href="{}">{}</a>', url, words) if url else words

    @display(description="Fields")
    def difference(self, row: AuditEvent) -> SafeString:
        details = row.details
        before, after = (details.get(side) or {} for side in ("before", "after"))
        names = list(dict.fromkeys([*before, *after]))
        if not names:
            return format_html('<span class="remark">{}</span>', "No field of it changed.")
        lines = format_html_join(
            "",
            "<tr><th>{}</th><td>{}</td><td>{}</td></tr>",
            ((name, _cell(name, before), _cell(name, after)) for name in names),
        )
        head = SafeString('<tr><th></th><th scope="col">before</th><th scope="col">after</th></tr>')
        return format_html('<table class="standings">{}{}</table>', head, lines)

    @display(description="Facts")
    def further(self, row: AuditEvent) -> SafeString:
        facts = [(name, value) for name, value in row.details.items() if name not in ("before", "after")]
        if not facts:
            return format_html('<span class="remark">{}</span>', "None besides.")
        return format_html(
            '<table class="standings">{}</table>', format_html_join("", "<tr><th>{}</th><td>{}</td></tr>", facts)
        )

    @password_again
    @operator_action(
        label="Show prompt and answer",
        done="Text read",
        question="Your reading it is written down, with the reason you give.",
        permission="read_text",
        refusals=(TextGoneError,),
        offered=lambda event: bool(event.details.get("text_sha256")),
    )
    def reveal(self, event: AuditEvent, *, by: Operator, reason: str) -> OpenedText:
        told = str(event.details.get("text_sha256", ""))
        problem = "Its days are over: it was deleted."
        for row in KeptText.objects.filter(tenant=event.tenant_id, request_id=event.object_id):
            try:
                opened = read(row)
            except SealError as error:
                problem = f"The text {error}"
                continue
            if hmac.compare_digest(opened.digest, told):
                return opened
            problem = "A text is there, but it is not the one of this event."
        raise TextGoneError(problem)

    def response_action(self, request: HttpRequest, obj: models.Model, *, result: Any) -> HttpResponse | None:
        """The text, in the answer to the POST that asked for it and nowhere else."""
        context = {
            **self.admin_site.each_context(request),
            "title": "Prompt and answer",
            "opts": self.opts,
            "object": obj,
            "request_text": result.request,
            "answer_text": result.answer,
        }
        return TemplateResponse(request, "admin/audit/text.html", context, headers={"Cache-Control": "no-store"})

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AuditEvent], search_term: str
    ) -> tuple[QuerySet[AuditEvent], bool]:
        """Exactly: what contains a text cannot be looked up in any index."""
        term = search_term.strip()
        if not term:
            return queryset, False
        return queryset.filter(Q(event=term) | Q(actor=term) | Q(object_id=term) | Q(object_name=term)), False


def _cell(name: str, side: dict[str, Any]) -> SafeString | str:
    if name not in side:
        return format_html('<span class="remark">{}</span>', "not there")
    text = "empty" if side[name] in (None, "", []) else str(side[name])
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _page_of(row: AuditEvent) -> str | None:
    """The page of what it happened to; a call's is found by its id."""
    if row.object_type == REQUEST:
        return f"{reverse('admin:gateway_requestrecord_changelist')}?q={row.object_id}"
    name = _pages().get(row.object_type)
    try:
        return reverse(f"admin:{name}_change", args=[row.object_id]) if name and row.object_id else None
    except NoReverseMatch:
        return None


@cache
def _pages() -> dict[str, str]:
    """The name of each model's pages, by what its rows are called in the log."""
    return {type_name(model): model._meta.label_lower.replace(".", "_") for model in admin.site._registry}
