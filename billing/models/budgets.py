"""Budgets, and the windows of time in which they are spent."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.timezone import now

from billing.money import NANO_PER_USD, usd
from tenants.models import Operator, Tenant

HIGHEST_LIMIT_NANO_USD = 10_000_000 * NANO_PER_USD
"""Ten million USD: a larger limit was typed in the wrong unit, and is none."""


class Scope(models.TextChoices):
    """What a budget is for. A further kind of scope is a value here, not a column."""

    TENANT = "tenant", "The whole tenant"
    PROJECT = "project", "A project"
    USER = "user", "An end user"
    KEY = "key", "An API key"
    MODEL = "model", "A model"
    PROVIDER = "provider", "A provider"


class Period(models.TextChoices):
    """How long a window lasts, in the tenant's time zone."""

    HOUR = "hour", "Hour"
    DAY = "day", "Day"
    WEEK = "week", "Week, from Monday"
    MONTH = "month", "Month"
    QUARTER = "quarter", "Quarter"
    TOTAL = "total", "For good"


class Budget(models.Model):
    """A limit on what a tenant, or a part of it, may spend in each period."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="budgets")
    scope = models.CharField(max_length=16, choices=Scope.choices, default=Scope.TENANT)
    subject = models.CharField(
        max_length=256,
        blank=True,
        help_text="Which project, user, key, model or provider, by name. Empty: each, in a window of its own.",
    )
    period = models.CharField(max_length=8, choices=Period.choices, default=Period.MONTH)
    limit_nano_usd = models.BigIntegerField(
        validators=[MinValueValidator(0), MaxValueValidator(HIGHEST_LIMIT_NANO_USD)],
    )
    hard = models.BooleanField(default=True, help_text="Hard: calls beyond it are refused. Soft: they only alert.")
    alert_at = ArrayField(
        models.PositiveSmallIntegerField(validators=[MinValueValidator(1), MaxValueValidator(1000)]),
        default=list,
        blank=True,
        help_text="Percentages of the limit at which to alert, once in each window.",
    )
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=now, editable=False)

    class Meta:
        ordering = ["tenant__name", "scope", "subject", "period"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "scope", "subject", "period"], name="budget_once"),
            models.CheckConstraint(condition=Q(limit_nano_usd__gte=0), name="budget_limit_not_negative"),
        ]

    def __str__(self) -> str:
        subject = f" {self.subject}" if self.subject else ""
        return f"{self.tenant.name}: {self.scope}{subject}, {usd(self.limit_nano_usd)} USD a {self.period}"

    def clean(self) -> None:
        if self.scope == Scope.TENANT and self.subject:
            raise ValidationError({"subject": "A budget of the whole tenant has no subject."})


class BudgetOverride(models.Model):
    """A temporary change of a budget's limit, with who allowed it and why."""

    budget = models.ForeignKey(Budget, on_delete=models.PROTECT, related_name="overrides")
    extra_nano_usd = models.BigIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(HIGHEST_LIMIT_NANO_USD)],
        help_text="Added to the limit until it expires.",
    )
    expires_at = models.DateTimeField()
    reason = models.CharField(max_length=500)
    created_at = models.DateTimeField(default=now, editable=False)
    created_by = models.ForeignKey(Operator, on_delete=models.SET_NULL, null=True, editable=False, related_name="+")

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"+{usd(self.extra_nano_usd)} USD until {self.expires_at:%Y-%m-%d %H:%M}"


class BudgetWindow(models.Model):
    """One period of one budget: what is spent, and what calls under way hold. A new period is a new row."""

    budget = models.ForeignKey(Budget, on_delete=models.PROTECT, related_name="windows")
    subject = models.CharField(max_length=256, blank=True)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True)
    spent_nano_usd = models.BigIntegerField(default=0)
    reserved_nano_usd = models.BigIntegerField(default=0)
    ceiling_nano_usd = models.BigIntegerField(
        default=0, help_text="The highest limit, extras included, that a call was admitted under."
    )
    overrun_nano_usd = models.BigIntegerField(default=0, help_text="What calls cost beyond what they had held.")
    archived_nano_usd = models.BigIntegerField(
        default=0, db_default=0, help_text="The part of what is spent whose charges retention has dropped."
    )

    class Meta:
        ordering = ["-starts_at", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["budget", "subject", "starts_at"], name="budget_window_once"),
            # Never spent + reserved <= limit: that would break the day an operator lowers a limit below its use.
            models.CheckConstraint(
                condition=Q(spent_nano_usd__gte=0, reserved_nano_usd__gte=0, overrun_nano_usd__gte=0),
                name="budget_window_not_negative",
            ),
        ]
        indexes = [models.Index(fields=["ends_at"], name="budget_window_by_end")]

    def __str__(self) -> str:
        return f"{self.budget} from {self.starts_at:%Y-%m-%d %H:%M}"


class BudgetAlert(models.Model):
    """A threshold that a window has crossed: once each, sent when `sent_at` is set."""

    window = models.ForeignKey(BudgetWindow, on_delete=models.CASCADE, related_name="alerts")
    percent = models.PositiveSmallIntegerField()
    crossed_at = models.DateTimeField(default=now)
    sent_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-crossed_at"]
        constraints = [models.UniqueConstraint(fields=["window", "percent"], name="budget_alert_once")]
        indexes = [models.Index(fields=["id"], condition=Q(sent_at=None), name="budget_alert_unsent")]

    def __str__(self) -> str:
        return f"{self.window}: {self.percent} %"
