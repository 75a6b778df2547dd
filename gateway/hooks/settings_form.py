"""A form made from a hook's own settings: one field for each member of its struct, in words of its description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
from django import forms
from msgspec import inspect
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from gateway.hooks.base import SettingsError
from gateway.hooks.models import HookBinding, resources_of
from gateway.hooks.registry import HOOKS, AnyHook, build

PREFIX = "setting_"


class LinesField(forms.CharField):
    """Texts, one in a line."""

    widget = UnfoldAdminTextareaWidget({"rows": 4})

    def to_python(self, value: Any) -> Any:
        lines = (line.strip() for line in str(value or "").splitlines())
        return [line for line in lines if line]

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value


class HookForm(forms.ModelForm):
    """A binding of one kind of hook. `settings_form` makes the class that also has the fields of its settings."""

    hook: ClassVar[str]

    class Meta:
        model = HookBinding
        fields = ("tenant", "name", "project", "model", "position", "timeout_ms", "on_failure", "enabled")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, value in (self.instance.settings or {}).items():
            self.initial[f"{PREFIX}{name}"] = value

    def clean(self) -> dict[str, Any] | None:
        cleaned: dict[str, Any] | None = super().clean()
        self.instance.hook = self.hook
        self.instance.settings = self._settings()
        if not self.errors:
            tenant = self.cleaned_data.get("tenant") or self.instance.tenant
            try:
                build(self.hook, self.instance.settings, resources=resources_of(tenant.pk))
            except SettingsError as refusal:
                field = f"{PREFIX}{refusal.field}"
                self.add_error(field if field in self.fields else None, str(refusal))
        return cleaned

    def _settings(self) -> dict[str, Any]:
        """What differs from the defaults: those may grow better with a release."""
        given = {}
        for member in inspect.type_info(HOOKS[self.hook].settings_type).fields:  # type: ignore[attr-defined]
            value = self.cleaned_data.get(f"{PREFIX}{member.name}")
            if value in ("", None) or (value == [] and _is_optional(member.type)):
                continue
            if value != _default(member):
                given[member.name] = value
        return given

    def _post_clean(self) -> None:
        """The model's own checks speak of `settings`, which is no field here; they come after those above."""
        if not self.errors:
            super()._post_clean()  # type: ignore[misc]


def settings_form(hook: type[AnyHook]) -> type[HookForm]:
    """The form for bindings of this hook."""
    members = inspect.type_info(hook.settings_type).fields  # type: ignore[attr-defined]
    fields: dict[str, Any] = {f"{PREFIX}{member.name}": _field(member) for member in members}
    return type(f"{hook.__name__}Form", (HookForm,), {**fields, "hook": hook.name, "__module__": __name__})


def setting_names(hook: type[AnyHook]) -> list[str]:
    """The names of the fields that `settings_form` makes, in their order."""
    return [f"{PREFIX}{name}" for name in hook.settings_type.__struct_fields__]


def _field(member: inspect.Field) -> forms.Field:
    description, kind = _described(member.type)
    options: dict[str, Any] = {
        "label": _extra(member.type).get("title") or member.name.replace("_", " ").capitalize(),
        "help_text": description,
        "initial": _default(member),
        "required": member.required,
    }
    if isinstance(kind, inspect.BoolType):
        return forms.BooleanField(**{**options, "required": False}, widget=UnfoldBooleanWidget)
    if isinstance(kind, inspect.IntType):
        return forms.IntegerField(**options, min_value=kind.ge, max_value=kind.le, widget=UnfoldAdminIntegerFieldWidget)
    if isinstance(kind, inspect.LiteralType):
        return forms.ChoiceField(**options, choices=_choices(kind, {}), widget=UnfoldAdminSelectWidget)
    if isinstance(kind, inspect.ListType):
        return _list_field(_described(kind.item_type)[1], options, labels=_extra(member.type).get("labels", {}))
    return forms.CharField(**options, widget=UnfoldAdminTextInputWidget)


def _list_field(item: inspect.Type, options: dict[str, Any], *, labels: Mapping[str, str]) -> forms.Field:
    if isinstance(item, inspect.LiteralType):
        return forms.MultipleChoiceField(
            **options, choices=_choices(item, labels), widget=UnfoldAdminCheckboxSelectMultipleWidget
        )
    if isinstance(item, inspect.StrType):
        return LinesField(**options)
    return forms.JSONField(**options, widget=UnfoldAdminTextareaWidget({"rows": 6, "class": "font-mono"}))


def _choices(kind: inspect.LiteralType, labels: Mapping[str, str]) -> list[tuple[Any, str]]:
    return [(value, labels.get(str(value)) or str(value).replace("_", " ")) for value in kind.values]


def _extra(kind: inspect.Type) -> dict[str, Any]:
    """What a setting's annotation says besides its description: a `title`, and `labels` of its choices."""
    extra: dict[str, Any] = {}
    while isinstance(kind, inspect.Metadata):
        extra = {**(kind.extra_json_schema or {}), **extra}
        kind = kind.type
    return extra


def _described(kind: inspect.Type) -> tuple[str, inspect.Type]:
    """What a type says of itself, and the type beneath that and beneath `| None`."""
    description = ""
    while isinstance(kind, inspect.Metadata | inspect.UnionType):
        if isinstance(kind, inspect.Metadata):
            description = description or str((kind.extra_json_schema or {}).get("description", ""))
            kind = kind.type
        else:
            kind = next(one for one in kind.types if not isinstance(one, inspect.NoneType))
    return description, kind


def _is_optional(kind: inspect.Type) -> bool:
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return isinstance(kind, inspect.UnionType)


def _default(member: inspect.Field) -> Any:
    if member.default_factory is not msgspec.NODEFAULT:
        return member.default_factory()
    return None if member.default is msgspec.NODEFAULT else member.default
