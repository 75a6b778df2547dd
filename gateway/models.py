"""What the gateway itself keeps in the database."""

from __future__ import annotations

from django.db import models
from django.utils.timezone import now

from billing.models.ledger import hot_reference
from gateway.caching.models import CacheDay, CacheRule
from gateway.desk.models import SavedView
from gateway.desk.request_hours import RequestHour
from gateway.hooks.models import HookBinding
from gateway.jobs.models import Job, JobEvent, JobStatus
from gateway.media.models import MediaKind, MediaObject, MediaSource, TenantStorage
from gateway.realtime.models import RealtimeClientSecret, RealtimeSession
from gateway.schemas.models import SchemaType, TypeState
from tenants.models import ApiKey, Tenant

__all__ = [
    "CacheDay",
    "CacheRule",
    "CallState",
    "HookBinding",
    "IdempotentCall",
    "Job",
    "JobEvent",
    "JobStatus",
    "MediaKind",
    "MediaObject",
    "MediaSource",
    "RealtimeClientSecret",
    "RealtimeSession",
    "RequestHour",
    "RequestRecord",
    "SavedView",
    "SchemaType",
    "TenantStorage",
    "TypeState",
]


class CallState(models.TextChoices):
    """What became of a call with an idempotency key."""

    RUNNING = "running", "Running"
    ANSWERED = "answered", "Answered"
    TOO_LARGE = "too_large", "Answered, too large to keep"
    BROKEN_OFF = "broken_off", "Broken off after it had cost something"


class IdempotentCall(models.Model):
    """A call with an `Idempotency-Key`: who makes it, and what is answered to whoever repeats it."""

    id = models.UUIDField(primary_key=True, editable=False, help_text="Another one when another process takes it over.")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    api_key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, related_name="+")
    key_digest = models.CharField(max_length=64, help_text="HMAC of the client's key.")
    request_digest = models.CharField(max_length=64, help_text="HMAC of method, path and body.")
    process = models.UUIDField(help_text="The process that makes the call.")
    request_id = models.CharField(max_length=128)
    started_at = models.DateTimeField(help_text="By its process's clock, as its attempts are.")
    created_at = models.DateTimeField(db_index=True, help_text="By the database's clock. It counts for 24 hours.")
    state = models.CharField(max_length=16, choices=CallState.choices)
    status = models.IntegerField(null=True)
    headers = models.JSONField(default=dict)
    body = models.TextField(blank=True, help_text="Sealed: an answer is the tenant's own.")
    cost_nano_usd = models.BigIntegerField(null=True, help_text="Null for a model without a price.")

    class Meta:
        ordering = ["-created_at"]
        constraints = [models.UniqueConstraint(fields=["api_key", "key_digest"], name="idempotent_call_once")]

    def __str__(self) -> str:
        return self.request_id


