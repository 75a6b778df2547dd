"""Encrypt every stored provider secret again with the first of ENCRYPTION_KEYS."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from providers.credentials import CredentialError, rotate_all


class Command(BaseCommand):
    help = (
        "Encrypts every provider secret with the first key of ENCRYPTION_KEYS. "
        "Put the new key in front of the old one, run this, then take the old one away."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            count = rotate_all()
        except CredentialError as error:
            raise CommandError(f"Nothing was changed. {error}") from error
        self.stdout.write(f"{count} secrets are encrypted with the first key.")
