"""Bring statements up to date now, as the nightly job does."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any
from zoneinfo import ZoneInfo

from django.core.management.base import BaseCommand, CommandError

from billing.errors import StatementError
from billing.statements.documents import cents, period_name
from billing.statements.nightly import Made, make_due_statements
from billing.statements.periods import Span, begins_in, read_period
from tenants.models import Tenant


class Command(BaseCommand):
    help = (
        "Makes the drafts of every tenant's periods that have entries, and issues those that are over, as the nightly "
        "job does. Repeating it is harmless."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--period", metavar="2026-10", help="only periods that begin in this month, or on this day")
        parser.add_argument("--tenant", metavar="NAME", help="only this tenant")

    def handle(self, *args: Any, **options: Any) -> None:
        tenants = Tenant.objects.order_by("name")
        if options["tenant"] is not None:
            tenants = tenants.filter(name=options["tenant"])
            if not tenants:
                raise CommandError(f"--tenant: no tenant is called {options['tenant']!r}.")
        wanted = self._wanted(options["period"])
        refused = 0
        ids = list(tenants.values_list("pk", "name"))
        for number, (tenant_id, name) in enumerate(ids, start=1):
            try:
                made = make_due_statements(tenant_id, wanted=wanted)
            except StatementError as error:
                refused += 1
                self.stderr.write(f"{number}/{len(ids)} {name}: {error}")
                continue
            for one in made:
                self.stdout.write(f"{number}/{len(ids)} {_described(one)}")
            if not made:
                self.stdout.write(f"{number}/{len(ids)} {name}: nothing to state")
        if refused:
            raise CommandError(f"{refused} tenants have statements that could not be made.")

    def _wanted(self, text: str | None) -> Any:
        if text is None:
            return lambda tenant, span: True
        try:
            period, first_day = read_period(text)
        except ValueError as error:
            raise CommandError("--period: write a month such as 2026-10, or a day such as 2026-10-31.") from error

        def wanted(tenant: Tenant, span: Span) -> bool:
            return begins_in(span, period=period, first_day=first_day, zone=ZoneInfo(tenant.timezone))

        return wanted


def _described(made: Made) -> str:
    """One statement as a line of progress."""
    statement = made.statement
    state = f"draft, {made.held_back}" if made.held_back else f"{statement.state} as {statement.number}"
    total = f"{cents(statement.total_cents)} USD"
    return f"{statement.tenant_name}: {period_name(statement)}, {total}, {statement.calls:,} calls, {state}"
