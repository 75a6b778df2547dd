"""The ledger's rows: an attempt for each call to a provider, a usage record for each charge, and adjustments."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models.functions import Now

from billing.models.prices import Price
from billing.money import usd
from providers.models import Deployment
from tenants.models import ApiKey, Operator, Project, Tenant


class AttemptState(models.TextChoices):
    """An attempt begins open and ends once."""

    OPEN = "open", "Open"
    SETTLED = "settled", "Settled"
    VOIDED = "voided", "Voided"


def hot_reference(to: type[models.Model], **options: Any) -> models.ForeignKey[Any, Any]:
    """A foreign key without a database constraint and an index: the ledger writes thousands of rows a second, and what
    they point to is suspended, retired or revoked, not deleted. A pruned deployment leaves its provider's name on the
    row. Each index that a question needs is named where the model is."""
    options = {"related_name": "+", **options}
    return models.ForeignKey(to, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, **options)


class Attempt(models.Model):
    """One call to a provider, committed before its first byte is sent."""

    id = models.UUIDField(primary_key=True, editable=False)
    request_id = models.CharField(max_length=128)
    tenant = hot_reference(Tenant)
    api_key = hot_reference(ApiKey)
    deployment = hot_reference(Deployment)
    operation = models.CharField(max_length=32)
    model_name = models.CharField(max_length=200)
    provider_name = models.CharField(max_length=100)
    state = models.CharField(max_length=8, choices=AttemptState.choices, default=AttemptState.OPEN)
    failure = models.CharField(max_length=32, blank=True, help_text="Why it was voided.")
    reserved_nano_usd = models.BigIntegerField(default=0, help_text="The most it may cost, held in each window.")
    max_output_tokens = models.BigIntegerField(null=True, help_text="The limit that was sent along.")
    process = models.UUIDField(null=True, help_text="The process that made it, if it said so.")
    windows = ArrayField(models.BigIntegerField(), default=list, help_text="The budget windows it is held in.")
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, help_text="By the database's clock: when its charge was posted.")
    swept = models.BooleanField(
        default=False, db_default=False, help_text="Ended by a sweep: what its own call says later is a correction."
    )

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["created_at"], condition=models.Q(state="open"), name="attempt_open"),
            models.Index(fields=["request_id"], name="attempt_by_request"),
            models.Index(fields=["ended_at"], condition=models.Q(state="voided"), name="attempt_voided"),
            BrinIndex(fields=["created_at"], name="attempt_created"),
        ]

    def __str__(self) -> str:
        return f"{self.model_name} at {self.provider_name}"


class UsageSource(models.TextChoices):
    """Where a charge's figures come from, best first."""

    PROVIDER_FINAL = "provider_final", "Reported by the provider"
    PROVIDER_PARTIAL = "provider_partial", "Reported by the provider before its end"
    LOCAL_COUNT = "local_count", "Counted by the gateway"
    RESERVE_BOUND = "reserve_bound", "Quarantined: charged by the bound"
    UNKNOWN = "unknown", "Unknown, not charged"
    CACHE = "cache", "Answered from the cache, not charged"


class Ending(models.TextChoices):
    """How a charged call ended."""

    COMPLETED = "completed", "Completed"
    CLIENT_LEFT = "client_left", "Client left"
    FAILED = "failed", "Failed after it had begun"


