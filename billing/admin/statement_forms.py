"""What the pages about statements ask: amounts to credit, percentages, usage exports."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from billing.admin.budget_forms import UsdField
from billing.errors import ReconciliationError, StatementError
from billing.models import Markup, ReconciliationRun
from billing.reconciliation.export import MOST_BYTES, ExportFile, read_file
from billing.statements.markups import check_markup, read_percent
from tenants.operator_admin import REASON_LENGTH


class CreditForm(forms.Form):
    """How much to take off a statement, and why."""

    amount = UsdField(
        label="Amount at cost, USD", help_text="The statement's markup or discount is applied to it as well."
    )
    reason = forms.CharField(
        max_length=REASON_LENGTH, widget=UnfoldAdminTextareaWidget({"rows": 2}), help_text="It is on the credit note."
    )

    def clean_amount(self) -> int:
        amount: int = self.cleaned_data["amount"]
        if amount < 1:
            raise ValidationError("Credit more than nothing.")
        return amount


class PercentField(forms.CharField):
    """A percentage, as basis points; what is wrong with it is said at the field."""

    def clean(self, value: Any) -> int:
        try:
            return read_percent(super().clean(value))
        except StatementError as error:
            raise ValidationError(str(error)) from error


class MarkupForm(forms.ModelForm):
    """A further markup of a tenant."""

    percent = PercentField(
        max_length=40,
        label="Percent",
        widget=UnfoldAdminTextInputWidget({"inputmode": "decimal", "placeholder": "12.5"}),
        help_text="On top of cost; negative is a discount. From -100 to 1000.",
    )

    class Meta:
        model = Markup
        fields = ("tenant", "valid_from", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "valid_from" in self.fields:
            self.fields["valid_from"].required = False
            self.fields["valid_from"].help_text = "UTC. For periods that begin then or later. Empty: from now on."

    def clean_valid_from(self) -> dt.datetime:
        moment: dt.datetime = self.cleaned_data["valid_from"] or timezone.now()
        return moment

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if not self.errors:
            try:
                check_markup(self.cleaned_data["tenant"], valid_from=self.cleaned_data["valid_from"])
            except StatementError as error:
                self.add_error("valid_from", str(error))
        return cleaned


class UploadForm(forms.ModelForm):
    """A provider's usage export."""

    file = forms.FileField(
        label="Usage export",
        widget=UnfoldAdminFileFieldWidget({"accept": ".csv,text/csv"}),
        help_text=(
            "CSV with a heading: day, model, tokens (or input_tokens and output_tokens), cost in USD. Days are UTC. "
            "Lines of one day and model are summed. 10 MB at most."
        ),
    )

    class Meta:
        model = ReconciliationRun
        fields = ("provider",)

    def clean_file(self) -> ExportFile:
        """The file, read: what is wrong with it is said at its field."""
        file = self.cleaned_data["file"]
        try:
            return read_file(file.name, file.read(MOST_BYTES + 1))
        except ReconciliationError as error:
            raise ValidationError(str(error)) from error
