"""Admin pages for people: operators, tenants with their projects, and API keys."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminTextInputWidget

from tenants.models import (
    LIMIT_FIELDS,
    ApiKey,
    LimitScope,
    Operator,
    Project,
    RateLimit,
    Role,
    Scope,
    Tenant,
    TenantStatus,
)
from tenants.operator_admin import OperatorModelAdmin, ReadOnlyInline, operator_action, operator_of, utc
from tenants.services import KeySettings, create_key, revoke_key, set_tenant_status

admin.site.unregister(Group)

CREATED = utc("created_at", "Created")
EXPIRES = utc("expires_at", "Expires")


class OperatorForm(UserChangeForm):
    """An operator's own page; keeps the platform from losing its last owner."""

    def clean(self) -> dict[str, Any] | None:
        cleaned: dict[str, Any] | None = super().clean()
        stays_owner = self.cleaned_data.get("role") == Role.OWNER and self.cleaned_data.get("is_active")
        others = Operator.objects.filter(role=Role.OWNER, is_active=True).exclude(pk=self.instance.pk)
        if not stays_owner and self.initial.get("role") == Role.OWNER and not others.exists():
            raise ValidationError("This is the last active owner: make another operator an owner first.")
        return cleaned


@admin.register(Operator)
class OperatorAdmin(OperatorModelAdmin, UserAdmin):  # type: ignore[misc]
    """Who may log in here. Only owners change it; operators are switched off, never deleted."""

    form = OperatorForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "show_role", "email", "is_active", utc("last_login", "Last login"))
    list_filter = (("role", ChoicesDropdownFilter), "is_active")
    search_fields = ("username", "first_name", "last_name", "email")
    ordering = ("username",)
    filter_horizontal = ()
    readonly_fields: ClassVar[tuple[Any, ...]] = (utc("last_login", "Last login"), utc("date_joined", "Added"))
    fieldsets = (
        (None, {"fields": ("username", "password", "role", "is_active")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("Dates", {"fields": readonly_fields}),
    )
    add_fieldsets = ((None, {"fields": ("username", "role", "password1", "password2")}),)

    @display(description="Role", ordering="role", label={Role.OWNER: "warning", Role.OPERATOR: "info", Role.VIEWER: ""})
    def show_role(self, operator: Operator) -> tuple[str, str]:
        return operator.role, Role(operator.role).name.capitalize()

    def save_model(self, request: HttpRequest, obj: Operator, form: forms.ModelForm[Operator], change: bool) -> None:
        obj.is_staff = True
        super().save_model(request, obj, form, change)


class ProjectInline(ReadOnlyInline):
    """A tenant's projects."""

    model = Project
    fields = ("name", CREATED)
    readonly_fields = fields
    show_change_link = True
    verbose_name_plural = "projects"


class TenantForm(forms.ModelForm):
    """A tenant's own fields."""

    class Meta:
        labels = {"notify_emails": "Notify by e-mail"}
        widgets = {"notify_emails": UnfoldAdminTextInputWidget}


@admin.register(Tenant)
class TenantAdmin(OperatorModelAdmin):
    """The organisations whose calls are kept apart, with the ways to their keys and usage."""

    form = TenantForm
    list_display = ("name", "show_status", "timezone", "currency", CREATED)
    list_filter = (("status", ChoicesDropdownFilter),)
    search_fields = ("name",)
    ordering = ("name",)
    fields = ("name", "status", "timezone", "currency", "notify_emails", "keep_text_days", CREATED)
    readonly_fields = ("status", CREATED)
    inlines = (ProjectInline,)
    change_form_template = "admin/tenants/tenant/change_form.html"
    object_actions = ("suspend", "resume")
    empty_hint = "A tenant is an organisation or team that calls models: add one, then give it a key and a model."

    @display(
        description="Status",
        ordering="status",
        label={TenantStatus.ACTIVE: "success", TenantStatus.SUSPENDED: "danger"},
    )
    def show_status(self, tenant: Tenant) -> tuple[str, str]:
        return tenant.status, tenant.get_status_display()

    @operator_action(
        label="Suspend",
        done="Suspended",
        question="Every key of this tenant is refused within two seconds, calls in progress finish.",
        offered=lambda tenant: tenant.status == TenantStatus.ACTIVE,
    )
    def suspend(self, tenant: Tenant, *, by: Operator, reason: str) -> None:
        set_tenant_status(tenant, TenantStatus.SUSPENDED)

    @operator_action(label="Resume", done="Resumed", offered=lambda tenant: tenant.status == TenantStatus.SUSPENDED)
    def resume(self, tenant: Tenant, *, by: Operator, reason: str) -> None:
        set_tenant_status(tenant, TenantStatus.ACTIVE)


@admin.register(Project)
class ProjectAdmin(OperatorModelAdmin):
    """Parts of a tenant that usage is attributed to."""

    list_display = ("name", "tenant", CREATED)
    list_select_related = ("tenant",)
    list_filter = (("tenant", AutocompleteSelectFilter),)
    search_fields = ("name", "tenant__name")
    autocomplete_fields = ("tenant",)
    fields = ("tenant", "name", CREATED)
    readonly_fields = (CREATED,)
    empty_hint = "Projects are optional: they split a tenant's usage, and a key may belong to one."

    def get_readonly_fields(self, request: HttpRequest, obj: Project | None = None) -> tuple[Any, ...]:
        return (*self.readonly_fields, "tenant") if obj else self.readonly_fields


@admin.register(RateLimit)
class RateLimitAdmin(OperatorModelAdmin):
    """How often and how much a tenant, or a part of it, may call; in force within two seconds."""

    list_display = (
        "tenant",
        "scope",
        "show_subject",
        "requests_per_minute",
        "requests_per_day",
        "tokens_per_minute",
        "tokens_per_day",
        "concurrency",
        "enabled",
    )
    list_display_links = ("tenant", "scope")
    list_select_related = ("tenant",)
    list_filter = (("tenant", AutocompleteSelectFilter), ("scope", ChoicesDropdownFilter), "enabled")
    search_fields = ("tenant__name", "subject")
    autocomplete_fields = ("tenant",)
    fields = ("tenant", "scope", "subject", *LIMIT_FIELDS, "enabled", CREATED)
    readonly_fields = (CREATED,)
    may_be_deleted = True
    empty_hint = "Without a rate limit a tenant may call as often as its budgets allow."

    @display(description="Subject")
    def show_subject(self, limit: RateLimit) -> str:
        return limit.subject or ("-" if limit.scope == LimitScope.TENANT else "Each")

    def get_readonly_fields(self, request: HttpRequest, obj: RateLimit | None = None) -> tuple[Any, ...]:
        return (*self.readonly_fields, "tenant") if obj else self.readonly_fields


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


def _is_active(key: ApiKey) -> bool:
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
    recorded = ("hint", CREATED, "created_by", utc("revoked_at", "Revoked"))
    object_actions = ("revoke",)
    empty_hint = "A key lets a tenant's programs call. Its text is shown once, when you make it."

    @display(description="Project")
    def project_name(self, key: ApiKey) -> str:
        return key.project.name if key.project else "-"

    @display(description="May call")
    def scope_names(self, key: ApiKey) -> str:
        return ", ".join(Scope(scope).label for scope in key.scopes) or "Everything"

    @display(description="State", label={"active": "success", "expired": "warning", "revoked": "danger"})
    def show_state(self, key: ApiKey) -> tuple[str, str]:
        state = "revoked" if key.revoked_at else "active" if _is_active(key) else "expired"
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
        context = {
            **self.admin_site.each_context(request),
            "title": "Key created",
            "opts": self.opts,
            "key": obj,
            "key_text": request.created_key_text,  # type: ignore[attr-defined]
        }
        return TemplateResponse(request, "admin/tenants/apikey/created.html", context)

    @operator_action(
        label="Revoke",
        done="Revoked",
        question="Programs that use this key are refused within two seconds. It cannot be taken back.",
        offered=lambda key: key.revoked_at is None,
    )
    def revoke(self, key: ApiKey, *, by: Operator, reason: str) -> None:
        revoke_key(key)