class UsageRecord(models.Model):
    """One charge: who used what, and every figure of its formula. Rows are only ever added.

    The table has a partition for each month of `created_at` (UTC) and one for what has no month. There the primary key
    is the attempt and `created_at`; that an attempt has one charge is the ledger's doing, by the attempt's state. Ask
    with a range of `created_at` where you can: the other months are then not looked at.
    """

    attempt = models.OneToOneField(
        Attempt, on_delete=models.DO_NOTHING, db_constraint=False, related_name="usage", primary_key=True
    )
    created_at = models.DateTimeField(help_text="When it was posted, by the database's clock.")
    started_at = models.DateTimeField(help_text="When the client asked, by the gateway's clock.")
    request_id = models.CharField(max_length=128)
    tenant = hot_reference(Tenant)
    project = hot_reference(Project, null=True)
    api_key = hot_reference(ApiKey)
    user = models.CharField(max_length=256, blank=True)
    conversation = models.CharField(max_length=256, blank=True)
    agent = models.CharField(max_length=256, blank=True)
    agent_type = models.CharField(max_length=256, blank=True)
    operation = models.CharField(max_length=32)
    requested_model = models.CharField(max_length=200)
    model_name = models.CharField(max_length=200)
    provider_name = models.CharField(max_length=100)
    upstream_model = models.CharField(max_length=200)
    stream = models.BooleanField(default=False)
    ending = models.CharField(max_length=16, choices=Ending.choices)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cache_read_tokens = models.BigIntegerField(default=0)
    cache_write_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    units = models.JSONField(default=dict, help_text="The formula's inputs: disjoint billable units.")
    provider_usage = models.JSONField(default=dict, help_text="The provider's own usage object.")
    usage_source = models.CharField(max_length=16, choices=UsageSource.choices)
    price = hot_reference(Price, null=True)
    cost_nano_usd = models.BigIntegerField(default=0)
    latency_ms = models.IntegerField(default=0)
    first_content_ms = models.IntegerField(null=True)

    class Meta:
        ordering = ["-created_at", "-attempt_id"]
        indexes = [
            models.Index(fields=["tenant", "-created_at", "-attempt_id"], name="usage_by_tenant"),
            models.Index(fields=["-created_at", "-attempt_id"], name="usage_by_time"),
            models.Index(fields=["request_id"], name="usage_by_request"),
            models.Index(
                fields=["-created_at", "-attempt_id"],
                name="usage_not_reported",
                condition=~models.Q(usage_source="provider_final"),
            ),
            models.Index(
                fields=["-created_at"],
                name="usage_doubtful",
                condition=models.Q(usage_source__in=["reserve_bound", "unknown"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.request_id}: {self.model_name}"


class AdjustmentKind(models.TextChoices):
    """Who adjusted."""

    ADJUSTMENT = "adjustment", "By an operator"
    CORRECTION = "correction", "By the ledger, after a sweep"


class Adjustment(models.Model):
    """Money moved after the fact, with a reason: what corrects a charge, which itself never changes.

    Whom it is about is copied from the charge, so that it is summed up beside it; blank where there is no charge.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    tenant = hot_reference(Tenant)
    attempt = hot_reference(Attempt, null=True, related_name="adjustments")
    kind = models.CharField(max_length=16, choices=AdjustmentKind.choices)
    amount_nano_usd = models.BigIntegerField(help_text="Added to what was charged; a credit is negative.")
    reason = models.CharField(max_length=500)
    windows = ArrayField(models.BigIntegerField(), default=list, help_text="The budget windows it was spent in.")
    project = hot_reference(Project, null=True)
    api_key = hot_reference(ApiKey, null=True)
    user = models.CharField(max_length=256, blank=True)
    model_name = models.CharField(max_length=200, blank=True)
    provider_name = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField(db_default=Now(), help_text="When it was posted, by the database's clock.")
    created_by = models.ForeignKey(Operator, on_delete=models.PROTECT, null=True, related_name="+")

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["tenant", "created_at"], name="adjustment_by_tenant"),
            models.Index(fields=["created_at"], name="adjustment_by_time"),
            models.Index(fields=["attempt"], name="adjustment_by_attempt"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["attempt"], condition=models.Q(kind="correction"), name="correction_once_per_attempt"
            ),
            models.CheckConstraint(condition=~models.Q(amount_nano_usd=0), name="adjustment_of_something"),
        ]

    def __str__(self) -> str:
        return f"{usd(self.amount_nano_usd)} USD: {self.reason}"
