"""What is kept of jobs."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from billing.models.ledger import hot_reference
from tenants.models import ApiKey, Tenant


class JobStatus(models.TextChoices):
    """Where a job is. The last four are final."""

    QUEUED = "queued", "Queued"
    IN_PROGRESS = "in_progress", "In progress"
    CANCELLING = "cancelling", "Being cancelled"
    COMPLETED = "completed", "Completed"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"
    EXPIRED = "expired", "Expired"


ACTIVE = (JobStatus.QUEUED, JobStatus.IN_PROGRESS, JobStatus.CANCELLING)
FINAL = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED)


class CancelOutcome(models.TextChoices):
    """What the provider made of being told to stop."""

    CONFIRMED = "confirmed", "The provider has stopped"
    UNSUPPORTED = "unsupported", "The provider cannot be told"
    FAILED = "failed", "The provider goes on"


class Job(models.Model):
    """One call that nobody waits for. Its charges are in the ledger, under its id as their request id."""

    id = models.CharField(primary_key=True, max_length=64, editable=False)
    tenant = hot_reference(Tenant)
    api_key = hot_reference(ApiKey)
    request_id = models.CharField(max_length=128, help_text="Of the request that asked for it.")
    operation = models.CharField(max_length=32)
    endpoint = models.CharField(max_length=200, help_text="The path that it was asked for at.")
    requested_model = models.CharField(max_length=200)
    model_name = models.CharField(max_length=200, blank=True)
    provider_name = models.CharField(max_length=100, blank=True)
    is_native = models.BooleanField(default=False, help_text="Whether the provider works on it by itself.")
    status = models.CharField(max_length=16, choices=JobStatus.choices, default=JobStatus.QUEUED)
    progress = models.SmallIntegerField(null=True, help_text="Percent, as far as the provider says.")
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(help_text="From then on its request and result are gone.")
    next_at = models.DateTimeField(help_text="When somebody is to see to it.")
    process = models.UUIDField(null=True, help_text="The process that has it in hand.")
    turn = models.IntegerField(default=0, help_text="Counts who had it in hand: only the last may write.")
    runs = models.SmallIntegerField(default=0, help_text="How often its call was begun.")
    events = models.IntegerField(default=0, help_text="How many there are.")
    request = models.TextField(blank=True, help_text="Sealed; kept while it may be needed.")
    result = models.TextField(blank=True, help_text="Sealed.")
    result_type = models.CharField(max_length=100, blank=True)
    result_file = models.CharField(max_length=64, blank=True, help_text="What was made, or a result too long to seal.")
    error = models.JSONField(null=True)
    parameters = models.JSONField(default=dict, help_text="What a typed view tells of the request.")
    usage = models.JSONField(null=True)
    cost_nano_usd = models.BigIntegerField(null=True)
    notes = models.JSONField(default=list, help_text="The attempts, as the request log has them.")
    cancel_requested_at = models.DateTimeField(null=True)
    cancel_upstream = models.CharField(max_length=16, choices=CancelOutcome.choices, blank=True)
    upstream_id = models.CharField(max_length=512, blank=True, help_text="The provider's own id.")
    deployment = models.BigIntegerField(null=True)
    attempt = models.UUIDField(null=True, help_text="In the ledger; open until the provider is done.")
    settlement = models.JSONField(null=True, help_text="The charge as it stands when the provider has it.")
    polls = models.IntegerField(default=0)
    misses = models.SmallIntegerField(default=0, help_text="Polls that failed one after the other.")
    retry_of = models.CharField(max_length=64, blank=True)
    deleted_at = models.DateTimeField(null=True)

    audit_hidden = ("request", "result", "settlement")

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["tenant", "-created_at", "-id"], name="job_by_tenant"),
            models.Index(fields=["-created_at", "-id"], name="job_by_time"),
            models.Index(fields=["next_at"], condition=Q(status__in=ACTIVE), name="job_due"),
            models.Index(fields=["process"], condition=Q(process__isnull=False), name="job_in_hand"),
            models.Index(fields=["expires_at"], condition=~Q(request="", result=""), name="job_expiry"),
        ]

    def __str__(self) -> str:
        return self.id

    @property
    def is_over(self) -> bool:
        """Whether its state is final."""
        return self.status in FINAL


class JobEvent(models.Model):
    """One change of a job, in order: what `/v1/jobs/{id}/events` tells, and an operator reads as its timeline."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="timeline")
    number = models.IntegerField()
    at = models.DateTimeField()
    status = models.CharField(max_length=16, choices=JobStatus.choices)
    message = models.CharField(max_length=500, blank=True)
    progress = models.SmallIntegerField(null=True)

    class Meta:
        ordering = ["job", "number"]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="job_event_once")]

    def __str__(self) -> str:
        return f"{self.job_id}: {self.status}"
