"""`manage.py apply FILE`: make the database match a configuration file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, transaction

from gateway.configuration.apply import apply_document
from gateway.configuration.errors import ConfigurationError
from gateway.configuration.parsing import parse
from gateway.configuration.report import Report
from tenants.audit import SYSTEM, Subject, record


class Command(BaseCommand):
    help = "Makes the database match a configuration file (docs/reference/configuration.md), all of it or nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="A YAML or JSON file; - reads standard input.")
        parser.add_argument(
            "--prune",
            action="store_true",
            help="Also take away what the file does not name, within the sections and lists that it has: deployments, "
            "groups, members, agent types and approvals are deleted, models retired, providers disabled, keys revoked, "
            "tenants suspended.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Show what would be done and do nothing.")
        parser.add_argument("--json", action="store_true", help="Print what was done as one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        file: str = options["file"]
        name = "standard input" if file == "-" else file
        try:
            text = (sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()).decode("utf-8-sig")
            with transaction.atomic():
                report = apply_document(parse(text), prune_unnamed=options["prune"], dry_run=options["dry_run"])
                if not options["dry_run"]:
                    _record(report, file=name)
        except OSError as error:
            raise CommandError(f"{name} cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise CommandError(f"{name} is not text in UTF-8.") from error
        except ConfigurationError as error:
            raise CommandError(f"{name}, {error}\nNothing was changed.") from error
        except DatabaseError as error:
            raise CommandError(f"The database refused: {error}\nNothing was changed.") from error
        if options["json"]:
            self.stdout.write(json.dumps(report.as_json(), indent=2))
            return
        if options["dry_run"]:
            self.stdout.write("Dry run: this would be done, and was not.")
        self.stdout.write(report.as_text())


def _record(report: Report, *, file: str) -> None:
    """Have the audit log say what was done: names, and of what changed its fields, but no value."""
    done = {part: named for part, named in report.as_json().items() if part in ("created", "changed", "pruned")}
    if not any(done.values()):
        return
    record("configuration.applied", by=SYSTEM, about=Subject(type="configuration", id="", name=file), details=done)
