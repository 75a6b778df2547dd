"""Sums that a task keeps behind the ledger: what `UsageDay` has not, because no call should wait for it."""

from __future__ import annotations

from django.db import models

from billing.models.ledger import hot_reference
from tenants.models import ApiKey, Project, Tenant

UNMAPPED = "*"
"""Stands for every agent type that no operator has mapped: clients may send any, and buckets must stay few."""


class Measures(models.Model):
    """What is added up."""

    calls = models.BigIntegerField(help_text="Charges, those answered from the cache too.")
    failed_calls = models.BigIntegerField(help_text="Of these, those that failed after they had begun.")
    voided_calls = models.BigIntegerField(help_text="Calls to a provider that failed and were not charged.")
    cache_hits = models.BigIntegerField(help_text="Answered from the cache.")
    unknown_cost_calls = models.BigIntegerField(help_text="Of a model without a price, or of unknown usage.")
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cache_read_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    reasoning_tokens = models.BigIntegerField()
    known_nano_usd = models.BigIntegerField(help_text="Charged by the provider's own final figures, and adjustments.")
    estimated_nano_usd = models.BigIntegerField(help_text="Charged by partial figures, a count or a bound.")
    # Calls by latency, bounds as in `billing.analytics.latency`: columns are added up twice as fast as an array.
    under_100_ms = models.IntegerField()
    under_200_ms = models.IntegerField()
    under_300_ms = models.IntegerField()
    under_500_ms = models.IntegerField()
    under_750_ms = models.IntegerField()
    under_1000_ms = models.IntegerField()
    under_1500_ms = models.IntegerField()
    under_2000_ms = models.IntegerField()
    under_3000_ms = models.IntegerField()
    under_5000_ms = models.IntegerField()
    under_7500_ms = models.IntegerField()
    under_10000_ms = models.IntegerField()
    under_15000_ms = models.IntegerField()
    under_20000_ms = models.IntegerField()
    under_30000_ms = models.IntegerField()
    under_45000_ms = models.IntegerField()
    under_60000_ms = models.IntegerField()
    under_120000_ms = models.IntegerField()
    slower = models.IntegerField()

    class Meta:
        abstract = True


class _Cube(Measures):
    starts_at = models.DateTimeField()
    tenant = hot_reference(Tenant)
    project = hot_reference(Project, null=True)
    api_key = hot_reference(ApiKey, null=True)
    model_name = models.CharField(max_length=200, blank=True)
    provider_name = models.CharField(max_length=100, blank=True)
    agent_type = models.CharField(max_length=256, blank=True)

    KEY = ("tenant", "starts_at", "project", "api_key", "model_name", "provider_name", "agent_type")

    class Meta:
        abstract = True


class AnalyticsHour(_Cube):
    """An hour of UTC, or a quarter of one for tenants whose days do not begin on the hour."""

    class Meta:
        indexes = [models.Index(fields=["starts_at"], name="analytics_hour_by_time")]
        constraints = [models.UniqueConstraint(fields=_Cube.KEY, nulls_distinct=False, name="analytics_hour_once")]


class AnalyticsDay(_Cube):
    """A day of UTC."""

    class Meta:
        indexes = [models.Index(fields=["starts_at"], name="analytics_day_by_time")]
        constraints = [models.UniqueConstraint(fields=_Cube.KEY, nulls_distinct=False, name="analytics_day_once")]


class AnalyticsUserDay(Measures):
    """An end user's day of UTC. By the hour, or by model too, these were as many as the charges."""

    starts_at = models.DateTimeField()
    tenant = hot_reference(Tenant)
    user = models.CharField(max_length=256, blank=True)

    class Meta:
        indexes = [models.Index(fields=["starts_at"], name="analytics_user_by_time")]
        constraints = [models.UniqueConstraint(fields=["tenant", "starts_at", "user"], name="analytics_user_once")]


class AnalyticsProgress(models.Model):
    """How far the sums are: everything posted before `through` is in them, once. One row."""

    through = models.DateTimeField()
    first_at = models.DateTimeField(help_text="Where they begin.")
