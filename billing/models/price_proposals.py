"""What a public list of prices says a model costs, for an operator to decide on."""

from __future__ import annotations

from django.db import models
from django.utils.timezone import now

from billing.models.prices import Price
from providers.models import Model
from tenants.models import Operator


class ProposalState(models.TextChoices):
    """What became of a proposal."""

    OPEN = "open", "Open"
    APPROVED = "approved", "Approved"
    REJECTED = "rejected", "Rejected"
    SUPERSEDED = "superseded", "Superseded by a later one"


class PriceProposal(models.Model):
    """Prices that differ from a model's own. Approving makes them its price from then on; a model has one open."""

    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="price_proposals")
    rates = models.JSONField(help_text="Pico-USD for one unit, by unit.")
    tiers = models.JSONField(default=list, blank=True)
    source = models.CharField(max_length=200)
    source_version = models.CharField(max_length=40)
    diff = models.JSONField(help_text="Each change as it was when this was proposed.")
    state = models.CharField(max_length=12, choices=ProposalState, default=ProposalState.OPEN)
    created_at = models.DateTimeField(default=now, editable=False)
    decided_at = models.DateTimeField(null=True, blank=True, editable=False)
    decided_by = models.ForeignKey(
        Operator, on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )
    price = models.ForeignKey(
        Price, on_delete=models.PROTECT, null=True, blank=True, editable=False, related_name="+",
        help_text="The version that approving it made.",
    )  # fmt: skip

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["model"], condition=models.Q(state="open"), name="one_open_price_proposal_per_model"
            )
        ]

    def __str__(self) -> str:
        return f"{self.model.name}, {self.source} {self.source_version}"
