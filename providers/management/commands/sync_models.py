"""Compare the models that providers list with those that are deployed here."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from providers.model_lists import Comparison, sync_models
from providers.models import Provider


class Command(BaseCommand):
    help = (
        "Asks every enabled provider, or the one named, for its models and writes down which are new, known or gone. "
        "It proposes and approves nothing: an operator does, in the admin."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--provider", help="only the provider of this name, whether or not it is enabled")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["provider"]
        providers = list(Provider.objects.filter(name=name) if name else Provider.objects.filter(enabled=True))
        if name and not providers:
            raise CommandError(f"There is no provider called {name!r}.")
        found = sync_models(providers)
        if providers and not found:
            raise CommandError("Another run is under way; nothing was done.")
        for provider, outcome in found.items():
            if isinstance(outcome, Comparison):
                self._show(provider, outcome)
        failed = [f"{provider}: {outcome}" for provider, outcome in found.items() if isinstance(outcome, str)]
        if failed:
            raise CommandError("No list from\n" + "\n".join(failed))

    def _show(self, provider: str, comparison: Comparison) -> None:
        self.stdout.write(f"{provider}: {comparison.as_text()}")
        for mark, names in (("+", comparison.new), ("-", comparison.gone)):
            for name in names:
                self.stdout.write(f"  {mark} {name}")
