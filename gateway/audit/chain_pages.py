"""The chains of the audit log in the admin: how long each is, where it ends, whether it held when it was last read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.views import ChangeList

from gateway.audit.heads import export_heads
from gateway.models import AuditCheck
from tenants.models import PLATFORM, AuditChain, Tenant
from tenants.operator_admin import OperatorModelAdmin, number, two_lines, utc

THE_PLATFORM = "the platform"


def with_standing(chains: Iterable[AuditChain]) -> None:
    """Note on chains what came of reading them last. One query."""
    check = AuditCheck.objects.first()
    breaks = {each["chain"]: each for each in check.breaks} if check is not None else {}
    for chain in chains:
        chain.check_at = check.at if check is not None else None  # type: ignore[attr-defined]
        chain.broken = breaks.get(chain.chain)  # type: ignore[attr-defined]


def standing_of(chain: Any) -> tuple[str, str]:
    """In a word, and at length."""
    if chain.broken:
        return "broken", f"event {chain.broken['sequence']}: {chain.broken['says']}"
    if chain.check_at is None:
        return "not verified", "that is done each night, and by manage.py verify_audit"
    return "whole", f"when it was read at {chain.check_at:%Y-%m-%d %H:%M} UTC"


def _place(sequence: int, digest: str, *, remark: str) -> SafeString:
    parts = (f"event {sequence:,}", remark, digest)
    return format_html('{} <span class="remark">{}</span><br><span class="digest">{}</span>', *parts)


class ChainChangeList(ChangeList):
    """The list, with how each chain stands."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        with_standing(self.result_list)


@admin.register(AuditChain)
class AuditChainAdmin(OperatorModelAdmin):
    """One row for each tenant that anything happened to, and one for the platform. Everybody may look."""

    list_display = ("whose", "show_events", "show_head", utc("appended_at", "Last event"), "show_standing")
    list_before_template = "admin/audit/export.html"
    search_fields = ("tenant_name",)
    search_help_text = "The name of a tenant"
    ordering = ("chain",)
    empty_hint = "The first call, login or change begins a chain."
    fields = ("whose", "show_standing_at_length", "show_events", "show_end", "show_base", "show_log")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditChain]:
        rows: QuerySet[AuditChain] = super().get_queryset(request)
        names = Tenant.objects.filter(pk=OuterRef("chain")).values("name")
        return rows.annotate(tenant_name=Subquery(names))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ChainChangeList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        chain = super().get_object(request, object_id, from_field)
        if chain is not None:
            with_standing([chain])
        return chain

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.export)
        return [path("export/", view, name=self.url_name("export")), *super().get_urls()]

    def export(self, request: HttpRequest) -> HttpResponse:
        """The heads as `manage.py export_audit_head` prints them, to be kept elsewhere."""
        if request.method != "GET" or not self.has_view_permission(request):
            raise PermissionDenied
        name = f"audit-head-{timezone.now():%Y-%m-%d-%H%M}.json"
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        return JsonResponse(export_heads(), json_dumps_params={"indent": 2}, headers=headers)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    @display(description="Whose", ordering="chain")
    def whose(self, chain: Any) -> str:
        return THE_PLATFORM if chain.chain == PLATFORM else chain.tenant_name or f"tenant {chain.chain}, deleted"

    @display(description="Events kept", ordering="sequence")
    def show_events(self, chain: AuditChain) -> SafeString:
        gone = f"{chain.base_sequence:,} dropped with their months" if chain.base_sequence else "all there ever were"
        return number(two_lines(f"{chain.sequence - chain.base_sequence:,}", gone))

    @display(description="Ends with")
    def show_end(self, chain: AuditChain) -> SafeString:
        return _place(chain.sequence, chain.digest, remark=f"{chain.appended_at:%Y-%m-%d %H:%M:%S} UTC")

    @display(description="Goes on from")
    def show_base(self, chain: AuditChain) -> SafeString:
        remark = "the last one that was dropped" if chain.base_sequence else "its beginning"
        return _place(chain.base_sequence, chain.base_digest, remark=remark)

    @display(description="Ends with")
    def show_head(self, chain: AuditChain) -> SafeString:
        return two_lines(f"event {chain.sequence:,}", chain.digest[:16])

    @display(description="Standing", label={"whole": "success", "broken": "danger", "not verified": "warning"})
    def show_standing(self, chain: AuditChain) -> str:
        return standing_of(chain)[0]

    @display(description="Standing")
    def show_standing_at_length(self, chain: AuditChain) -> str:
        word, length = standing_of(chain)
        return f"{word.capitalize()}: {length}."

    @display(description="Its events")
    def show_log(self, chain: AuditChain) -> SafeString:
        which = "platform=only" if chain.chain == PLATFORM else f"tenant__id__exact={chain.chain}"
        url = f"{reverse('admin:tenants_auditevent_changelist')}?{which}"
        return format_html('<a class="link" href="{}">Look at them</a>', url)
