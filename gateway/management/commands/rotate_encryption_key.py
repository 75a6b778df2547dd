"""Encrypt every stored secret and kept text again with the first of ENCRYPTION_KEYS."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from gateway.audit.kept_texts import seal_texts_anew
from providers.credentials import CredentialError, rotate_all
from tenants.sealing import SealError
from tenants.webhooks import seal_all_anew


class Command(BaseCommand):
    help = (
        "Encrypts every secret of providers and webhooks, and the prompts and answers that tenants keep, with the "
        "first key of ENCRYPTION_KEYS. Put the new key in front of the old one, run this, then take the old one away."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with transaction.atomic():
                count = rotate_all() + seal_all_anew()
        except (CredentialError, SealError) as error:
            raise CommandError(f"Nothing was changed. {error}") from error
        self.stdout.write(f"{count} secrets are encrypted with the first key.")
        texts, unopened = seal_texts_anew()
        self.stdout.write(f"{texts} kept texts were encrypted with the first key; all others were already.")
        if unopened:
            raise CommandError(
                f"{unopened} kept texts cannot be opened with any of the keys and stay as they are. Put their key back "
                "and run this again, or let their days run out."
            )
