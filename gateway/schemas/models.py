"""Schema types: named, numbered JSON schemas that requests refer to."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

from tenants.models import Operator, Tenant

HIGHEST_VERSION = 1_000_000
validate_type_name = RegexValidator(
    r"\A[a-z][a-z0-9_-]{0,49}(\.[a-z][a-z0-9_-]{0,49}){0,3}\Z",
    "a name is one to four words of a-z, 0-9, _ and - with dots between them, such as weather.query.",
)


class TypeState(models.TextChoices):
    """Where a version stands. It goes forward only."""

    DRAFT = "draft", "Draft"
    PUBLISHED = "published", "Published"
    WITHDRAWN = "withdrawn", "Withdrawn"


class SchemaType(models.Model):
    """One version of a type. Once published it never changes, which a trigger sees to; a change is a new version."""

    tenant = models.ForeignKey(
        Tenant,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="Whose it is. Empty: every tenant's; a tenant's own type of the same name comes before it.",
    )
    name = models.CharField(max_length=120, validators=[validate_type_name], help_text="Such as weather.query.")
    version = models.PositiveIntegerField(
        default=1, validators=[MinValueValidator(1), MaxValueValidator(HIGHEST_VERSION)]
    )
    description = models.CharField(
        max_length=1000, blank=True, help_text="What it is for. Models read it where the type is a tool."
    )
    schema = models.TextField(
        help_text="JSON Schema 2020-12. Its members keep their order, which means something to models. "
        'Other types are referred to by "$ref": "type:NAME@VERSION".'
    )
    state = models.CharField(max_length=16, choices=TypeState.choices, default=TypeState.DRAFT, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    published_at = models.DateTimeField(null=True, blank=True, editable=False)
    withdrawn_at = models.DateTimeField(null=True, blank=True, editable=False)
    changed_by = models.ForeignKey(
        Operator, on_delete=models.PROTECT, null=True, blank=True, editable=False, related_name="+"
    )

    class Meta:
        ordering = ["name", "-version", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "name", "version"], nulls_distinct=False, name="schema_type_once_per_owner"
            ),
            models.CheckConstraint(condition=models.Q(version__gte=1), name="schema_type_version_from_one"),
        ]

    def __str__(self) -> str:
        owner = f" of {self.tenant.name}" if self.tenant is not None else ""
        return f"{self.reference}{owner}"

    @property
    def reference(self) -> str:
        """How requests name it."""
        return f"{self.name}@{self.version}"
