"""What was found out about providers by asking them: whether they answer, and which models they list."""

from __future__ import annotations

from django.db import models
from django.utils.timezone import now

from providers.models.registry import Credential, Deployment, Provider
from tenants.models import Operator

LAST_ERROR_LENGTH = 500


class ProbeStatus(models.TextChoices):
    """What the last probe says."""

    OK = "ok", "OK"
    FAILING = "failing", "Failing"
    UNKNOWN = "unknown", "Unknown"


class ProviderHealth(models.Model):
    """How a provider answered the last probe with one of its credentials. Changed in place, gone with what it is about.

    A probe only informs people: calls are routed by how calls go.
    """

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="health")
    credential = models.ForeignKey(
        Credential, on_delete=models.CASCADE, null=True, related_name="health", help_text="Empty: asked without one."
    )
    status = models.CharField(max_length=8, choices=ProbeStatus.choices, default=ProbeStatus.UNKNOWN)
    checked_at = models.DateTimeField(default=now)
    latency_ms = models.PositiveIntegerField(null=True, help_text="Until the head of its answer; empty: none came.")
    average_latency_ms = models.PositiveIntegerField(null=True, help_text="Moving average of the last ten or so.")
    last_error = models.CharField(max_length=LAST_ERROR_LENGTH, blank=True)
    last_error_at = models.DateTimeField(null=True)
    failures_in_a_row = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["provider__name", "credential__name"]
        verbose_name_plural = "health"
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "credential"], name="provider_health_once", nulls_distinct=False
            )
        ]

    def __str__(self) -> str:
        return f"{self.credential or self.provider}: {self.status}"


class ModelCheck(models.Model):
    """What a provider answered when it was asked for a deployment's model. Rows are only ever added."""

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="checks")
    status = models.CharField(max_length=8, choices=ProbeStatus.choices)
    words = models.CharField(max_length=LAST_ERROR_LENGTH)
    checked_at = models.DateTimeField(default=now)
    checked_by = models.ForeignKey(Operator, on_delete=models.SET_NULL, null=True, related_name="+")

    class Meta:
        ordering = ["-checked_at", "-pk"]
        indexes = [models.Index(fields=["deployment", "-checked_at"], name="model_check_newest")]

    def __str__(self) -> str:
        return f"{self.deployment}: {self.status}"


class OfferState(models.TextChoices):
    """Where a model that a provider lists stands here."""

    NEW = "new", "New"
    KNOWN = "known", "Known"
    IGNORED = "ignored", "Ignored"
    GONE = "gone", "Gone"


class OfferedModel(models.Model):
    """A model that a provider lists, or once listed. Nothing follows from it until an operator says so."""

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="offered_models")
    upstream_model = models.CharField(max_length=200, help_text="What the provider calls it.")
    display_name = models.CharField(max_length=200, blank=True)
    context_window = models.PositiveIntegerField(null=True, blank=True)
    max_output_tokens = models.PositiveIntegerField(null=True, blank=True)
    state = models.CharField(max_length=8, choices=OfferState.choices, default=OfferState.NEW)
    first_seen_at = models.DateTimeField(default=now)
    last_seen_at = models.DateTimeField(default=now)

    class Meta:
        ordering = ["provider__name", "upstream_model"]
        verbose_name = "listed model"
        constraints = [models.UniqueConstraint(fields=["provider", "upstream_model"], name="offered_model_once")]

    def __str__(self) -> str:
        return f"{self.upstream_model} at {self.provider.name}"
