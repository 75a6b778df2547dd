"""What operators keep of the desk for themselves."""

from __future__ import annotations

from django.db import models
from django.utils.timezone import now

from tenants.models import Operator

MOST_VIEWS = 50
"""Of one operator."""
QUERY_LENGTH = 2000


class SavedView(models.Model):
    """A question asked of the usage explorer, under a name: its address, which shows each what their role allows."""

    operator = models.ForeignKey(Operator, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=100)
    query = models.CharField(max_length=QUERY_LENGTH, blank=True, help_text="The explorer's address, after the `?`.")
    created_at = models.DateTimeField(default=now, editable=False)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["operator", "name"], name="saved_view_once")]

    def __str__(self) -> str:
        return self.name
