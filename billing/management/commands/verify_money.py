"""Prove that the books balance, or say which rows do not."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction

from billing.models import BooksCheck
from billing.money import usd
from billing.verification import Finding, exposures, verify


class Command(BaseCommand):
    help = (
        "Checks the money invariants in SQL over one snapshot and keeps the result for the admin's home page; "
        "exits 1 when one is broken, naming the first rows."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            findings = verify()
            exposed = exposures()
        for finding in findings:
            verdict = "ok" if not finding.breaches else f"BROKEN by {finding.breaches}"
            self.stdout.write(f"{finding.check.name:16} {verdict:14} {finding.check.says}")
            for example in finding.examples:
                self.stdout.write(f"{'':16} {', '.join(map(str, example))}")
        for exposure in exposed:
            self.stdout.write(
                f"{'exposure':16} {exposure.attempts:<14} Calls to {exposure.provider_name} of unknown outcome, not "
                f"charged: at most {usd(exposure.bound_nano_usd)} USD."
            )
        broken = [finding for finding in findings if finding.breaches]
        BooksCheck.objects.create(ok=not broken, findings=[_as_json(finding) for finding in broken])
        if broken:
            raise CommandError("The books do not balance.")
        self.stdout.write("The books balance.")


def _as_json(finding: Finding) -> dict[str, Any]:
    """A broken check as the admin's home page shows it."""
    return {
        "check": finding.check.name,
        "says": finding.check.says,
        "breaches": finding.breaches,
        "examples": [[str(value) for value in example] for example in finding.examples],
    }
