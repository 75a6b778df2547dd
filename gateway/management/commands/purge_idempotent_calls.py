"""Delete what was kept of calls with an idempotency key, once nobody can ask for it any more."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from gateway.claims import purge_expired


class Command(BaseCommand):
    help = "Deletes the calls with idempotency keys whose 24 hours are over."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"{purge_expired()} calls were deleted.")
