"""`manage.py verify_audit`: prove that no audit event was changed, or name the first one that was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway.audit.checks import check_chains
from gateway.audit.heads import HeadFileError, read_heads
from gateway.audit.verification import Place, verify
from tenants.models import PLATFORM, Tenant


class Command(BaseCommand):
    help = "Reads every chain of audit events and names the first bad event of each broken one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--head", help="A file that export_audit_head wrote: also find what was cut off since.")
        parser.add_argument("--tenant", help="Only this tenant's chain, by name; - is the platform's.")

    def handle(self, *args: Any, **options: Any) -> None:
        anchors = self._anchors(options["head"]) if options["head"] else {}
        if options["tenant"]:
            found = verify(chain=self._chain(options["tenant"]), anchors=anchors)
        else:
            found = check_chains(anchors)
        self.stdout.write(f"Read {found.events:,} events in {found.chains:,} chains.")
        if found.breaks:
            raise CommandError("\n".join(["BROKEN.", *map(str, found.breaks)]))
        self.stdout.write("Every chain is whole.")

    def _anchors(self, file: str) -> dict[int, Place]:
        try:
            return read_heads(Path(file).read_text())
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}.") from error
        except HeadFileError as error:
            raise CommandError(f"{file}: {error}") from error

    def _chain(self, name: str) -> int:
        if name == "-":
            return PLATFORM
        tenant = Tenant.objects.filter(name=name).first()
        if tenant is None:
            raise CommandError(f"There is no tenant {name!r}.")
        return tenant.pk
