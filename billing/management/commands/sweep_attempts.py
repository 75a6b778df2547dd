"""End what dead processes left open, now."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from billing.sweeper import sweep


class Command(BaseCommand):
    help = "Ends the open attempts of processes that have died, as every web process does by itself every few seconds."

    def handle(self, *args: Any, **options: Any) -> None:
        swept = sweep(settings.FLIGHT_DIR, settings.PROCESS_DEAD_SECONDS)
        for way, attempts in sorted(swept.items()):
            self.stdout.write(f"{way:16} {attempts}")
        if not swept:
            self.stdout.write("Nothing was left open.")
