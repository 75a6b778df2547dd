"""Show which adapters are loaded, what they serve, and which file each comes from."""

from __future__ import annotations

import inspect
from typing import Any

from django.core.management.base import BaseCommand

from providers.registry import ADAPTERS


class Command(BaseCommand):
    help = "Lists the provider adapters that are loaded, the operations of each, and the file it comes from."

    def handle(self, *args: Any, **options: Any) -> None:
        for kind, adapter in sorted(ADAPTERS.items()):
            operations = ", ".join(sorted(adapter.operations))
            self.stdout.write(f"adapter  {kind:20} {operations:20} {inspect.getfile(type(adapter))}")
