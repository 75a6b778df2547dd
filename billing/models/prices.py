"""What models cost, from when on."""

from __future__ import annotations

from django.db import models
from django.utils.timezone import now

from billing.money import usd_per_million
from billing.pricing import UNITS
from providers.models import Model
from tenants.models import Operator


class Price(models.Model):
    """A model's prices from a moment on. Never edited: a change is a later row."""

    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="prices")
    valid_from = models.DateTimeField(default=now)
    rates = models.JSONField(help_text="Pico-USD for one unit, by unit.")
    created_at = models.DateTimeField(default=now, editable=False)
    created_by = models.ForeignKey(
        Operator, on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )

    class Meta:
        ordering = ["model__name", "-valid_from"]
        constraints = [models.UniqueConstraint(fields=["model", "valid_from"], name="price_once_per_moment")]

    def __str__(self) -> str:
        return f"{self.model.name} from {self.valid_from:%Y-%m-%d %H:%M}"

    def usd_per_million(self) -> dict[str, str]:
        """The rates as people quote them: USD per million units, in the vocabulary's order."""
        return {unit: usd_per_million(self.rates[unit]) for unit in UNITS if unit in self.rates}
