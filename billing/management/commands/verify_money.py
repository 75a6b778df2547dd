"""Prove that the books balance, or say which rows do not."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.books_checks import check_books
from billing.money import usd


class Command(BaseCommand):
    help = (
        "Checks the money invariants in SQL over one snapshot and keeps the result for the admin's home page; "
        "exits 1 when one is broken, naming the first rows."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        report = check_books()
        for finding in report.findings:
            verdict = "ok" if not finding.breaches else f"BROKEN by {finding.breaches}"
            self.stdout.write(f"{finding.check.name:16} {verdict:14} {finding.check.says}")
            for example in finding.examples:
                self.stdout.write(f"{'':16} {', '.join(map(str, example))}")
        for exposure in report.exposures:
            self.stdout.write(
                f"{'exposure':16} {exposure.attempts:<14} Calls to {exposure.provider_name} of unknown outcome, not "
                f"charged: at most {usd(exposure.bound_nano_usd)} USD."
            )
        if report.broken:
            raise CommandError("The books do not balance.")
        self.stdout.write("The books balance.")
