"""The processes that make calls, so that others notice when one dies."""

from __future__ import annotations

from django.db import models


class GatewayProcess(models.Model):
    """A running process of the gateway. Its row goes when it ends in order, or when a sweep has ended its attempts."""

    id = models.UUIDField(primary_key=True, editable=False)
    host = models.CharField(max_length=255)
    pid = models.IntegerField()
    started_at = models.DateTimeField()
    beat_at = models.DateTimeField(help_text="When it last said that it lives, by the database's clock.")
    recorder = models.CharField(max_length=4096, help_text="Its flight recorder: a file on its own host.")

    class Meta:
        ordering = ["started_at"]
        verbose_name_plural = "gateway processes"

    def __str__(self) -> str:
        return f"{self.pid} on {self.host}"