class RequestRecord(models.Model):
    """Why a call went where it went: what was considered, skipped and tried. One row for each call of a tenant's.

    Written in batches by `gateway.request_log`, without foreign keys in the database, and deleted after some weeks.
    What a call cost is in the ledger. There is no text of a call here.
    """

    tenant = hot_reference(Tenant)
    request_id = models.CharField(max_length=128)
    created_at = models.DateTimeField(help_text="When the client asked, by the gateway's clock.")
    api_key = hot_reference(ApiKey)
    operation = models.CharField(max_length=32)
    requested_model = models.CharField(max_length=200, blank=True)
    status = models.SmallIntegerField(help_text="As the client was told; 499 where it left before it was told any.")
    error_code = models.CharField(max_length=64, blank=True)
    stream = models.BooleanField()
    latency_ms = models.IntegerField(help_text="From the request's arrival to the end of its answer.")
    first_content_ms = models.IntegerField(null=True, help_text="From its arrival to a stream's first content.")
    upstream_ms = models.IntegerField(help_text="Of that, waiting for providers.")
    replay_of = models.CharField(max_length=128, blank=True, help_text="The request whose answer was given again.")
    model_name = models.CharField(
        max_length=200, blank=True, db_default="", help_text="The model asked last; where none was, the one asked for."
    )
    provider_name = models.CharField(
        max_length=100, blank=True, db_default="", help_text="The provider asked last; empty where none was."
    )
    fallback = models.BooleanField(default=False, db_default=False, help_text="More than one deployment was asked.")
    cache = models.CharField(
        max_length=8, blank=True, db_default="", help_text="hit, miss or skip where a cache rule is about the call."
    )
    decision = models.JSONField(
        default=dict, db_default={}, help_text="What the choice rested on: `gateway.context.Decision`. Sizes and names."
    )
    skipped = models.JSONField(help_text="Pairs: what was considered and not asked, and why.")
    attempts = models.JSONField(help_text="What was tried, in order; each has its id in the ledger.")
    hooks = models.JSONField(default=list, db_default=[], help_text="What hooks said, and which fields they changed.")

    class Meta:
        verbose_name = "request"
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["request_id", "tenant", "-created_at"], name="request_by_id"),
            models.Index(fields=["tenant", "-created_at", "-id"], name="request_by_tenant"),
            models.Index(fields=["-created_at", "-id"], name="request_by_time"),
            models.Index(
                fields=["-created_at", "-id"], condition=~models.Q(error_code=""), name="request_failed_by_time"
            ),
            models.Index(
                fields=["tenant", "-created_at", "-id"],
                condition=~models.Q(error_code=""),
                name="request_failed_by_tenant",
            ),
            models.Index(fields=["api_key", "-created_at", "-id"], name="request_by_key"),
            models.Index(fields=["model_name", "-created_at", "-id"], name="request_by_model"),
            models.Index(fields=["provider_name", "-created_at", "-id"], name="request_by_provider"),
            models.Index(
                fields=["-created_at", "-id"], condition=models.Q(fallback=True), name="request_fallback_by_time"
            ),
            models.Index(fields=["-created_at", "-id"], condition=models.Q(cache="hit"), name="request_cached_by_time"),
        ]

    def __str__(self) -> str:
        return self.request_id


class KeptText(models.Model):
    """What a client sent and got, of a tenant that keeps it: sealed, for its days.

    `gateway.audit.kept_texts` writes and reads it.
    """

    tenant = hot_reference(Tenant)
    request_id = models.CharField(max_length=128)
    created_at = models.DateTimeField(help_text="When the client asked.")
    expires_at = models.DateTimeField(db_index=True)
    request = models.TextField(help_text="Sealed, bound to the tenant and the request.")
    answer = models.TextField(help_text="Sealed likewise.")

    class Meta:
        verbose_name = "kept text"
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["tenant", "request_id"], name="kept_text_by_request")]

    def __str__(self) -> str:
        return self.request_id


class SinkCursor(models.Model):
    """How far one of the audit sinks has a chain."""

    sink = models.CharField(max_length=32)
    chain = models.BigIntegerField(help_text="The tenant's id; 0 for the platform.")
    sequence = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["sink", "chain"], name="sink_cursor_once")]

    def __str__(self) -> str:
        return f"{self.sink}: {self.chain} at {self.sequence}"


class AuditCheck(models.Model):
    """One run of `verify_audit`: whether every chain held, and where the broken ones break."""

    at = models.DateTimeField(default=now)
    ok = models.BooleanField()
    events = models.BigIntegerField(help_text="How many were read.")
    breaks = models.JSONField(default=list, help_text="Of each broken chain its first bad event, and what is wrong.")

    class Meta:
        ordering = ["-at", "-pk"]
        indexes = [models.Index(fields=["-at", "-id"], name="audit_check_newest")]

    def __str__(self) -> str:
        return f"{'Whole' if self.ok else 'BROKEN'} at {self.at:%Y-%m-%d %H:%M}"
