"""Which people of a tenant's own may look at it."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.timezone import now

from tenants.models.people import Operator, Role, Tenant


class Membership(models.Model):
    """A person's place in a tenant. Only the role Member asks for one: the other roles see every tenant."""

    operator = models.ForeignKey(
        Operator, on_delete=models.CASCADE, related_name="memberships", verbose_name="person",
        help_text="Somebody whose role is Member.",
    )  # fmt: skip
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    created_at = models.DateTimeField(default=now, editable=False)
    created_by = models.ForeignKey(
        Operator, on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )

    class Meta:
        ordering = ["tenant__name", "operator__username"]
        constraints = [
            models.UniqueConstraint(
                fields=["operator", "tenant"],
                name="membership_once",
                violation_error_message="This person is a member of this tenant already.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.operator.get_username()} of {self.tenant.name}"

    def clean(self) -> None:
        if self.operator_id is not None and self.operator.role != Role.MEMBER:
            raise ValidationError({"operator": "Only somebody whose role is Member belongs to a tenant."})
