"""Admin pages for prices: quoted in USD per million units, added as versions, never edited."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget

from billing.errors import PriceError
from billing.models import Price
from billing.money import usd
from billing.pricing import PRICED_AS, UNITS, PriceVersion
from billing.selectors import price_holding
from billing.services import read_rates, set_price
from tenants.operator_admin import OperatorModelAdmin, number, operator_of, utc

VALID_FROM = utc("valid_from", "Valid from")
SAMPLE_UNITS = {"input": 1000, "output": 500}
TEXT_UNITS = ("input", "output", "reasoning", "cache_read", "cache_write_5m", "cache_write_1h")
MEDIA_UNITS = tuple(unit for unit in UNITS if unit.startswith(("audio", "image_")))
OTHER_UNITS = tuple(unit for unit in UNITS if unit not in TEXT_UNITS + MEDIA_UNITS)


def sample_cost(rates: Mapping[str, int]) -> str:
    """What a typical call costs at these rates (pico-USD by unit), in USD."""
    return usd(PriceVersion(0, timezone.now(), rates).cost_nano_usd(SAMPLE_UNITS))


def typed_rates(values: Mapping[str, Any]) -> dict[str, int]:
    """Pico-USD by unit of what was typed. Raises `PriceError`, also when nothing was."""
    typed = {unit: text.strip() for unit in UNITS if (text := values.get(unit) or "").strip()}
    if not typed:
        raise PriceError("Give at least one price; write 0 for what is free.")
    return read_rates(typed)


class PriceForm(forms.ModelForm):
    """A new price version."""

    class Meta:
        model = Price
        fields = ("model", "valid_from")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "valid_from" in self.fields:
            self.fields["valid_from"].required = False
            self.fields["valid_from"].initial = None
            self.fields["valid_from"].help_text = "UTC. Empty: from now on."

    def clean_valid_from(self) -> dt.datetime:
        now = timezone.now()
        moment: dt.datetime = self.cleaned_data["valid_from"] or now
        if moment < now:
            raise ValidationError("A price cannot begin in the past: calls since then have been charged.")
        return moment

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        for unit in UNITS:
            self._check_unit(unit)
        if self.errors:
            return cleaned
        try:
            rates = typed_rates(self.cleaned_data)
        except PriceError as error:
            raise ValidationError(str(error)) from error
        current = price_holding(self.cleaned_data["model"].pk, self.cleaned_data["valid_from"])
        if current is not None and current.rates == rates:
            raise ValidationError("These are the prices that hold then already.")
        self.instance.rates = rates
        return cleaned

    def _check_unit(self, unit: str) -> None:
        """Show what is wrong with a price at its own field."""
        text = (self.cleaned_data.get(unit) or "").strip()
        try:
            read_rates({unit: text} if text else {})
        except PriceError as error:
            self.add_error(unit, str(error).removeprefix(f"{unit}: "))


def _rate_field(unit: str) -> forms.CharField:
    default = PRICED_AS.get(unit)
    return forms.CharField(
        max_length=32,
        required=False,
        label=unit.replace("_", " ").capitalize(),
        widget=UnfoldAdminTextInputWidget({"inputmode": "decimal", "placeholder": "0.15"}),
        help_text=f"Empty: priced as {default}." if default else "Empty: free.",
    )


RatesForm = type("RatesForm", (PriceForm,), {unit: _rate_field(unit) for unit in UNITS})
"""The form with one field for each unit of the vocabulary."""


@admin.register(Price)
class PriceAdmin(OperatorModelAdmin):
    """Price versions. A change is a new version: no row is edited or deleted."""

    form = RatesForm
    list_display = ("model", VALID_FROM, "input_price", "output_price", "other_prices", "sample")
    list_select_related = ("model", "created_by")
    list_filter = (("model", AutocompleteSelectFilter),)
    search_fields = ("model__name",)
    autocomplete_fields = ("model",)
    ordering = ("model__name", "-valid_from")
    change_form_before_template = "admin/billing/price_preview.html"
    recorded = ("model", VALID_FROM, "prices", "sample", utc("created_at", "Set"), "created_by")
    empty_hint = "Without a price a model's calls are booked at no cost: set one before tenants use it."

    @display(description="Input, USD/M")
    def input_price(self, price: Price) -> SafeString:
        return number(price.usd_per_million().get("input", "-"))

    @display(description="Output, USD/M")
    def output_price(self, price: Price) -> SafeString:
        return number(price.usd_per_million().get("output", "-"))

    @display(description="Other units, USD/M")
    def other_prices(self, price: Price) -> str:
        others = {unit: rate for unit, rate in price.usd_per_million().items() if unit not in ("input", "output")}
        return ", ".join(f"{unit} {rate}" for unit, rate in others.items()) or "-"

    @display(description="1,000 in + 500 out, USD")
    def sample(self, price: Price) -> SafeString:
        return number(sample_cost(price.rates))

    @display(description="USD per million units")
    def prices(self, price: Price) -> SafeString:
        rows = format_html_join("", "<tr><th>{}</th><td>{}</td></tr>", price.usd_per_million().items())
        return format_html('<table class="figures">{}</table>', rows)

    def get_fieldsets(self, request: HttpRequest, obj: Price | None = None) -> Any:
        if obj is not None:
            return ((None, {"fields": self.recorded}),)
        quoted = "USD per million units."
        return (
            (None, {"fields": ("model", "valid_from")}),
            ("Text tokens", {"fields": TEXT_UNITS, "description": quoted}),
            ("Audio and images", {"fields": MEDIA_UNITS, "description": quoted, "classes": ("collapse",)}),
            ("Counted otherwise", {"fields": OTHER_UNITS, "description": quoted, "classes": ("collapse",)}),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Price | None = None) -> Any:
        return self.recorded if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Price, form: forms.ModelForm[Price], change: bool) -> None:
        saved = set_price(obj.model, obj.rates, valid_from=obj.valid_from, by=operator_of(request))
        if saved is None:
            raise PriceError(f"{obj.model} has these prices already.")
        obj.pk = saved.pk
        obj.refresh_from_db()
        messages.warning(request, f"1,000 input + 500 output tokens of {obj.model} cost {sample_cost(obj.rates)} USD.")

    def get_urls(self) -> list[URLPattern]:
        preview = path("preview/", self.admin_site.admin_view(self.preview), name=self.url_name("preview"))
        return [preview, *super().get_urls()]

    def preview(self, request: HttpRequest) -> HttpResponse:
        """What a typical call would cost at the prices typed so far. Reads only."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        context: dict[str, str] = {}
        try:
            context["cost"] = sample_cost(typed_rates(request.GET))
        except PriceError as error:
            context["problem"] = str(error)
        model = request.GET.get("model", "")
        current = price_holding(int(model), timezone.now()) if _is_id(model) else None
        if current is not None:
            context["cost_now"] = sample_cost(current.rates)
        return TemplateResponse(request, "admin/billing/price_preview_line.html", context)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19
