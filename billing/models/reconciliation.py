"""What a provider says it delivered, beside what the ledger has."""

from __future__ import annotations

from django.db import models
from django.utils.timezone import now

from providers.models import Provider
from tenants.models import Operator


class ReconciliationRun(models.Model):
    """One uploaded usage export of a provider, compared with the ledger as it was then."""

    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+")
    file_name = models.CharField(max_length=255)
    file_hash = models.CharField(max_length=64, help_text="SHA-256 of the file.")
    first_day = models.DateField()
    last_day = models.DateField()
    lines = models.PositiveIntegerField(help_text="Lines of the file; those of one day and model are summed.")
    their_tokens = models.BigIntegerField()
    our_tokens = models.BigIntegerField()
    their_cost_nano_usd = models.BigIntegerField()
    our_cost_nano_usd = models.BigIntegerField()
    created_at = models.DateTimeField(default=now, editable=False)
    created_by = models.ForeignKey(Operator, on_delete=models.PROTECT, null=True, editable=False, related_name="+")

    class Meta:
        ordering = ["-created_at", "-pk"]
        verbose_name = "reconciliation"

    def __str__(self) -> str:
        return f"{self.provider.name}, {self.first_day} to {self.last_day}"


class ReconciliationRow(models.Model):
    """One model on one UTC day: theirs and ours."""

    run = models.ForeignKey(ReconciliationRun, on_delete=models.CASCADE, related_name="rows")
    day = models.DateField()
    model = models.CharField(max_length=200, help_text="As the provider calls it.")
    known = models.BooleanField(help_text="Whether a deployment at this provider has this model, or the ledger does.")
    their_tokens = models.BigIntegerField()
    our_tokens = models.BigIntegerField()
    their_cost_nano_usd = models.BigIntegerField()
    our_cost_nano_usd = models.BigIntegerField()

    class Meta:
        ordering = ["day", "model"]
        constraints = [models.UniqueConstraint(fields=["run", "day", "model"], name="reconciliation_row_once")]

    def __str__(self) -> str:
        return f"{self.day} {self.model}"
