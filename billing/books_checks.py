"""Checking the books and keeping the result, for the command, the nightly task and the admin's home page."""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from billing.models import BooksCheck
from billing.verification import Exposure, Finding, exposures, verify

logger = logging.getLogger(__name__)

KEPT = dt.timedelta(days=90)


@dataclass(frozen=True, slots=True)
class BooksReport:
    """How every check went, and what providers may still ask for."""

    findings: list[Finding]
    exposures: list[Exposure]

    @property
    def broken(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.breaches]


def check_books() -> BooksReport:
    """Run every check over one snapshot and keep the result. Not to be called inside a transaction."""
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        report = BooksReport(verify(), exposures())
    BooksCheck.objects.create(ok=not report.broken, findings=[_as_json(finding) for finding in report.broken])
    if report.broken:
        logger.critical("books.broken", extra={"checks": [finding.check.name for finding in report.broken]})
    return report


def _as_json(finding: Finding) -> dict[str, Any]:
    """A broken check as the admin's home page shows it."""
    return {
        "check": finding.check.name,
        "says": finding.check.says,
        "breaches": finding.breaches,
        "examples": [[str(value) for value in example] for example in finding.examples],
    }


def prune_books_checks(now: dt.datetime | None = None) -> int:
    """Delete results older than `KEPT`, but never the newest; returns how many."""
    newest = BooksCheck.objects.values("pk")[:1]
    old = BooksCheck.objects.filter(at__lt=(now or timezone.now()) - KEPT).exclude(pk__in=newest)
    return old.delete()[0]
