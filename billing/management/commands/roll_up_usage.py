"""Catch up with the sums that the usage explorer reads, or make them anew."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.analytics.checks import repair_analytics
from billing.analytics.roll_up import Caught, begin_again, roll_up


class Command(BaseCommand):
    help = "Adds up usage for the explorer until a minute ago. A task does this all the time; use it after an upgrade."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--rebuild", action="store_true", help="forget all sums and make them from the ledger")
        parser.add_argument("--repair", action="store_true", help="make those of the last 7 days anew that differ")

    def handle(self, *args: Any, rebuild: bool, repair: bool, **options: Any) -> None:
        begun = time.monotonic()
        if rebuild:
            begin_again()

        def tell(caught: Caught) -> None:
            took = time.monotonic() - begun
            left = took / caught.share - took if caught.share else 0
            self.stdout.write(f"{caught.through:%Y-%m-%d %H:%M} UTC, {caught.share:.0%}, {left:,.0f} s left")

        caught = roll_up(seconds=float("inf"), say=tell)
        if caught is None:
            raise CommandError("Another process is adding up at the moment; it will come to the end by itself.")
        if repair:
            self.stdout.write(f"Days made anew: {repair_analytics()}.")
        self.stdout.write(
            f"Summed through {caught.through:%Y-%m-%d %H:%M:%S} UTC in {time.monotonic() - begun:,.0f} s."
        )
