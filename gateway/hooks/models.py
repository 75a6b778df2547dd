"""Which hooks are asked about whose calls."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from gateway.hooks.base import Resources, SettingsError
from gateway.hooks.registry import build, hook_choices
from providers.models import Model, ModelGroup
from tenants.models import Project, Tenant, WebhookEndpoint

SHORTEST_BUDGET_MS = 10
LONGEST_BUDGET_MS = 20_000


class OnFailure(models.TextChoices):
    """What becomes of a call whose hook fails or is too slow."""

    CLOSED = "closed", "The call is blocked"
    OPEN = "open", "The call goes on without it"


class HookBinding(models.Model):
    """A hook that is asked about calls of a tenant, of one of its projects, or for one model."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="hooks")
    name = models.CharField(max_length=100, help_text="Clients are told it when the hook blocks their call.")
    hook = models.CharField(max_length=50, choices=hook_choices)
    project = models.ForeignKey(
        Project, on_delete=models.CASCADE, null=True, blank=True, help_text="None: all of the tenant's keys."
    )
    model = models.CharField(max_length=200, blank=True, help_text="A model or group by name. Empty: all of them.")
    position = models.IntegerField(
        "order", default=100, help_text="Lower ones are asked first, before a call and after it."
    )
    settings = models.JSONField(default=dict, blank=True)
    timeout_ms = models.IntegerField(
        "time budget, ms",
        default=1000,
        validators=[MinValueValidator(SHORTEST_BUDGET_MS), MaxValueValidator(LONGEST_BUDGET_MS)],
        help_text="For each time it is asked. A hook that takes longer has failed.",
    )
    on_failure = models.CharField(max_length=8, choices=OnFailure.choices, default=OnFailure.CLOSED)
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["tenant__name", "position", "pk"]
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="hook_binding_name_per_tenant")]

    def __str__(self) -> str:
        return f"{self.tenant.name}: {self.name}"

    def clean(self) -> None:
        if self.project is not None and self.project.tenant_id != self.tenant_id:
            raise ValidationError({"project": "This project is another tenant's."})
        if self.model and not _is_known(self.model):
            raise ValidationError({"model": f"There is no model or group called {self.model!r}."})
        try:
            build(self.hook, self.settings, resources=resources_of(self.tenant_id))
        except SettingsError as error:
            raise ValidationError({"settings": str(error)}) from error


def resources_of(tenant_id: int) -> Resources:
    """What the tenant's bindings may use. One query."""
    return Resources(webhooks=list(WebhookEndpoint.objects.filter(tenant=tenant_id).order_by("pk")))


def _is_known(name: str) -> bool:
    return Model.objects.filter(name=name).exists() or ModelGroup.objects.filter(name=name).exists()
