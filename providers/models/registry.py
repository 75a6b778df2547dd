"""The registry: who serves models, with which credentials, which models are approved, and for which tenants."""

from __future__ import annotations

import datetime as dt

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils.timezone import now

from providers import registry
from providers.base_urls import check_base_url
from providers.types import OnDisconnect
from tenants.models import Operator, Tenant, validate_name

validate_model_name = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}$",
    "Use 1 to 200 letters, digits or . _ : / @ + -, starting with a letter or digit.",
)


def _timeout(help_text: str) -> models.PositiveSmallIntegerField[int | None, int | None]:
    return models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(3600)], help_text=help_text
    )


class Timeouts(models.Model):
    """How long to wait, in seconds, where that is not the default of docs/reference/timeouts.md."""

    connect_timeout_seconds = _timeout("To reach it. Empty: the default.")
    first_token_timeout_seconds = _timeout("Until its answer begins. Empty: the default.")
    idle_timeout_seconds = _timeout("Between two pieces of an answer. Empty: the default.")
    total_timeout_seconds = _timeout("For a whole answer. Empty: the default.")

    class Meta:
        abstract = True


class Provider(Timeouts):
    """A vendor or server that answers calls."""

    name = models.CharField(max_length=100, unique=True, validators=[validate_name])
    kind = models.CharField(
        max_length=32, choices=registry.kind_choices, help_text="The protocol this provider speaks."
    )
    base_url = models.CharField(max_length=500, help_text="Where its API begins, such as https://api.openai.com/v1.")
    allow_private_network = models.BooleanField(
        default=False, help_text="Permit a private or loopback address, and plain http. Leave off for public vendors."
    )
    on_disconnect = models.CharField(
        "when a client leaves",
        max_length=8,
        blank=True,
        choices=[
            (OnDisconnect.ABORT.value, "Abort: its bill stops when the connection is closed"),
            (OnDisconnect.DRAIN.value, "Drain: it bills the whole answer, so read it to the end"),
        ],
        help_text="Empty: as its kind does.",
    )
    enabled = models.BooleanField(default=True, help_text="Off: no call is routed to it.")
    created_at = models.DateTimeField(default=now, editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.kind not in registry.ADAPTERS:
            return  # the field says so itself
        fixed_url = registry.adapter_for(self.kind).fixed_base_url
        if fixed_url is not None:
            self.base_url = fixed_url
            return
        problem = check_base_url(self.base_url, allow_private_network=self.allow_private_network)
        if problem:
            raise ValidationError({"base_url": problem})


class Credential(models.Model):
    """A provider's API key, encrypted; only its last four characters are ever shown."""

    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="credentials")
    name = models.CharField(max_length=100, default="default", validators=[validate_name])
    ciphertext = models.TextField(editable=False)
    last_four = models.CharField(max_length=4, editable=False)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=now, editable=False)
    changed_at = models.DateTimeField(default=now, editable=False)

    class Meta:
        ordering = ["provider__name", "name"]
        constraints = [models.UniqueConstraint(fields=["provider", "name"], name="credential_name_per_provider")]

    def __str__(self) -> str:
        return f"{self.provider.name}/{self.name}"


class Capability(models.TextChoices):
    """What a model can do; a request that needs another is refused before anything is spent."""

    CHAT = "chat", "Chat"
    STREAM = "stream", "Streaming"
    TOOLS = "tools", "Tools"
    JSON_SCHEMA = "json_schema", "JSON schema"
    VISION = "vision", "Images in"
    AUDIO = "audio", "Audio in"
    VIDEO = "video", "Video in"
    DOCUMENTS = "documents", "Documents in"
    REASONING = "reasoning", "Reasoning"
    EMBEDDINGS = "embeddings", "Embeddings"
    IMAGE_GENERATION = "image_generation", "Image generation"
    IMAGE_EDIT = "image_edit", "Image editing"
    SPEECH = "speech", "Text to speech"
    TRANSCRIPTION = "transcription", "Speech to text"
    VIDEO_GENERATION = "video_generation", "Video generation"
    REALTIME = "realtime", "Realtime voice"


class Lifecycle(models.TextChoices):
    """Where a model stands; only approved and deprecated models serve calls."""

    PROPOSED = "proposed", "Proposed"
    APPROVED = "approved", "Approved"
    DEPRECATED = "deprecated", "Deprecated"
    RETIRED = "retired", "Retired"


