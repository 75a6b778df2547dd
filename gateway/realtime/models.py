"""What is kept of voice sessions, and the secrets that open them."""

from __future__ import annotations

from django.db import models

from billing.models.ledger import hot_reference
from tenants.models import ApiKey, Tenant


class SessionReason(models.TextChoices):
    """Why a session ended."""

    CLIENT_CLOSE = "client_close", "The client closed it"
    CLIENT_LEFT = "client_left", "The client vanished"
    CLIENT_SLOW = "client_slow", "The client did not read"
    POLICY = "policy", "The client broke a rule"
    BUDGET_EXCEEDED = "budget_exceeded", "A budget ran out"
    KEY_REVOKED = "key_revoked", "The key or the model was taken away"
    EXPIRED = "expired", "It was as old as a session may get"
    IDLE = "idle", "Nobody spoke"
    PROVIDER_CLOSED = "provider_closed", "The provider closed it"
    DRAINING = "draining", "The process was stopped"
    GATEWAY_LOST = "gateway_lost", "The process died"
    ERROR = "error", "The gateway failed"


class RealtimeSession(models.Model):
    """One voice session. Its charges are in the ledger, under its id as their request id."""

    id = models.CharField(primary_key=True, max_length=64, editable=False)
    tenant = hot_reference(Tenant)
    api_key = hot_reference(ApiKey)
    user = models.CharField(max_length=256, blank=True)
    conversation = models.CharField(max_length=256, blank=True)
    requested_model = models.CharField(max_length=200)
    model_name = models.CharField(max_length=200)
    provider_name = models.CharField(max_length=100)
    process = models.UUIDField(help_text="The gateway process that relays it.")
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=16, choices=SessionReason.choices, blank=True)
    close_code = models.SmallIntegerField(null=True, help_text="As the client was told; empty where nobody told it.")
    usage = models.JSONField(default=dict, help_text="The summary, as the client got it.")
    cost_nano_usd = models.BigIntegerField(default=0)

    class Meta:
        verbose_name = "voice session"
        ordering = ["-opened_at", "-id"]
        indexes = [
            models.Index(fields=["tenant", "-opened_at", "-id"], name="voice_by_tenant"),
            models.Index(fields=["-opened_at", "-id"], name="voice_by_time"),
            models.Index(fields=["opened_at"], condition=models.Q(closed_at=None), name="voice_open"),
        ]

    def __str__(self) -> str:
        return self.id


class RealtimeClientSecret(models.Model):
    """A short-lived key for one tenant's app in a browser: it opens voice sessions of one model, and nothing else."""

    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    api_key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, related_name="+")
    user = models.CharField(max_length=256, blank=True)
    session = models.JSONField(help_text="What every session begins with.")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.tenant_id}: until {self.expires_at:%Y-%m-%d %H:%M:%S}"
