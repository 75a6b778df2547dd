"""Admin pages for names that stand for models: groups and agent types."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from unfold.admin import TabularInline
from unfold.decorators import display

from providers.models import AgentType, GroupMember, Model, ModelGroup
from tenants.operator_admin import OperatorModelAdmin


class MemberInline(TabularInline):
    """A group's models, in the order they are tried."""

    model = GroupMember
    hide_title = True
    fields = ("model", "position")

    def get_extra(self, request: HttpRequest, obj: ModelGroup | None = None, **kwargs: Any) -> int:
        return 0 if obj else 2

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[GroupMember]:
        rows: models.QuerySet[GroupMember] = super().get_queryset(request).select_related("group", "model")
        return rows

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Read the choices once: every row's field would ask the database again."""
        field = super().formfield_for_foreignkey(db_field, request, **kwargs)
        field.choices = [("", "---------"), *Model.objects.values_list("pk", "name")]
        return field

    def has_delete_permission(self, request: HttpRequest, obj: ModelGroup | None = None) -> bool:
        return bool(self.has_change_permission(request, obj))


@admin.register(ModelGroup)
class ModelGroupAdmin(OperatorModelAdmin):
    """Names that stand for several models."""

    list_display = ("name", "strategy", "member_names")
    search_fields = ("name",)
    inlines = (MemberInline,)
    may_be_deleted = True
    empty_hint = "A group is a name that stands for several models: the next is tried when one fails."

    @display(description="Models, in order")
    def member_names(self, group: ModelGroup) -> str:
        return ", ".join(member.model.name for member in group.members.all())

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[ModelGroup]:
        return (
            super()
            .get_queryset(request)
            .prefetch_related(
                models.Prefetch("members", GroupMember.objects.select_related("model").order_by("position", "pk"))
            )
        )


@admin.register(AgentType)
class AgentTypeAdmin(OperatorModelAdmin):
    """What `model: "auto"` means for a kind of agent."""

    list_display = ("name", "target")
    search_fields = ("name", "target")
    may_be_deleted = True
    empty_hint = 'Calls with X-Agent-Type may ask for model "auto": an agent type says which model or group that is.'
