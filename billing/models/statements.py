"""Statements and credit notes, what is on them, and the terms they are made by."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.timezone import now

from tenants.models import Operator, Tenant

LOWEST_MARKUP_BASIS_POINTS = -10_000
HIGHEST_MARKUP_BASIS_POINTS = 100_000
"""A discount of all, and ten times on top: what lies beyond was typed in the wrong unit."""


class StatementPeriod(models.TextChoices):
    """How long a statement's period is, in the tenant's time zone. The values are those of `billing.models.Period`."""

    DAY = "day", "Day"
    MONTH = "month", "Month"


class StatementKind(models.TextChoices):
    STATEMENT = "statement", "Statement"
    CREDIT_NOTE = "credit_note", "Credit note"


class StatementState(models.TextChoices):
    """A draft is made anew as often as one likes; from issue on nothing changes but the lock."""

    DRAFT = "draft", "Draft"
    ISSUED = "issued", "Issued"
    LOCKED = "locked", "Locked"


class LineKind(models.TextChoices):
    USAGE = "usage", "Usage"
    ADJUSTMENT = "adjustment", "Adjustment"
    CORRECTION = "correction", "Correction"
    CREDIT = "credit", "Credit"


class StatementSchedule(models.Model):
    """How often a tenant gets a statement. Without a row: monthly, issued by the nightly job."""

    tenant = models.OneToOneField(Tenant, on_delete=models.PROTECT, related_name="statement_schedule")
    period = models.CharField(max_length=8, choices=StatementPeriod.choices, default=StatementPeriod.MONTH)
    issues_by_itself = models.BooleanField(
        default=True, help_text="The nightly job issues a finished period's statement. Otherwise an owner does."
    )

    class Meta:
        ordering = ["tenant__name"]

    def __str__(self) -> str:
        return f"{self.tenant.name}: each {self.period}"


class Markup(models.Model):
    """What a tenant pays on top of cost, or less than it, from a moment on. Never edited: a change is a later row."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="markups")
    basis_points = models.IntegerField(
        validators=[MinValueValidator(LOWEST_MARKUP_BASIS_POINTS), MaxValueValidator(HIGHEST_MARKUP_BASIS_POINTS)],
        help_text="Hundredths of a percent; negative is a discount.",
    )
    valid_from = models.DateTimeField(help_text="For periods that begin at this moment or later.")
    reason = models.CharField(max_length=500)
    created_at = models.DateTimeField(default=now, editable=False)
    created_by = models.ForeignKey(Operator, on_delete=models.PROTECT, null=True, editable=False, related_name="+")

    class Meta:
        ordering = ["tenant__name", "-valid_from", "-pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    basis_points__gte=LOWEST_MARKUP_BASIS_POINTS, basis_points__lte=HIGHEST_MARKUP_BASIS_POINTS
                ),
                name="markup_within_bounds",
            )
        ]

    def __str__(self) -> str:
        return f"{self.tenant.name} from {self.valid_from:%Y-%m-%d %H:%M}"


class Statement(models.Model):
    """What a tenant owes for a period, or what a credit note takes off it. Amounts are signed nano-USD.

    subtotal (the ledger, at cost) + markup + rounding = `total_cents`, the only figure in cents.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="statements")
    tenant_name = models.CharField(max_length=100, help_text="As it was when this was made.")
    kind = models.CharField(max_length=16, choices=StatementKind.choices, default=StatementKind.STATEMENT)
    state = models.CharField(max_length=8, choices=StatementState.choices, default=StatementState.DRAFT)
    period = models.CharField(max_length=8, choices=StatementPeriod.choices)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    timezone = models.CharField(max_length=64)
    sequence = models.PositiveIntegerField(null=True, help_text="Per tenant and kind, without gaps, given at issue.")
    number = models.CharField(max_length=120, blank=True)
    credits = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="credit_notes")
    reason = models.CharField(max_length=500, blank=True)
    calls = models.BigIntegerField(default=0)
    unpriced_calls = models.BigIntegerField(default=0, help_text="Calls of models that had no price, at no cost.")
    subtotal_nano_usd = models.BigIntegerField(default=0)
    markup_basis_points = models.IntegerField(default=0)
    markup_nano_usd = models.BigIntegerField(default=0)
    rounding_nano_usd = models.BigIntegerField(default=0)
    total_cents = models.BigIntegerField(default=0)
    content_hash = models.CharField(max_length=64, blank=True)
    made_at = models.DateTimeField(default=now)
    issued_at = models.DateTimeField(null=True)
    issued_by = models.ForeignKey(Operator, on_delete=models.PROTECT, null=True, related_name="+")
    locked_at = models.DateTimeField(null=True)
    locked_by = models.ForeignKey(Operator, on_delete=models.PROTECT, null=True, related_name="+")

    class Meta:
        ordering = ["-starts_at", "tenant__name", "kind", "pk"]
        indexes = [models.Index(fields=["tenant", "-starts_at"], name="statement_by_tenant")]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "starts_at"], condition=Q(kind="statement"), name="statement_once_a_period"
            ),
            models.UniqueConstraint(fields=["tenant", "kind", "sequence"], name="statement_number_once"),
            models.CheckConstraint(condition=Q(ends_at__gt=models.F("starts_at")), name="statement_ends_after_start"),
            models.CheckConstraint(
                condition=Q(
                    subtotal_nano_usd=models.F("total_cents") * 10_000_000
                    - models.F("markup_nano_usd")
                    - models.F("rounding_nano_usd")
                ),
                name="statement_adds_up",
            ),
            models.CheckConstraint(
                condition=Q(state="draft", sequence=None) | (~Q(state="draft") & Q(sequence__isnull=False)),
                name="statement_has_number_once_issued",
            ),
        ]

    def __str__(self) -> str:
        begins = self.starts_at.astimezone(ZoneInfo(self.timezone))
        return self.number or f"{self.tenant_name}, draft from {begins:%Y-%m-%d}"


class StatementLine(models.Model):
    """What was used by one end user of one project on one model of one provider, or an adjustment with its reason."""

    statement = models.ForeignKey(Statement, on_delete=models.CASCADE, related_name="lines")
    position = models.PositiveIntegerField()
    kind = models.CharField(max_length=16, choices=LineKind.choices)
    project = models.CharField(max_length=100, blank=True)
    user = models.CharField(max_length=256, blank=True)
    model = models.CharField(max_length=200, blank=True)
    provider = models.CharField(max_length=100, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    calls = models.BigIntegerField(default=0)
    unpriced_calls = models.BigIntegerField(default=0)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cache_read_tokens = models.BigIntegerField(default=0)
    cache_write_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    cost_nano_usd = models.BigIntegerField()
    adjustment = models.UUIDField(
        null=True, help_text="A credit's entry in the ledger; it is on this credit note and so on no statement."
    )

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["statement", "position"], name="statement_line_position"),
            models.UniqueConstraint(fields=["adjustment"], name="statement_line_adjustment_once"),
        ]

    def __str__(self) -> str:
        return f"{self.statement}, line {self.position}"
