"""The admin page of memberships: which people of a tenant's own may look at it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from unfold.contrib.filters.admin import AutocompleteSelectFilter

from tenants.models import Membership
from tenants.operator_admin import OperatorModelAdmin, operator_of, utc

ADDED = utc("created_at", "Added")


@admin.register(Membership)
class MembershipAdmin(OperatorModelAdmin):
    """Only owners say who sees which tenant. A membership is not edited: it is added and deleted."""

    list_display = ("operator", "tenant", "created_by", ADDED)
    list_select_related = ("operator", "tenant", "created_by")
    list_filter = (("tenant", AutocompleteSelectFilter),)
    search_fields = ("operator__username", "tenant__name")
    autocomplete_fields = ("operator", "tenant")
    fields = ("operator", "tenant")
    recorded = ("created_by", ADDED)
    may_be_deleted = True
    empty_hint = "Add somebody under Operators with the role Member, then say here which tenant they belong to."

    def get_fields(self, request: HttpRequest, obj: Membership | None = None) -> tuple[Any, ...]:
        return (*self.fields, *self.recorded) if obj else self.fields

    def get_readonly_fields(self, request: HttpRequest, obj: Membership | None = None) -> tuple[Any, ...]:
        return (*self.fields, *self.recorded) if obj else ()

    def save_model(
        self, request: HttpRequest, obj: Membership, form: forms.ModelForm[Membership], change: bool
    ) -> None:
        if not change:
            obj.created_by = operator_of(request)
        super().save_model(request, obj, form, change)
