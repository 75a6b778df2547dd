"""`manage.py export`: write the configuration in the form that `manage.py apply` reads."""

from __future__ import annotations

import json
from typing import Any

import yaml
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from gateway.configuration.apply import lock_configuration
from gateway.configuration.export import export_document

# Innermost lists and mappings on one line, as people write them.
_STYLE: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "default_flow_style": None, "width": 110}


class Command(BaseCommand):
    help = "Prints the configuration as YAML, without secrets, in the form that `apply` reads."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print JSON instead of YAML.")

    def handle(self, *args: Any, **options: Any) -> None:
        with transaction.atomic():
            lock_configuration()
            document = export_document()
        if options["json"]:
            self.stdout.write(json.dumps(document, indent=2))
        else:
            self.stdout.write(yaml.safe_dump(document, **_STYLE), ending="")
