"""The form of a new price: figures as people quote them, tiers as a configuration file has them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import yaml
from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from billing.errors import PriceError
from billing.models import Price
from billing.price_doubts import find_doubts
from billing.price_imports import known_prices
from billing.pricing import PRICED_AS, UNITS
from billing.services import changes_price, read_rates
from billing.tiers import Tier, check_tiers, make_tier

LONGEST_TIERS_TEXT = 8_000
TIER_KEYS = ("name", "above_input_tokens", "service_tier", "utc", "prices")
TIERS_EXAMPLE = "- {name: long, above_input_tokens: 200000, prices: {input: 2.50, output: 15}}"
TIERS_HELP = (
    "One tier a line, written as in a configuration file, with the conditions it has: above_input_tokens, "
    "service_tier, utc (such as 16:30-00:30). The first that applies wins. Units it does not name cost what stands "
    "above."
)


def typed_rates(values: Mapping[str, Any]) -> dict[str, int]:
    """Pico-USD by unit of what was typed. Raises `PriceError`, also when nothing was."""
    typed = {unit: text.strip() for unit in UNITS if (text := values.get(unit) or "").strip()}
    if not typed:
        raise PriceError("Give at least one price; write 0 for what is free.")
    return read_rates(typed)


def typed_tiers(text: str) -> tuple[Tier, ...]:
    """The tiers that were typed, as YAML whose figures stay the text they are. Raises `PriceError`."""
    if not text.strip():
        return ()
    if len(text) > LONGEST_TIERS_TEXT:
        raise PriceError(f"The tiers are longer than {LONGEST_TIERS_TEXT:,} characters.")
    try:
        found = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 -- makes lists, mappings and texts, nothing else
    except (yaml.YAMLError, RecursionError) as error:
        raise PriceError(f"This is not a list of tiers; write lines such as {TIERS_EXAMPLE}") from error
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise PriceError(f"Write a list of tiers, with lines such as {TIERS_EXAMPLE}")
    tiers = tuple(_typed_tier(entry) for entry in found)
    check_tiers(tiers)
    return tiers


def _typed_tier(entry: Mapping[Any, Any]) -> Tier:
    unknown = [str(key) for key in entry if key not in TIER_KEYS]
    if unknown:
        raise PriceError(f"{unknown[0][:40]!r} is not known in a tier; there is {', '.join(TIER_KEYS)}.")
    prices = entry.get("prices")
    texts = {key: entry.get(key, "") for key in TIER_KEYS[:-1]}
    if not isinstance(prices, dict) or not all(isinstance(text, str) for text in (*texts.values(), *prices.values())):
        raise PriceError(f"A tier is written like this: {TIERS_EXAMPLE}")
    least = texts["above_input_tokens"]
    if least and not (least.isascii() and least.isdigit() and len(least) <= 10):
        raise PriceError(f"tier {texts['name']}: above_input_tokens is a number of tokens, such as 200000.")
    return make_tier(
        texts["name"],
        rates=read_rates(prices),
        above_input_tokens=int(least) if least else None,
        service_tier=texts["service_tier"],
        utc=texts["utc"],
    )


class PriceForm(forms.ModelForm):
    """A new price version."""

    quoted_tiers = forms.CharField(
        required=False,
        label="Tiers",
        help_text=TIERS_HELP,
        max_length=LONGEST_TIERS_TEXT,
        widget=UnfoldAdminTextareaWidget({"rows": 4, "placeholder": TIERS_EXAMPLE, "spellcheck": "false"}),
    )
    confirmed = forms.BooleanField(
        required=False,
        label="These figures are meant",
        help_text="Tick it only when this page has asked whether a figure was typed in another unit.",
        widget=UnfoldBooleanWidget,
    )

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

    def clean_quoted_tiers(self) -> tuple[Tier, ...]:
        try:
            return typed_tiers(self.cleaned_data["quoted_tiers"])
        except PriceError as error:
            raise ValidationError(str(error)) from error

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
        model, moment, tiers = (self.cleaned_data[name] for name in ("model", "valid_from", "quoted_tiers"))
        if not changes_price(model, rates, tiers=tiers, moment=moment):
            raise ValidationError("These are the prices that hold then already.")
        if not self.cleaned_data["confirmed"]:
            for doubt in find_doubts(rates, tiers=tiers, known=known_prices(model, moment)):
                question = doubt.question.removeprefix(f"{doubt.unit}: ")
                self.add_error(doubt.unit, f"{question} If it is meant, tick “These figures are meant” below.")
        self.instance.rates = rates
        self.instance.tiers = [tier.as_json() for tier in tiers]
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
