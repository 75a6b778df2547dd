"""Which tenants' answers are kept, and what came of it."""

from __future__ import annotations

from uuid import uuid4

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from providers.models import Model, ModelGroup
from tenants.models import Tenant

HOUR_SECONDS = 3600
LONGEST_SECONDS = 30 * 24 * HOUR_SECONDS


class CacheRule(models.Model):
    """For a tenant and what it asks for, how long answers are given again. Without a row nothing is ever kept."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="cache_rules")
    model = models.ForeignKey(Model, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    group = models.ForeignKey(ModelGroup, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    enabled = models.BooleanField(default=True)
    ttl_seconds = models.PositiveIntegerField(
        "kept for, seconds",
        default=HOUR_SECONDS,
        validators=[MinValueValidator(1), MaxValueValidator(LONGEST_SECONDS)],
        help_text="An hour unless you say otherwise, 30 days at most.",
    )
    any_temperature = models.BooleanField(
        default=False,
        help_text="Also chats whose temperature is not 0 or not given: their answers differ each time they are asked.",
    )
    epoch = models.UUIDField(
        default=uuid4,
        editable=False,
        help_text="In every key; another one after each purge.",
    )

    class Meta:
        verbose_name = "cache rule"
        ordering = ["tenant__name", "model__name", "group__name", "pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(model__isnull=True) | Q(group__isnull=True),
                name="cache_rule_of_one_target",
                violation_error_message="Choose a model or a group, or neither for all that the tenant may use.",
            ),
            models.UniqueConstraint(fields=["tenant", "model", "group"], name="cache_rule_once", nulls_distinct=False),
        ]

    def __str__(self) -> str:
        return f"{self.tenant.name}: {self.target_name}"

    @property
    def target_name(self) -> str:
        """The name that clients ask for, or that it is about all of them."""
        target = self.model or self.group
        return target.name if target else "everything"


class CacheDay(models.Model):
    """How often a rule's answers were there on a day (UTC), and what they had cost when they were made."""

    rule = models.ForeignKey(CacheRule, on_delete=models.CASCADE, related_name="days")
    day = models.DateField()
    hits = models.BigIntegerField(default=0)
    misses = models.BigIntegerField(default=0)
    saved_nano_usd = models.BigIntegerField(default=0)

    class Meta:
        verbose_name = "day of a cache rule"
        ordering = ["-day"]
        constraints = [models.UniqueConstraint(fields=["rule", "day"], name="cache_day_once")]

    def __str__(self) -> str:
        return f"{self.day}"
