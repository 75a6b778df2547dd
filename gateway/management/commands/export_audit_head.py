"""`manage.py export_audit_head`: print where every chain of audit events ends, to be kept elsewhere."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand

from gateway.audit.heads import export_heads


class Command(BaseCommand):
    help = "Prints the last event of every chain as JSON. Keep it where nobody with the database can reach it."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(json.dumps(export_heads(), indent=2))
