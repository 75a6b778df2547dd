"""Admin pages for prices: quoted in USD per million units, added as versions, never edited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import display

from billing.admin.price_forms import RatesForm, typed_rates, typed_tiers
from billing.errors import PriceError
from billing.models import Price
from billing.money import usd
from billing.price_samples import SAMPLES, cost_in, sample_costs
from billing.pricing import UNITS, PriceVersion
from billing.quotes import quote_rates
from billing.selectors import price_holding
from billing.services import set_price
from billing.tiers import stored_tiers
from tenants.operator_admin import OperatorModelAdmin, number, operator_of, utc

VALID_FROM = utc("valid_from", "Valid from")
TEXT_UNITS = ("input", "output", "reasoning", "cache_read", "cache_write_5m", "cache_write_1h")
MEDIA_UNITS = tuple(unit for unit in UNITS if unit.startswith(("audio", "image_")))
OTHER_UNITS = tuple(unit for unit in UNITS if unit not in TEXT_UNITS + MEDIA_UNITS)


@admin.register(Price)
class PriceAdmin(OperatorModelAdmin):
    """Price versions. A change is a new version: no row is edited or deleted."""

    form = RatesForm
    list_display = ("model", VALID_FROM, "input_price", "output_price", "other_prices", "tier_names", "sample")
    list_select_related = ("model", "created_by")
    list_filter = (("model", AutocompleteSelectFilter),)
    search_fields = ("model__name",)
    autocomplete_fields = ("model",)
    asks_password = ("add",)
    ordering = ("model__name", "-valid_from")
    change_form_before_template = "admin/billing/price_preview.html"
    recorded = ("model", VALID_FROM, "prices", "tier_prices", "samples", utc("created_at", "Set"), "created_by")
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
        return _listed(others) or "-"

    @display(description="1,000 in + 500 out, USD")
    def sample(self, price: Price) -> SafeString:
        return number(usd(cost_in(price.version, SAMPLES[0].units, tier=0)))

    @display(description="Tiers")
    def tier_names(self, price: Price) -> str:
        return ", ".join(tier.name for tier in price.version.tiers) or "-"

    @display(description="USD per million units")
    def prices(self, price: Price) -> SafeString:
        rows = format_html_join("", "<tr><th>{}</th><td>{}</td></tr>", price.usd_per_million().items())
        return format_html('<table class="figures">{}</table>', rows)

    @display(description="Tiers, the first that applies wins")
    def tier_prices(self, price: Price) -> SafeString | str:
        rows = [
            (
                place,
                tier.name,
                tier.condition(),
                ", ".join(f"{unit} {rate}" for unit, rate in quote_rates(tier.rates).items()),
            )
            for place, tier in enumerate(price.version.tiers, start=1)
        ]
        if not rows:
            return "none"
        table = format_html_join("", "<tr><td>{}</td><th>{}</th><td>{}</td><td>{}</td></tr>", rows)
        return format_html('<table class="rates">{}</table>', table)

    @display(description="What requests cost, USD")
    def samples(self, price: Price) -> SafeString:
        costs = ((row.sample, row.tier, number(row.cost)) for row in sample_costs(price.version))
        table = format_html_join("", "<tr><th>{}</th><td>{}</td><td>{}</td></tr>", costs)
        return format_html('<table class="rates">{}</table>', table)

    def get_fieldsets(self, request: HttpRequest, obj: Price | None = None) -> Any:
        if obj is not None:
            return ((None, {"fields": self.recorded}),)
        quoted = "USD per million units."
        return (
            (None, {"fields": ("model", "valid_from")}),
            ("Text tokens", {"fields": TEXT_UNITS, "description": quoted}),
            ("Audio and images", {"fields": MEDIA_UNITS, "description": quoted, "classes": ("collapse",)}),
            ("Counted otherwise", {"fields": OTHER_UNITS, "description": quoted, "classes": ("collapse",)}),
            ("Tiers", {"fields": ("quoted_tiers",)}),
            (None, {"fields": ("confirmed",)}),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Price | None = None) -> Any:
        return self.recorded if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Price, form: forms.ModelForm[Price], change: bool) -> None:
        tiers = stored_tiers(obj.tiers)
        saved = set_price(obj.model, obj.rates, tiers=tiers, valid_from=obj.valid_from, by=operator_of(request))
        if saved is None:
            raise PriceError(f"{obj.model} has these prices already.")
        obj.pk = saved.pk
        obj.refresh_from_db()
        cost = usd(cost_in(obj.version, SAMPLES[0].units, tier=0))
        messages.warning(request, f"1,000 input + 500 output tokens of {obj.model} cost {cost} USD.")

    def get_urls(self) -> list[URLPattern]:
        preview = path("preview/", self.admin_site.admin_view(self.preview), name=self.url_name("preview"))
        return [preview, *super().get_urls()]

    def preview(self, request: HttpRequest) -> HttpResponse:
        """What sample requests would cost at the prices typed so far. Reads only."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        model = request.GET.get("model", "")
        current = price_holding(int(model), timezone.now()) if _is_id(model) else None
        context: dict[str, Any] = {"has_price": current is not None}
        try:
            rates, tiers = typed_rates(request.GET), typed_tiers(request.GET.get("quoted_tiers", ""))
            typed = PriceVersion(0, timezone.now(), rates, tiers)
            context["costs"] = sample_costs(typed, now=current.version if current is not None else None)
        except PriceError as error:
            context["problem"] = str(error)
        return TemplateResponse(request, "admin/billing/price_preview_table.html", context)


def _listed(rates: Mapping[str, str]) -> str:
    return ", ".join(f"{unit} {rate}" for unit, rate in rates.items())


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19
