"""Make the months of usage to come, and drop those that are older than is kept."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from billing.retention import expired_months, needed_from, nothing_expired, retain_usage


class Command(BaseCommand):
    help = "Makes the partitions of the coming months, and drops the months older than USAGE_RETENTION_MONTHS."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="say what would go, and do nothing")

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        if not dry_run:
            retain_usage(settings.USAGE_RETENTION_MONTHS, say=self.stdout.write)
            return
        expired = expired_months(settings.USAGE_RETENTION_MONTHS, needed_from=needed_from())
        for month in expired:
            self.stdout.write(f"Would drop {month}.")
        if not expired:
            self.stdout.write(nothing_expired(settings.USAGE_RETENTION_MONTHS))
