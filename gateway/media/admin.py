"""The admin pages of files, and of how much each tenant may keep."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display

from billing.admin.usage import LedgerAdmin
from billing.admin.windows import WindowFilter
from gateway.media.models import MediaKind, MediaObject, TenantStorage
from gateway.media.records import mark_deleted, revoke_urls
from gateway.media.storage import signature_of
from tenants.models import Operator
from tenants.operator_admin import OperatorModelAdmin, number, operator_action, two_lines, utc

PREVIEW_SECONDS = 300
LARGEST_THUMBNAIL_BYTES = 2_000_000
"""The list shows the files themselves, made small by the browser."""


def preview_url(row: MediaObject) -> str:
    """A signed URL on the host that serves the admin, for as long as somebody looks at a page."""
    expires = int(time.time()) + PREVIEW_SECONDS
    version = row.tenant.file_storage.url_key_version
    signature = signature_of(settings.SECRET_KEY.encode(), row.pk, expires=expires, version=version)
    return f"/v1/files/{row.pk}/content?{urlencode({'exp': expires, 'sig': signature})}"


def is_readable(row: MediaObject) -> bool:
    """Whether it is neither marked nor over."""
    return row.deleted_at is None and (row.expires_at is None or row.expires_at > timezone.now())


@admin.register(MediaObject)
class MediaObjectAdmin(LedgerAdmin):
    """Every file, the newest first."""

    keyset = ("created_at", "id")
    object_actions = ("remove",)
    list_display = ("thumbnail", "file_column", "tenant_column", "show_kind", "size", "lives_until")
    list_select_related = ("tenant__file_storage", "api_key")
    list_filter = (
        ("created_at", WindowFilter),
        ("tenant", AutocompleteSelectFilter),
        ("kind", ChoicesDropdownFilter),
        ("source", ChoicesDropdownFilter),
    )
    search_fields = ("id",)
    search_help_text = "An exact file id"
    empty_hint = "Files that tenants upload to /v1/files and what models make for them are listed here."
    fieldsets = (
        (None, {"fields": ("preview", "id", "tenant", "api_key", "job_id", "purpose", "source", "filename")}),
        ("Content", {"fields": (
            "kind", "mime", "size", "sha256", "width", "height", "pages", "duration_ms", "storage", "name",
        )}),
        ("Life", {"fields": (
            utc("created_at", "Kept"), utc("expires_at", "Expires"), utc("deleted_at", "Deleted"),
        )}),
    )  # fmt: skip
    readonly_fields = ("preview", "size")

    @display(description="")
    def thumbnail(self, row: MediaObject) -> SafeString | str:
        if row.kind != MediaKind.IMAGE or row.size_bytes > LARGEST_THUMBNAIL_BYTES or not is_readable(row):
            return ""
        return format_html('<img src="{}" alt="" loading="lazy" width="48" height="48">', preview_url(row))

    @display(description="File")
    def file_column(self, row: MediaObject) -> SafeString:
        return two_lines(row.filename or row.mime, row.pk)

    @display(description="Tenant, purpose")
    def tenant_column(self, row: MediaObject) -> SafeString:
        return two_lines(row.tenant.name, row.purpose)

    @display(description="Kind, source")
    def show_kind(self, row: MediaObject) -> SafeString:
        return two_lines(row.get_kind_display(), row.get_source_display())

    @display(description="Size")
    def size(self, row: MediaObject) -> SafeString:
        return number(two_lines(filesizeformat(row.size_bytes), f"{row.size_bytes:,} bytes"))

    @display(description="Lives until, UTC")
    def lives_until(self, row: MediaObject) -> str:
        if row.deleted_at is not None:
            return "deleted"
        return f"{row.expires_at:%Y-%m-%d %H:%M}" if row.expires_at else "for good"

    @display(description="Preview")
    def preview(self, row: MediaObject) -> SafeString | str:
        if not is_readable(row):
            return "It is over: nobody can read it."
        forms = {
            MediaKind.IMAGE: '<a href="{0}"><img src="{0}" alt="" style="max-height: 24rem"></a>',
            MediaKind.AUDIO: '<audio src="{}" controls preload="none"></audio>',
            MediaKind.VIDEO: '<video src="{}" controls preload="none" style="max-height: 24rem"></video>',
        }
        link = '<a class="link" href="{}" rel="noreferrer">Open</a>'
        return format_html(forms.get(MediaKind(row.kind), link), preview_url(row))

    @operator_action(
        label="Delete",
        done="Deleted",
        permission="remove",
        question="Nobody can read it from then on, and its bytes are deleted within minutes.",
        offered=lambda row: row.deleted_at is None,
    )
    def remove(self, row: MediaObject, *, by: Operator, reason: str) -> None:
        mark_deleted(row.tenant_id, row.pk, now=dt.datetime.now(dt.UTC))

    def has_remove_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Nobody edits a file; who may change things may take one away."""
        return request.user.has_perm("gateway.change_mediaobject")

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], **kwargs: Any) -> Any:
        context["object_actions"] = self.offered_actions(kwargs["obj"], permitted_to=request)
        return super().render_change_form(request, context, **kwargs)

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        return (queryset.filter(pk=search_term.strip()) if search_term else queryset), False


@admin.register(TenantStorage)
class TenantStorageAdmin(OperatorModelAdmin):
    """How much each tenant keeps and may keep."""

    object_actions = ("revoke",)
    list_display = ("tenant", "used", "quota", "uploads_kept_hours", "generated_kept_hours")
    list_select_related = ("tenant",)
    search_fields = ("tenant__name",)
    autocomplete_fields = ("tenant",)
    fields = ("tenant", "used", "files_link", "quota_bytes", "uploads_kept_hours", "generated_kept_hours")
    readonly_fields = ("used", "files_link")
    empty_hint = "A tenant is listed once it keeps a file. Add one before that to set its quota."

    @display(description="Used", ordering="used_bytes")
    def used(self, row: TenantStorage) -> SafeString:
        return number(two_lines(filesizeformat(row.used_bytes), f"{row.used_bytes:,} bytes"))

    @display(description="Quota")
    def quota(self, row: TenantStorage) -> SafeString:
        quota = settings.MEDIA_QUOTA_BYTES if row.quota_bytes is None else row.quota_bytes
        remark = "MEDIA_QUOTA_BYTES" if row.quota_bytes is None else f"{quota:,} bytes"
        return number(two_lines(filesizeformat(quota), remark))

    @display(description="Files")
    def files_link(self, row: TenantStorage) -> SafeString | str:
        if row.pk is None:
            return "-"
        url = reverse("admin:gateway_mediaobject_changelist")
        return format_html('<a class="link" href="{}?tenant__id__exact={}">Look at them</a>', url, row.tenant_id)

    @operator_action(
        label="Revoke URLs",
        done="Every signed URL revoked",
        question="Every signed URL that was given out for this tenant's files is worthless from then on. Its keys read "
        "on, and make new ones.",
    )
    def revoke(self, row: TenantStorage, *, by: Operator, reason: str) -> None:
        revoke_urls(row)

    def get_readonly_fields(self, request: HttpRequest, obj: TenantStorage | None = None) -> tuple[str, ...]:
        return (*self.readonly_fields, "tenant") if obj else self.readonly_fields
