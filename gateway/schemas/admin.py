"""The admin pages of schema types: an editor that checks, an example, and what changed since the version before."""

from __future__ import annotations

import difflib
import json
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db import models
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget

from gateway.schemas.documents import SchemaError, read_document
from gateway.schemas.models import SchemaType, TypeState
from gateway.schemas.services import (
    TypeStateError,
    check_type,
    next_version,
    publish,
    save_draft,
    standing_alone,
    users_of,
    withdraw,
)
from providers.mock.schema_reading import SchemaProblemError
from providers.mock.schema_samples import sample
from tenants.models import Operator
from tenants.operator_admin import OperatorModelAdmin, once, operator_action, operator_of, utc

CHANGED = {"+": "added", "-": "removed", "@": "place"}
PUBLISHED = utc("published_at", "Published")
WITHDRAWN = utc("withdrawn_at", "Withdrawn")
MOST_LINES = 400
"""Of a difference that are shown."""


class SchemaTypeForm(forms.ModelForm):
    """A draft, held to what a type has to be before it is saved."""

    class Meta:
        model = SchemaType
        fields = ("tenant", "name", "version", "description", "schema")
        widgets = {"schema": UnfoldAdminTextareaWidget({"rows": 24, "spellcheck": "false", "class": "font-mono"})}

    def clean(self) -> dict[str, Any] | None:
        cleaned: dict[str, Any] | None = super().clean()
        if not self.errors and self.instance.state == TypeState.DRAFT:
            given = {name: self.cleaned_data[name] for name in self.fields}
            draft = SchemaType(pk=self.instance.pk, created_at=self.instance.created_at, **given)
            draft._state.adding = self.instance._state.adding  # else it is taken for another of the same name
            try:
                check_type(draft)
            except ValidationError as error:
                self.add_error(None if "__all__" in error.message_dict else "schema", error.messages[0])
            else:
                self.cleaned_data["schema"] = draft.schema
        return cleaned


@admin.register(SchemaType)
class SchemaTypeAdmin(OperatorModelAdmin):
    """JSON schemas that requests refer to. A draft may be changed; what is published stays."""

    form = SchemaTypeForm
    list_display = ("reference_column", "owner", "show_state", "description", PUBLISHED)
    list_select_related = ("tenant",)
    list_filter = (("state", ChoicesDropdownFilter), ("tenant", AutocompleteSelectFilter))
    search_fields = ("name",)
    autocomplete_fields = ("tenant",)
    readonly_fields = (
        "show_state",
        PUBLISHED,
        WITHDRAWN,
        "changed_by",
        "example",
        "difference",
        "used_by",
    )
    fieldsets = (
        (None, {"fields": ("tenant", "name", "version", "description", "schema")}),
        ("Example", {"fields": ("example",)}),
        ("Since the version before", {"fields": ("difference",)}),
        ("Where it stands", {"fields": (
            "show_state", PUBLISHED, WITHDRAWN, "changed_by", "used_by",
        )}),
    )  # fmt: skip
    may_be_deleted = True
    object_actions = ("publish", "add_version", "withdraw")
    empty_hint = "Add a type as a draft, look at its example, then publish it: requests refer to it as NAME@VERSION."

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[SchemaType]:
        rows: models.QuerySet[SchemaType] = super().get_queryset(request).select_related("tenant", "changed_by")
        return rows

    def get_readonly_fields(self, request: HttpRequest, obj: SchemaType | None = None) -> tuple[Any, ...]:
        """What is published is there to be looked at."""
        kept = obj is not None and obj.state != TypeState.DRAFT
        return (*self.readonly_fields, *SchemaTypeForm.Meta.fields) if kept else self.readonly_fields

    def get_fieldsets(self, request: HttpRequest, obj: SchemaType | None = None) -> Any:
        return self.fieldsets if obj is not None else self.fieldsets[:1]

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """A draft that came to nothing may go."""
        is_kept = isinstance(obj, SchemaType) and obj.state != TypeState.DRAFT
        return not is_kept and super().has_delete_permission(request, obj)

    @display(description="Type", ordering="name")
    def reference_column(self, row: SchemaType) -> str:
        return row.reference

    @display(description="Of", ordering="tenant__name")
    def owner(self, row: SchemaType) -> str:
        return row.tenant.name if row.tenant is not None else "every tenant"

    @display(
        description="State",
        ordering="state",
        label={TypeState.DRAFT: "info", TypeState.PUBLISHED: "success", TypeState.WITHDRAWN: "danger"},
    )
    def show_state(self, row: SchemaType) -> tuple[str, str]:
        return row.state, row.get_state_display()

    @display(description="A value that fits")
    @once
    def example(self, row: SchemaType) -> SafeString:
        try:
            value = sample(standing_alone(row, read_document(row.schema)))
        except (SchemaError, SchemaProblemError) as error:
            return format_html("None could be made: {}", str(error))
        return format_html('<pre class="schema-text">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False))

    @display(description="Difference")
    @once
    def difference(self, row: SchemaType) -> SafeString:
        """Lines that came and went."""
        before = _version_before(row)
        if before is None:
            return format_html("{}", "There is no version before it.")
        lines = list(
            difflib.unified_diff(
                before.schema.splitlines(),
                row.schema.splitlines(),
                before.reference,
                row.reference,
                lineterm="",
            )
        )
        if not lines:
            return format_html("The same schema as {}.", before.reference)
        shown = ((CHANGED.get(line[:1], "same"), line) for line in lines[:MOST_LINES])
        return format_html(
            '<pre class="schema-text">{}</pre>', format_html_join("\n", '<span class="diff-{}">{}</span>', shown)
        )

    @display(description="Used by")
    @once
    def used_by(self, row: SchemaType) -> SafeString:
        """The published types that would break without it."""
        users = users_of(row)
        if not users:
            return format_html("{}", "No published type.")
        links = ((reverse(f"admin:{self.url_name('change')}", args=[user.pk]), str(user)) for user in users)
        return format_html_join(", ", '<a href="{}">{}</a>', links)

    def save_model(self, request: HttpRequest, obj: SchemaType, form: Any, change: bool) -> None:
        if obj.state == TypeState.DRAFT:
            save_draft(obj, by=operator_of(request))

    @operator_action(
        label="Publish",
        done="Published",
        refusals=(TypeStateError,),
        question="From here on it stays as it is, and requests may refer to it within two seconds.",
        offered=lambda row: row.state == TypeState.DRAFT,
    )
    def publish(self, row: SchemaType, *, by: Operator, reason: str) -> None:
        publish(row, by=by)

    @operator_action(
        label="New version",
        done="Began a new version of",
        refusals=(TypeStateError,),
        offered=lambda row: row.state != TypeState.DRAFT,
    )
    def add_version(self, row: SchemaType, *, by: Operator, reason: str) -> None:
        next_version(row, by=by)

    @operator_action(
        label="Withdraw",
        done="Withdrawn",
        question="Requests that refer to it are refused within two seconds, for good.",
        refusals=(TypeStateError,),
        offered=lambda row: row.state == TypeState.PUBLISHED,
    )
    def withdraw(self, row: SchemaType, *, by: Operator, reason: str) -> None:
        withdraw(row, by=by)


def _version_before(row: SchemaType) -> SchemaType | None:
    same = SchemaType.objects.filter(name=row.name, version__lt=row.version)
    same = same.filter(tenant=row.tenant) if row.tenant is not None else same.filter(tenant__isnull=True)
    return same.order_by("-version").first()
