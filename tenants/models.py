"""Who may call: operators who run the platform, and tenants with their projects and API keys."""

from __future__ import annotations

import ipaddress
import zoneinfo

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.utils.timezone import now

validate_name = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
    "Use 1 to 100 letters, digits, dots, dashes or underscores, starting with a letter or digit.",
)
validate_currency = RegexValidator(r"^[A-Z]{3}$", "Use an ISO 4217 code of three capital letters, such as USD.")


def validate_timezone(value: str) -> None:
    if value not in zoneinfo.available_timezones():
        raise ValidationError(f"{value!r} is not an IANA time zone; an example is Europe/Berlin.")


def validate_network(value: str) -> None:
    try:
        ipaddress.ip_network(value)
    except ValueError as error:
        raise ValidationError(f"{value!r} is not an address or a CIDR network: {error}") from error


class Role(models.TextChoices):
    """What an operator may do; the rules are in `tenants.roles`."""

    VIEWER = "viewer", "Viewer: sees everything, changes nothing"
    OPERATOR = "operator", "Operator: approves, sets and suspends"
    OWNER = "owner", "Owner: everything, including operators and credentials"


class Operator(AbstractUser):
    """A person who logs in to the admin."""

    role = models.CharField(max_length=16, choices=Role.choices, default=Role.VIEWER)

    class Meta(AbstractUser.Meta):
        verbose_name = "operator"
        verbose_name_plural = "operators"


class TenantStatus(models.TextChoices):
    ACTIVE = "active", "Active"
    SUSPENDED = "suspended", "Suspended"


class Tenant(models.Model):
    """An organisation or team whose calls are kept apart, limited and billed."""

    name = models.CharField(max_length=100, unique=True, validators=[validate_name])
    status = models.CharField(max_length=16, choices=TenantStatus.choices, default=TenantStatus.ACTIVE)
    timezone = models.CharField(
        max_length=64,
        default="UTC",
        validators=[validate_timezone],
        help_text="Days, months and statements of this tenant begin in this IANA time zone.",
    )
    currency = models.CharField(
        max_length=3,
        default="USD",
        validators=[validate_currency],
        help_text="Shown on statements; prices and charges are kept in USD.",
    )
    created_at = models.DateTimeField(default=now, editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Project(models.Model):
    """A part of a tenant that usage is attributed to."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="projects")
    name = models.CharField(max_length=100, validators=[validate_name])
    created_at = models.DateTimeField(default=now, editable=False)

    class Meta:
        ordering = ["tenant__name", "name"]
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="project_name_per_tenant")]

    def __str__(self) -> str:
        return f"{self.tenant.name}/{self.name}"


class Scope(models.TextChoices):
    """What a key may call."""

    CHAT = "chat", "Chat completions"
    EMBEDDINGS = "embeddings", "Embeddings"
    MODELS = "models", "Model list"


class ApiKey(models.Model):
    """A bearer key. Only an HMAC of it is stored; the key itself is shown once, when it is made."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="keys")
    project = models.ForeignKey(Project, on_delete=models.PROTECT, null=True, blank=True, related_name="keys")
    user = models.CharField(
        max_length=128, blank=True, help_text="Calls are attributed to this end user unless the call names one."
    )
    name = models.CharField(max_length=100, validators=[validate_name])
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    hint = models.CharField(max_length=24, editable=False, help_text="The beginning of the key, to recognise it by.")
    scopes = ArrayField(
        models.CharField(max_length=32, choices=Scope.choices),
        default=list,
        blank=True,
        help_text="What the key may call. Empty: everything its tenant may.",
    )
    ip_allow_list = ArrayField(
        models.CharField(max_length=64, validators=[validate_network]),
        default=list,
        blank=True,
        help_text="Addresses or CIDR networks the key may be used from. Empty: anywhere.",
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=now, editable=False)
    created_by = models.ForeignKey(
        Operator, on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )

    class Meta:
        verbose_name = "API key"
        ordering = ["tenant__name", "name"]
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="api_key_name_per_tenant")]

    def __str__(self) -> str:
        return f"{self.tenant.name}/{self.name}"

    def clean(self) -> None:
        if self.project is not None and self.project.tenant_id != self.tenant_id:
            raise ValidationError({"project": "This project belongs to another tenant."})


class ConfigRevision(models.Model):
    """One row a topic; a trigger changes it when configuration commits, and processes that see another value reload."""

    topic = models.CharField(max_length=16, primary_key=True)
    value = models.BigIntegerField(default=0)

    class Meta:
        verbose_name = "configuration revision"
