"""What models cost, from when on."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.timezone import now

from billing.pricing import PriceVersion
from billing.quotes import quote_rates, quote_tier
from billing.tiers import stored_tiers
from providers.models import Model
from tenants.models import Operator


class Price(models.Model):
    """A model's prices from a moment on. Never edited: a change is a later row."""

    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="prices")
    valid_from = models.DateTimeField(default=now)
    rates = models.JSONField(help_text="Pico-USD for one unit, by unit.")
    tiers = models.JSONField(
        default=list, blank=True, help_text="Rates that replace these under a condition; the first that applies wins."
    )
    created_at = models.DateTimeField(default=now, editable=False)
    created_by = models.ForeignKey(
        Operator, on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )

    class Meta:
        ordering = ["model__name", "-valid_from"]
        constraints = [models.UniqueConstraint(fields=["model", "valid_from"], name="price_once_per_moment")]

    def __str__(self) -> str:
        return f"{self.model.name} from {self.valid_from:%Y-%m-%d %H:%M}"

    @property
    def version(self) -> PriceVersion:
        """The price as the formula takes it."""
        return PriceVersion(self.pk, self.valid_from, self.rates, stored_tiers(self.tiers))

    def usd_per_million(self) -> dict[str, str]:
        """The base rates as people quote them: USD per million units, in the vocabulary's order."""
        return quote_rates(self.rates)

    def quoted_tiers(self) -> list[dict[str, Any]]:
        """The tiers as a configuration file has them."""
        return [quote_tier(tier) for tier in stored_tiers(self.tiers)]
