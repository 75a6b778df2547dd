"""Admin pages for people: operators, and tenants with their projects and rate limits."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminTextInputWidget

from tenants.models import LIMIT_FIELDS, LimitScope, Operator, Project, RateLimit, Role, Tenant, TenantStatus
from tenants.operator_admin import OperatorModelAdmin, ReadOnlyInline, operator_action, password_again, utc
from tenants.services import set_tenant_status

admin.site.unregister(Group)

CREATED = utc("created_at", "Created")


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
    asks_password = ("add", "change")
    readonly_fields: ClassVar[tuple[Any, ...]] = (utc("last_login", "Last login"), utc("date_joined", "Added"))
    fieldsets = (
        (None, {"fields": ("username", "password", "role", "is_active")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("Dates", {"fields": readonly_fields}),
    )
    add_fieldsets = ((None, {"fields": ("username", "role", "password1", "password2")}),)

    @display(description="Role", ordering="role", label={Role.OWNER: "warning", Role.OPERATOR: "info"})
    def show_role(self, operator: Operator) -> tuple[str, str]:
        return operator.role, Role(operator.role).name.capitalize()

    def save_model(self, request: HttpRequest, obj: Operator, form: forms.ModelForm[Operator], change: bool) -> None:
        obj.is_staff = True
        super().save_model(request, obj, form, change)

    def user_change_password(self, request: HttpRequest, id: str, *rest: Any) -> HttpResponse:
        asking = self.ask_password_for("change", request)
        response: HttpResponse = asking or super().user_change_password(request, id, *rest)
        return response


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

    @password_again
    @operator_action(
        label="Suspend",
        done="Suspended",
        question="Every key of this tenant is refused within two seconds, calls in progress finish.",
        offered=lambda tenant: tenant.status == TenantStatus.ACTIVE,
    )
    def suspend(self, tenant: Tenant, *, by: Operator, reason: str) -> None:
        set_tenant_status(tenant, TenantStatus.SUSPENDED)

    @password_again
    @operator_action(
        label="Resume",
        done="Resumed",
        offered=lambda tenant: tenant.status == TenantStatus.SUSPENDED,
    )
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
