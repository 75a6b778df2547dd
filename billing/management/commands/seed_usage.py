"""Write usage by the million into an empty platform, to measure with."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.usage_seeding import Progress, seed_usage


class Command(BaseCommand):
    help = "Fills an empty platform with tenants and usage that balances, for measurements. Not for production."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--rows", type=int, default=10_000_000, help="charges (10,000,000)")
        parser.add_argument("--days", type=int, default=90, help="the days until now that they are spread over (90)")
        parser.add_argument("--tenants", type=int, default=200, help="tenants that made them (200)")

    def handle(self, *args: Any, rows: int, days: int, tenants: int, **options: Any) -> None:
        begun = time.monotonic()
        try:
            seed_usage(rows=rows, days=days, tenants=tenants, say=self._say)
        except ValueError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{rows:,} charges in {time.monotonic() - begun:,.0f} s.")

    def _say(self, progress: Progress) -> None:
        self.stdout.write(
            f"{progress.rows:>12,} of {progress.of_rows:,}, {progress.seconds_left:,.0f} s left", ending="\n"
        )
