"""Who may call: operators who run the platform, and tenants with their projects, API keys and rate limits."""

from __future__ import annotations

import ipaddress
import zoneinfo

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
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

    MEMBER = "member", "Member: sees the tenants they belong to, rotates their keys"
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


MOST_EMAILS = 20
MOST_TEXT_DAYS = 366


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
    notify_emails = ArrayField(
        models.EmailField(),
        default=list,
        blank=True,
        size=MOST_EMAILS,
        help_text="Who is told of budget alerts and statements, separated by commas.",
    )
    keep_text_days = models.PositiveSmallIntegerField(
        "keep prompts and answers",
        default=0,
        validators=[MaxValueValidator(MOST_TEXT_DAYS)],
        help_text="For so many days, encrypted, for owners to read. 0: no text of a call is ever stored.",
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
    FILES = "files", "Files"
    MODELS = "models", "Model list"
    USAGE = "usage", "Usage and budgets"


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
    previous_digest = models.BinaryField(max_length=32, null=True, unique=True, editable=False)
    previous_hint = models.CharField(max_length=24, blank=True, editable=False)
    previous_until = models.DateTimeField(null=True, editable=False)
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


class LimitScope(models.TextChoices):
    """Whose calls a rate limit counts together."""

    TENANT = "tenant", "The whole tenant"
    PROJECT = "project", "A project"
    USER = "user", "An end user"
    KEY = "key", "An API key"


LIMIT_FIELDS = ("requests_per_minute", "requests_per_day", "tokens_per_minute", "tokens_per_day", "concurrency")
HIGHEST_LIMIT = 10_000_000
"""Requests in a minute or a day, or calls at once: more was typed by mistake."""

HIGHEST_TOKEN_LIMIT = 10_000_000_000
"""Tokens in a minute or a day: the largest tenants of the large providers have a few hundred million a minute."""


def _limit(help_text: str) -> models.PositiveIntegerField:
    return models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(HIGHEST_LIMIT)],
        help_text=help_text,
    )


def _token_limit(help_text: str) -> models.PositiveBigIntegerField:
    return models.PositiveBigIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(HIGHEST_TOKEN_LIMIT)],
        help_text=help_text,
    )


class RateLimit(models.Model):
    """How often and how much a tenant, or a part of it, may call. What is left empty is not limited."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="rate_limits")
    scope = models.CharField(max_length=16, choices=LimitScope.choices, default=LimitScope.TENANT)
    subject = models.CharField(
        max_length=256,
        blank=True,
        help_text="Which project, user or key, by name. Empty: each of them, counted on its own.",
    )
    requests_per_minute = _limit("In any 60 seconds.")
    requests_per_day = _limit("In any 24 hours.")
    tokens_per_minute = _token_limit("In and out together, in any 60 seconds.")
    tokens_per_day = _token_limit("In and out together, in any 24 hours.")
    concurrency = _limit("Calls at the same time, streams until their end.")
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=now, editable=False)

    class Meta:
        ordering = ["tenant__name", "scope", "subject"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "scope", "subject"], name="rate_limit_once"),
            models.CheckConstraint(
                condition=models.Q(*(models.Q((f"{name}__gte", 1)) | models.Q((name, None)) for name in LIMIT_FIELDS)),
                name="rate_limits_positive",
            ),
        ]

    def __str__(self) -> str:
        subject = f" {self.subject}" if self.subject else ""
        return f"{self.tenant.name}: {self.scope}{subject}"

    def clean(self) -> None:
        if self.scope == LimitScope.TENANT and self.subject:
            raise ValidationError({"subject": "A limit of the whole tenant has no subject."})
        if all(getattr(self, name) is None for name in LIMIT_FIELDS):
            raise ValidationError({"requests_per_minute": "Set at least one limit: an empty one limits nothing."})


class ConfigRevision(models.Model):
    """One row a topic; a trigger changes it when configuration commits, and processes that see another value reload."""

    topic = models.CharField(max_length=16, primary_key=True)
    value = models.BigIntegerField(default=0)

    class Meta:
        verbose_name = "configuration revision"
