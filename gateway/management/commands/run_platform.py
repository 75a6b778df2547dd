"""`manage.py run_platform`, which `make run` calls."""

import sys

from django.core.management.base import BaseCommand

from gateway.supervisor import run_platform


class Command(BaseCommand):
    """Start PostgreSQL and Redis where none were given, then the platform, and stop all of it together."""

    help = "Run the whole platform on this machine until Ctrl-C. HOST, PORT, WORKERS and DATA_DIR change how."
    # Checks run inside `migrate`, once the database is there.
    requires_system_checks: list[str] = []

    def handle(self, *_args: object, **_options: object) -> None:
        """Exit status 0 when told to stop, 1 when something failed."""
        sys.exit(run_platform(sys.stdout))
