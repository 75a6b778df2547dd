"""`manage.py seed_demo`: create the demo, or bring it up to date."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway.configuration.errors import ConfigurationError
from gateway.demo_seed import seed_demo


class Command(BaseCommand):
    help = "Creates the demo tenant, key, models and operator, and prints how to use them as one JSON object."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--base-url", required=True, help="Where the platform answers: http://127.0.0.1:5005/v1.")
        parser.add_argument("--pid", required=True, type=int, help="The process to stop the platform by.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            access = seed_demo(options["base_url"], options["pid"])
        except ConfigurationError as error:
            raise CommandError(f"The demo does not fit what is in the database: {error}") from error
        self.stdout.write(json.dumps(access.as_json()))
