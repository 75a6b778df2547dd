"""What `manage.py verify_money` found, run by run."""

from __future__ import annotations

from django.db import models
from django.utils.timezone import now


class BooksCheck(models.Model):
    """One run of the money checks: when, whether the books balanced, and what broke them."""

    at = models.DateTimeField(default=now)
    ok = models.BooleanField()
    findings = models.JSONField(
        default=list, help_text="The broken checks: `check`, `says`, how many `breaches`, and `examples` of them."
    )

    class Meta:
        ordering = ["-at", "-pk"]
        indexes = [models.Index(fields=["-at", "-id"], name="books_check_newest")]

    def __str__(self) -> str:
        return f"{'Balanced' if self.ok else 'BROKEN'} at {self.at:%Y-%m-%d %H:%M}"