class Model(models.Model):
    """A model as clients ask for it, governed by a lifecycle."""

    name = models.CharField(max_length=200, unique=True, validators=[validate_model_name])
    capabilities = ArrayField(models.CharField(max_length=32, choices=Capability.choices), default=list)
    context_window = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Tokens in and out together."
    )
    max_output_tokens = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    lifecycle = models.CharField(max_length=16, choices=Lifecycle.choices, default=Lifecycle.PROPOSED, editable=False)
    successor = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, help_text="What to use when this one is retired."
    )
    retires_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="When a deprecated model retires by itself, in UTC."
    )
    created_at = models.DateTimeField(default=now, editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if ModelGroup.objects.filter(name=self.name).exists():
            raise ValidationError({"name": "A model group has this name; clients could not tell them apart."})


class LifecycleChange(models.Model):
    """Who moved a model to which state, when and why. Rows are only ever added."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="lifecycle_changes")
    from_state = models.CharField(max_length=16, choices=Lifecycle.choices, blank=True)
    to_state = models.CharField(max_length=16, choices=Lifecycle.choices)
    changed_by = models.ForeignKey(Operator, on_delete=models.SET_NULL, null=True, related_name="+")
    changed_at = models.DateTimeField(default=now)
    reason = models.CharField(max_length=500, blank=True)
    evidence = models.JSONField(default=list, blank=True, help_text="What was there when it was approved, in words.")

    class Meta:
        ordering = ["-changed_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.model.name}: {self.from_state or 'new'} → {self.to_state}"


class Deployment(Timeouts):
    """One model at one provider with one credential. Its timeouts come before the provider's."""

    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="deployments")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="deployments")
    credential = models.ForeignKey(
        Credential,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="deployments",
        help_text="Empty: the provider's first enabled credential, if it has one.",
    )
    upstream_model = models.CharField(max_length=200, help_text="What the provider calls this model.")
    priority = models.PositiveSmallIntegerField(default=1, help_text="Lower is tried first.")
    weight = models.PositiveSmallIntegerField(default=1, validators=[MinValueValidator(1)])
    enabled = models.BooleanField(default=True)
    drained_at = models.DateTimeField(
        null=True, editable=False, help_text="Since when it gets no new calls; those under way go on."
    )
    drained_until = models.DateTimeField(null=True, editable=False, help_text="Empty: until it is resumed.")
    drain_reason = models.CharField(max_length=500, blank=True, default="", db_default="", editable=False)

    class Meta:
        ordering = ["model__name", "priority", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "provider", "upstream_model", "credential"],
                name="deployment_once",
                nulls_distinct=False,
            )
        ]

    def __str__(self) -> str:
        return f"{self.model.name} at {self.provider.name}"

    def is_drained(self, moment: dt.datetime) -> bool:
        """Whether an operator keeps new calls from it at a moment."""
        return self.drained_at is not None and (self.drained_until is None or moment < self.drained_until)

    def clean(self) -> None:
        if self.credential is not None and self.credential.provider_id != self.provider_id:
            raise ValidationError({"credential": "This credential belongs to another provider."})


class Strategy(models.TextChoices):
    """In which order the deployments of a group's members are tried."""

    PRIORITY = "priority", "Priority: in the order listed"
    WEIGHTED = "weighted", "Weighted: at random, by the deployments' weights"
    LOWEST_COST = "lowest_cost", "Lowest cost: what this request costs least at"
    LOWEST_LATENCY = "lowest_latency", "Lowest latency: where answers begin soonest"
    LEAST_BUSY = "least_busy", "Least busy: with the fewest calls under way for its weight"


class ModelGroup(models.Model):
    """A name clients may ask for that stands for several models."""

    name = models.CharField(max_length=200, unique=True, validators=[validate_model_name])
    strategy = models.CharField(max_length=32, choices=Strategy.choices, default=Strategy.PRIORITY)
    created_at = models.DateTimeField(default=now, editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if Model.objects.filter(name=self.name).exists():
            raise ValidationError({"name": "A model has this name; clients could not tell them apart."})


class GroupMember(models.Model):
    """A model's place in a group."""

    group = models.ForeignKey(ModelGroup, on_delete=models.CASCADE, related_name="members")
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="memberships")
    position = models.PositiveSmallIntegerField(default=1, help_text="Lower is tried first.")

    class Meta:
        ordering = ["group__name", "position", "pk"]
        constraints = [models.UniqueConstraint(fields=["group", "model"], name="group_member_once")]

    def __str__(self) -> str:
        return f"{self.group.name}: {self.model.name}"


class AgentType(models.Model):
    """Which model or group answers `model: "auto"` for calls that carry this `X-Agent-Type`."""

    name = models.CharField(max_length=100, unique=True, validators=[validate_name])
    target = models.CharField(max_length=200, help_text="The name of a model or a model group.")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return f"{self.name} → {self.target}"

    def clean(self) -> None:
        named = Model.objects.filter(name=self.target).exists() or ModelGroup.objects.filter(name=self.target).exists()
        if not named:
            raise ValidationError({"target": f"There is no model or group called {self.target!r}."})


class ApprovalState(models.TextChoices):
    """A tenant's standing towards a model or group."""

    REQUESTED = "requested", "Requested"
    APPROVED = "approved", "Approved"
    REJECTED = "rejected", "Rejected"
    SUSPENDED = "suspended", "Suspended"


class TenantApproval(models.Model):
    """Whether a tenant may use a model or a group, decided by whom and when."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="approvals")
    model = models.ForeignKey(Model, on_delete=models.CASCADE, null=True, blank=True, related_name="approvals")
    group = models.ForeignKey(ModelGroup, on_delete=models.CASCADE, null=True, blank=True, related_name="approvals")
    state = models.CharField(
        max_length=16, choices=ApprovalState.choices, default=ApprovalState.REQUESTED, editable=False
    )
    requested_at = models.DateTimeField(default=now, editable=False)
    decided_by = models.ForeignKey(
        Operator, on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )
    decided_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["tenant__name", "model__name", "group__name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(model__isnull=False, group__isnull=True) | Q(model__isnull=True, group__isnull=False),
                name="approval_of_a_model_or_a_group",
                violation_error_message="Choose either a model or a group.",
            ),
            models.UniqueConstraint(
                fields=["tenant", "model", "group"], name="approval_once_per_tenant", nulls_distinct=False
            ),
        ]

    def __str__(self) -> str:
        return f"{self.tenant.name}: {self.target_name} {self.state}"

    @property
    def target_name(self) -> str:
        """The model's or group's name."""
        target = self.model or self.group
        return target.name if target else ""
