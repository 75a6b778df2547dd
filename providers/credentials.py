"""Providers' secrets: sealed in the row they belong to, replaced, and sealed anew when the platform's key changes."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from providers.models import Credential, Provider
from tenants.sealing import SealError, seal, unseal


class CredentialError(ValueError):
    """A stored secret that the platform's keys do not open, or that was moved to another row."""


def _bound_to(credential: Credential) -> bytes:
    return f"credential:{credential.pk}:provider:{credential.provider_id}".encode()


def encrypt_secret(credential: Credential, secret: str) -> str:
    """Encrypt for this saved row."""
    return seal(secret.encode(), bound_to=_bound_to(credential))


def decrypt_secret(credential: Credential) -> str:
    """Open a row's secret. Raises `CredentialError` when no key fits or the text belongs to another row."""
    try:
        return unseal(credential.ciphertext, bound_to=_bound_to(credential)).decode()
    except SealError as error:
        raise CredentialError(f"The secret of credential {credential} {error}") from error


@transaction.atomic
def store_credential(provider: Provider, secret: str, *, name: str = "default") -> Credential:
    """Create a provider's credential, or replace the secret of the one with this name."""
    credential, _ = Credential.objects.get_or_create(provider=provider, name=name)
    replace_secret(credential, secret)
    return credential


def replace_secret(credential: Credential, secret: str) -> None:
    """Put another secret into a saved credential."""
    credential.ciphertext = encrypt_secret(credential, secret)
    credential.last_four = secret[-4:] if len(secret) >= 12 else ""
    credential.changed_at = timezone.now()
    credential.save(update_fields=["ciphertext", "last_four", "changed_at"])


def use_again(credential: Credential) -> None:
    """Have a secret used that its provider has refused: processes take it for another one, seen within two seconds."""
    credential.changed_at = timezone.now()
    credential.save(update_fields=["changed_at"])


@transaction.atomic
def rotate_all() -> int:
    """Encrypt every secret again with the first key; returns how many. Raises `CredentialError`, changing nothing."""
    credentials = list(Credential.objects.select_for_update().order_by("pk"))
    for credential in credentials:
        credential.ciphertext = encrypt_secret(credential, decrypt_secret(credential))
        credential.save(update_fields=["ciphertext"])
    return len(credentials)
