"""Sums of the ledger, kept with every entry, so that whoever looks at much usage reads buckets and not rows."""

from __future__ import annotations

from django.db import models

from billing.models.ledger import hot_reference
from tenants.models import ApiKey, Project, Tenant


class Figures(models.Model):
    """What is added up."""

    calls = models.BigIntegerField()
    unpriced_calls = models.BigIntegerField(help_text="Calls of models that had no price.")
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cache_read_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    reasoning_tokens = models.BigIntegerField()
    cost_nano_usd = models.BigIntegerField(help_text="Charges, adjustments and corrections.")

    class Meta:
        abstract = True


class Entry(Figures):
    """Everything the ledger has posted, a charge or an adjustment, in the shape of a bucket. A view, to read only."""

    id = models.UUIDField(primary_key=True)
    starts_at = models.DateTimeField(help_text="When it was posted.")
    tenant = hot_reference(Tenant)
    project = hot_reference(Project, null=True)
    api_key = hot_reference(ApiKey, null=True)
    user = models.CharField(max_length=256, blank=True)
    model_name = models.CharField(max_length=200, blank=True)
    provider_name = models.CharField(max_length=100, blank=True)
    ending = models.CharField(max_length=16, blank=True, help_text="Empty for an adjustment.")

    class Meta:
        managed = False
        db_table = "billing_entry"


class _Bucket(Figures):
    """The sums of one stretch of time, which begins at a whole hour or day in UTC."""

    starts_at = models.DateTimeField()
    tenant = hot_reference(Tenant)
    project = hot_reference(Project, null=True)
    api_key = hot_reference(ApiKey, null=True)
    model_name = models.CharField(max_length=200, blank=True)
    provider_name = models.CharField(max_length=100, blank=True)
    ending = models.CharField(max_length=16, blank=True, help_text="Empty for adjustments.")

    KEY = ("tenant", "starts_at", "project", "api_key", "model_name", "provider_name", "ending")

    class Meta:
        abstract = True


class UsageHour(_Bucket):
    """An hour's sums."""

    class Meta:
        indexes = [models.Index(fields=["starts_at"], name="usage_hour_by_time")]
        constraints = [models.UniqueConstraint(fields=_Bucket.KEY, nulls_distinct=False, name="usage_hour_once")]


class UsageDay(_Bucket):
    """A day's sums: what a month is added up from."""

    class Meta:
        indexes = [models.Index(fields=["starts_at"], name="usage_day_by_time")]
        constraints = [models.UniqueConstraint(fields=_Bucket.KEY, nulls_distinct=False, name="usage_day_once")]


class UserDay(Figures):
    """A day's sums of an end user. Users are many: by the hour, or by model too, these were as many as the charges."""

    starts_at = models.DateTimeField()
    tenant = hot_reference(Tenant)
    user = models.CharField(max_length=256, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "starts_at", "user"], name="user_day_once")]
