"""What a request of some size costs at a model's price."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from billing.price_samples import Sample, sample_costs
from billing.pricing import UNITS
from billing.selectors import price_holding
from providers.models import Model


class Command(BaseCommand):
    help = "Prints what a request costs at the price a model has now: at the base prices and in every tier."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model", help="the model's name")
        for unit in UNITS:
            parser.add_argument(f"--{unit.replace('_', '-')}", type=int, default=0, metavar="N", help=f"{unit} units")

    def handle(self, *args: Any, **options: Any) -> None:
        model = Model.objects.filter(name=options["model"]).first()
        if model is None:
            raise CommandError(f"There is no model called {options['model']!r}.")
        price = price_holding(model.pk, timezone.now())
        if price is None:
            raise CommandError(f"{model.name} has no price yet: what its calls cost is unknown.")
        units = {unit: options[unit] for unit in UNITS if options[unit]}
        if any(count < 0 for count in units.values()):
            raise CommandError("A request cannot use less than nothing.")
        if not units:
            raise CommandError("Say what the request uses, such as --input 1000 --output 500.")
        self.stdout.write(", ".join(f"{count:,} {unit}" for unit, count in units.items()))
        for row in sample_costs(price.version, samples=[Sample("", units)]):
            self.stdout.write(f"{row.cost:>16} USD  {row.tier}")
