"""Show what is loaded, adapters and hooks, and which file each comes from."""

from __future__ import annotations

import inspect
from typing import Any

from django.core.management.base import BaseCommand

from gateway.hooks.registry import ABSENT, HOOKS
from providers.registry import ADAPTERS


class Command(BaseCommand):
    help = "Lists the provider adapters and hooks that are loaded, what each is for, and the file it comes from."

    def handle(self, *args: Any, **options: Any) -> None:
        for kind, adapter in sorted(ADAPTERS.items()):
            operations = ", ".join(sorted(adapter.operations))
            self.stdout.write(f"adapter  {kind:20} {operations:32} {inspect.getfile(type(adapter))}")
        for name, hook in sorted(HOOKS.items()):
            stages = ", ".join(sorted(hook.stages))
            self.stdout.write(f"hook     {name:20} {stages:32} {inspect.getfile(hook)}")
        for name, remedy in sorted(ABSENT.items()):
            self.stdout.write(f"absent   {name:20} {remedy}")
