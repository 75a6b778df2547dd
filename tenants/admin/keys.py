"""Admin pages for API keys: made, rotated and revoked here, and shown once."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from unfold.contrib.filters.admin import AutocompleteSelectFilter, DropdownFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from tenants.errors import KeyRotationError
from tenants.models import ApiKey, Operator, Scope
from tenants.operator_admin import (
    ActionSpec,
    OperatorModelAdmin,
    ReasonForm,
    action_of,
    operator_action,
    operator_of,
    password_again,
    utc,
)
from tenants.services import KeySettings, create_key, revoke_key, rotate_key

CREATED = utc("created_at", "Created")
EXPIRES = utc("expires_at", "Expires")
PREVIOUS_UNTIL = utc("previous_until", "The text before works until")
OVERLAPS = (
    (24, "for 24 hours"),
    (1, "for an hour"),
    (24 * 7, "for 7 days"),
    (24 * 30, "for 30 days"),
    (0, "no longer"),
)


class RotateForm(ReasonForm):
    """How long the text before goes on working, so that programs can move over without a gap."""

    overlap_hours = forms.TypedChoiceField(
        label="The text in use now works", choices=OVERLAPS, coerce=int, widget=UnfoldAdminSelectWidget
    )
    field_order = ("overlap_hours", "reason")


class KeyStateFilter(DropdownFilter):
    """By whether a key still opens the door."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("active", "Active"), ("expired", "Expired"), ("revoked", "Revoked")]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[ApiKey]) -> models.QuerySet[ApiKey]:
        expired = models.Q(expires_at__lte=timezone.now())
        match self.value():
            case "active":
                return queryset.filter(revoked_at=None).exclude(expired)
            case "expired":
                return queryset.filter(expired, revoked_at=None)
            case "revoked":
                return queryset.exclude(revoked_at=None)
        return queryset


class ApiKeyForm(forms.ModelForm):
    """A key's limits."""

    class Meta:
        labels = {"ip_allow_list": "IP allow-list"}
        help_texts = {
            "ip_allow_list": "Addresses or CIDR networks it may be used from, separated by commas. Empty: anywhere.",
            "expires_at": "UTC. Empty: never.",
        }
        widgets = {"ip_allow_list": UnfoldAdminTextInputWidget}


def is_active(key: ApiKey) -> bool:
    """Whether a key still opens the door."""
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > timezone.now())


@admin.register(ApiKey)
@method_decorator(never_cache, name="add_view")
class ApiKeyAdmin(OperatorModelAdmin):
    """Keys. The text of a new one is in the answer to the form that made it, and nowhere else ever."""

    form = ApiKeyForm
    list_display = ("name", "tenant", "project_name", "hint", "scope_names", "show_state", EXPIRES, CREATED)
    list_select_related = ("tenant", "project", "created_by")
    list_filter = (("tenant", AutocompleteSelectFilter), KeyStateFilter)
    search_fields = ("name", "tenant__name", "hint", "user")
    autocomplete_fields = ("tenant", "project")
    fields = ("tenant", "project", "name", "user", "scopes", "ip_allow_list", "expires_at")
    recorded = ("hint", CREATED, "created_by", utc("revoked_at", "Revoked"), "previous_hint", PREVIOUS_UNTIL)
    object_actions = ("rotate", "revoke")
    asks_password = ("add", "change")
    empty_hint = "A key lets a tenant's programs call. Its text is shown once, when you make it."

    @display(description="Project")
    def project_name(self, key: ApiKey) -> str:
        return key.project.name if key.project else "-"

    @display(description="May call")
    def scope_names(self, key: ApiKey) -> str:
        return ", ".join(Scope(scope).label for scope in key.scopes) or "Everything"

    @display(description="State", label={"active": "success", "expired": "warning", "revoked": "danger"})
    def show_state(self, key: ApiKey) -> tuple[str, str]:
        state = "revoked" if key.revoked_at else "active" if is_active(key) else "expired"
        return state, state.capitalize()

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[Any, ...]:
        return (*self.fields, *self.recorded) if obj else self.fields

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[Any, ...]:
        return ("tenant", *self.recorded) if obj else ()

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One Save: what follows is the page with the key's text."""
        hidden = dict.fromkeys(("show_save_and_continue", "show_save_and_add_another"), False)
        response: HttpResponse = super().add_view(request, form_url, {**(extra_context or {}), **hidden})
        return response

    def save_model(self, request: HttpRequest, obj: ApiKey, form: forms.ModelForm[ApiKey], change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        allowed = KeySettings(
            project=obj.project,
            user=obj.user,
            scopes=tuple(obj.scopes),
            ip_allow_list=tuple(obj.ip_allow_list),
            expires_at=obj.expires_at,
        )
        created, text = create_key(obj.tenant, obj.name, allowed=allowed, created_by=operator_of(request))
        obj.pk = created.pk
        obj.refresh_from_db()
        request.created_key_text = text  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        return self._show_text(request, obj, text=request.created_key_text)  # type: ignore[attr-defined]

    def response_action(self, request: HttpRequest, obj: models.Model, *, result: Any) -> HttpResponse | None:
        """What `rotate` returns is shown at once; revoking has nothing to show."""
        return self._show_text(request, obj, text=result) if result else None

    def _show_text(self, request: HttpRequest, key: models.Model, *, text: str) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": "Key created",
            "opts": self.opts,
            "key": key,
            "key_text": text,
        }
        response = TemplateResponse(request, "admin/tenants/apikey/created.html", context)
        add_never_cache_headers(response)
        return response

    def has_rotate_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """Whoever may change keys, and a tenant's members their own."""
        return self.has_change_permission(request, obj) or request.user.has_perm("tenants.rotate_apikey")

    @password_again
    @action_of(
        ActionSpec(
            label="Rotate",
            done="Rotated",
            permission="rotate",
            question="It gets a new text, which is shown once. Budgets, limits and usage of the key go on as they are.",
            refusals=(KeyRotationError,),
            offered=is_active,
            form=RotateForm,
        )
    )
    def rotate(self, key: ApiKey, *, by: Operator, reason: str, overlap_hours: int) -> str:
        return rotate_key(key, dt.timedelta(hours=overlap_hours))

    @password_again
    @operator_action(
        label="Revoke",
        done="Revoked",
        question="Programs that use this key are refused within two seconds. It cannot be taken back.",
        offered=lambda key: key.revoked_at is None,
    )
    def revoke(self, key: ApiKey, *, by: Operator, reason: str) -> None:
        revoke_key(key)
