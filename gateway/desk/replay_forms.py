"""What an operator says to try a request against."""

from __future__ import annotations

from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from gateway.desk.replay import Draft
from providers.models import Model, ModelGroup, Strategy

MOST_MEMBERS = 50


class ReplayForm(forms.Form):
    """A model or group that there is, or a routing that there might be."""

    name = forms.CharField(
        label="A model or group as it stands",
        max_length=200,
        required=False,
        widget=UnfoldAdminTextInputWidget({"list": "targets", "autocomplete": "off"}),
    )
    members = forms.CharField(
        label="Or a draft: models in order",
        max_length=4000,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="Names of models, separated by commas. Nothing is saved.",
    )
    strategy = forms.ChoiceField(
        label="The draft's strategy",
        choices=[("", "Priority: in the order listed"), *(one for one in Strategy.choices if one[0] != "priority")],
        required=False,
        widget=UnfoldAdminSelectWidget,
    )

    def targets(self) -> list[str]:
        """Every name that may be given, for the field's list."""
        return [
            *ModelGroup.objects.values_list("name", flat=True),
            *Model.objects.values_list("name", flat=True),
        ]

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"].strip()
        known = Model.objects.filter(name=name).exists() or ModelGroup.objects.filter(name=name).exists()
        if name and not known:
            raise forms.ValidationError(f"There is no model or group called {name!r}.")
        return name

    def clean_members(self) -> tuple[str, ...]:
        members = tuple(dict.fromkeys(part.strip() for part in self.cleaned_data["members"].split(",") if part.strip()))
        if len(members) > MOST_MEMBERS:
            raise forms.ValidationError(f"At most {MOST_MEMBERS} models.")
        unknown = set(members) - set(Model.objects.filter(name__in=members).values_list("name", flat=True))
        if unknown:
            raise forms.ValidationError(f"There is no model called {sorted(unknown)[0]!r}.")
        return members

    def clean(self) -> dict[str, Any] | None:
        cleaned: dict[str, Any] | None = super().clean()
        if not self.errors and bool(self.cleaned_data["name"]) == bool(self.cleaned_data["members"]):
            raise forms.ValidationError("Give one of the two: a model or group, or a draft's models.")
        return cleaned

    def draft(self) -> Draft:
        """What was asked for; valid forms only."""
        return Draft(
            name=self.cleaned_data["name"],
            members=self.cleaned_data["members"],
            strategy=self.cleaned_data["strategy"],
        )
