"""The admin's page of one tenant: all that is about it, before the form that changes it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from gateway.desk.tenant_page import fill_page, suspension_in_numbers
from tenants.admin.people import TenantAdmin
from tenants.models import Operator, Tenant, TenantStatus
from tenants.operator_admin import ActionSpec, TypedForm, action_of, password_again
from tenants.scoping import is_member
from tenants.services import set_tenant_status

admin.site.unregister(Tenant)


@admin.register(Tenant)
class TenantDeskAdmin(TenantAdmin):
    """The page is where Django has the form, so that every link to a tenant leads there; the form is at settings."""

    def get_urls(self) -> list[URLPattern]:
        settings = path(
            "<path:object_id>/settings/",
            self.admin_site.admin_view(self.settings_view),
            name=self.url_name("settings"),
        )
        return [settings, *super().get_urls()]

    def settings_view(self, request: HttpRequest, *, object_id: str) -> HttpResponse:
        """The form, which is posted to the page's own address."""
        page = reverse(f"admin:{self.url_name('change')}", args=[object_id])
        if request.method == "POST":
            return self.change_view(request, object_id)
        form: HttpResponse = super().change_view(request, object_id, page)
        return form

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method == "POST":
            saved: HttpResponse = super().change_view(request, object_id, form_url, extra_context)
            return saved
        tenant = self.get_object(request, object_id)
        if tenant is None or not self.has_view_permission(request, tenant):
            raise Http404
        context = {
            **self.admin_site.each_context(request),
            "title": tenant.name,
            "opts": self.opts,
            "original": tenant,
            "tenant": tenant,
            "object_actions": self.offered_actions(tenant, permitted_to=request),
            "may_change": self.has_change_permission(request, tenant),
            "is_member": is_member(request.user),
            **fill_page(request, tenant, site=self.admin_site),
        }
        return TemplateResponse(request, "admin/tenants/tenant/page.html", context)

    def response_post_save_add(self, request: HttpRequest, obj: models.Model) -> HttpResponse:
        """To its page, which says what it lacks: a key, a model, a budget."""
        return HttpResponseRedirect(reverse(f"admin:{self.url_name('change')}", args=[obj.pk]))

    def response_post_save_change(self, request: HttpRequest, obj: Tenant) -> HttpResponse:
        return HttpResponseRedirect(reverse(f"admin:{self.url_name('change')}", args=[obj.pk]))

    @password_again
    @action_of(
        ActionSpec(
            label="Suspend",
            done="Suspended",
            permission="change",
            question="Every key of this tenant is refused within two seconds, calls in progress finish.",
            refusals=(),
            offered=lambda tenant: tenant.status == TenantStatus.ACTIVE,
            consequences=suspension_in_numbers,
            form=TypedForm,
        )
    )
    def suspend(self, tenant: Tenant, *, by: Operator, reason: str) -> None:
        set_tenant_status(tenant, TenantStatus.SUSPENDED)

    @password_again
    @action_of(
        ActionSpec(
            label="Resume",
            done="Resumed",
            permission="change",
            question="Its keys work again within two seconds, within the budgets and limits that they had.",
            refusals=(),
            offered=lambda tenant: tenant.status == TenantStatus.SUSPENDED,
            form=TypedForm,
        )
    )
    def resume(self, tenant: Tenant, *, by: Operator, reason: str) -> None:
        set_tenant_status(tenant, TenantStatus.ACTIVE)
