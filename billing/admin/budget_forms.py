"""What the budget pages ask: amounts in USD, percentages, and why a limit is raised for a while."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from billing.budget_services import check_subject, read_limit
from billing.errors import BudgetError
from billing.models import Budget
from billing.money import usd
from tenants.operator_admin import REASON_LENGTH

HIGHEST_ALERT_PERCENT = 1000
"""As the model has it."""

AMOUNT_WIDGET = UnfoldAdminTextInputWidget({"inputmode": "decimal", "placeholder": "100"})


class UsdField(forms.CharField):
    """An amount typed in USD, as nano-USD; what is wrong with it is said at the field."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=40, widget=AMOUNT_WIDGET, **options)

    def clean(self, value: Any) -> int:
        try:
            return read_limit(super().clean(value))
        except BudgetError as error:
            raise ValidationError(str(error)) from error


class PercentagesField(forms.Field):
    """Percentages separated by commas, as a list in order."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, widget=UnfoldAdminTextInputWidget, **options)

    def to_python(self, value: Any) -> list[int]:
        parts = [part.strip().removesuffix("%").strip() for part in str(value or "").split(",")]
        try:
            percentages = sorted({int(part) for part in parts if part})
        except ValueError:
            percentages = [0]
        if any(not 1 <= percent <= HIGHEST_ALERT_PERCENT for percent in percentages):
            raise ValidationError(
                f"Write whole percentages from 1 to {HIGHEST_ALERT_PERCENT}, separated by commas: 50, 80, 100."
            )
        return percentages

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list) else value


class BudgetForm(forms.ModelForm):
    """A budget; what it is about is fixed once it exists, because its windows count that."""

    limit = UsdField(label="Limit, USD", help_text="0 refuses every call that is not free.")
    alert_at = PercentagesField(
        label="Alert at, %", help_text="Percentages of the limit, separated by commas. Each alerts once a period."
    )

    class Meta:
        model = Budget
        fields = ("tenant", "scope", "subject", "period", "hard", "alert_at", "enabled")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk is not None and "limit" in self.fields:
            self.fields["limit"].initial = usd(self.instance.limit_nano_usd)

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if "limit" in self.cleaned_data:
            self.instance.limit_nano_usd = self.cleaned_data["limit"]
        return cleaned

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if self.instance.pk is None and not self.errors:
            try:
                check_subject(self.instance)
            except BudgetError as error:
                self.add_error("subject", str(error))


class AllowMoreForm(forms.Form):
    """What the page asks that raises a limit for a while."""

    extra = UsdField(label="Extra, USD", help_text="Added to the limit until the moment below.")
    expires_at = forms.DateTimeField(
        label="Until, UTC",
        widget=UnfoldAdminTextInputWidget({"type": "datetime-local"}),
        help_text="From then on the limit is what it was. In a period that begins earlier, the extra counts again.",
    )
    reason = forms.CharField(
        label="Reason", max_length=REASON_LENGTH, widget=UnfoldAdminTextareaWidget({"rows": 2}),
        help_text="Kept with the budget and in its history.",
    )  # fmt: skip
