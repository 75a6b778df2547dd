"""Say whether the database has every migration of this release."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection

from gateway.schema import missing_migrations

PAUSE_SECONDS = 1.0


class Command(BaseCommand):
    help = (
        "Exits 0 when every migration of this release is applied, else 1. A process that is to serve waits for it, "
        "so that it never works over a schema that it does not know."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--wait", type=float, default=0, metavar="SECONDS", help="how long to wait for the migrations to be applied"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        end = time.monotonic() + options["wait"]
        while problem := self._problem():
            if time.monotonic() >= end:
                raise CommandError(problem)
            time.sleep(min(PAUSE_SECONDS, max(end - time.monotonic(), 0)))
        self.stdout.write("The schema has every migration of this release.")

    def _problem(self) -> str:
        try:
            missing = missing_migrations()
        except DatabaseError as error:
            connection.close()
            return f"The database cannot be asked: {str(error).strip()}"
        return f"Not applied: {', '.join(missing)}. Run `manage.py migrate`." if missing else ""
