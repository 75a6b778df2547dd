"""Hold the catalogue against public prices, and propose or take over what differs."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from billing.errors import PriceError
from billing.models import PriceProposal, ProposalState
from billing.price_imports import Comparison, approve_proposal, compare, propose
from billing.public_prices import SOURCE, VERSION


class Command(BaseCommand):
    help = (
        "Compares the models' prices with those in the genai-prices package, without any network, and prints what "
        "differs; writes nothing unless told to."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--provider", default="", help="only models served by the provider of this name")
        parser.add_argument("--model", action="append", default=[], help="only the model of this name; may be repeated")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--apply", action="store_true", help="keep what differs as proposals to decide in the admin")
        what.add_argument("--approve", action="store_true", help="make it the price of the models named, from now on")
        what.add_argument("--check", action="store_true", help="exit 1 when anything differs")
        parser.add_argument("--confirm", action="store_true", help="with --approve: also changes beyond ten times")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["approve"] and not options["model"]:
            raise CommandError("--approve takes over prices at once: name each model with --model.")
        found = compare(provider=options["provider"], names=options["model"])
        missing = set(options["model"]) - {comparison.model.name for comparison in found}
        if missing:
            raise CommandError(f"There is no such model in use: {', '.join(sorted(missing))}.")
        for comparison in found:
            self._print(comparison)
        differing = [comparison for comparison in found if comparison.differs]
        unmatched = [comparison for comparison in found if comparison.public is None]
        self.stdout.write(
            f"{SOURCE} {VERSION}: {len(differing)} differ, "
            f"{len(found) - len(differing) - len(unmatched)} agree or were refused before, {len(unmatched)} unmatched."
        )
        if options["apply"]:
            made = [proposal for comparison in differing if (proposal := propose(comparison)) is not None]
            self.stdout.write(f"{len(made)} new proposals. Decide on them in the admin, under Price proposals.")
        elif options["approve"]:
            self._approve(differing, confirmed=options["confirm"])
        elif options["check"] and differing:
            raise CommandError("Prices differ from the public ones.")

    def _print(self, comparison: Comparison) -> None:
        name = comparison.model.name
        if comparison.public is None:
            self.stdout.write(f"{name}: no public price for where it is served.")
            return
        if not comparison.changes:
            return
        verdict = " (refused before)" if comparison.rejected else ""
        self.stdout.write(f"{name}, as {comparison.public.name}{verdict}, USD per million units:")
        self.stdout.write(f"  {'':36} {'unit':16} {'ours':>12} {'theirs':>12} {'change':>10}")
        for change in comparison.changes:
            percent = f"{change.percent} %" if change.percent else "new"
            remark = "  suspicious: more than ten times" if change.suspicious else ""
            figures = f"{change.ours or '-':>12} {change.theirs:>12} {percent:>10}"
            self.stdout.write(f"  {change.tier or 'base':36} {change.unit:16} {figures}{remark}")
        for key in comparison.public.left_out:
            self.stdout.write(f"  not taken over, the catalogue has no such unit: {key}")

    @transaction.atomic
    def _approve(self, differing: list[Comparison], *, confirmed: bool) -> None:
        for comparison in differing:
            if comparison.suspicious and not confirmed:
                raise CommandError(
                    f"{comparison.model.name}: a price would change more than ten times; look at it, then add "
                    "--confirm. Nothing was changed."
                )
            proposal = propose(comparison) or PriceProposal.objects.get(
                model=comparison.model, state=ProposalState.OPEN
            )
            try:
                approve_proposal(proposal, by=None)
            except PriceError as error:
                raise CommandError(f"{error} Nothing was changed.") from error
            self.stdout.write(f"{comparison.model.name}: the price holds from now on.")
