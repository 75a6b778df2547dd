"""Prove that the books balance, or say which rows do not."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction

from billing.verification import verify


class Command(BaseCommand):
    help = "Checks the money invariants in SQL over one snapshot; exits 1 when one is broken, naming the first rows."

    def handle(self, *args: Any, **options: Any) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            findings = verify()
        for finding in findings:
            verdict = "ok" if not finding.breaches else f"BROKEN by {finding.breaches}"
            self.stdout.write(f"{finding.check.name:16} {verdict:14} {finding.check.says}")
            for example in finding.examples:
                self.stdout.write(f"{'':16} {', '.join(map(str, example))}")
        if any(finding.breaches for finding in findings):
            raise CommandError("The books do not balance.")
        self.stdout.write("The books balance.")
