"""Provider secrets at rest: AES-256-GCM under the platform's encryption keys, bound to the row they stand in.

The first key encrypts; every key decrypts, so that a new one can be put in front and `rotate_encryption_key` run.
"""

from __future__ import annotations

import base64
import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from providers.models import Credential, Provider

NONCE_BYTES = 12


class CredentialError(ValueError):
    """A stored secret that the platform's keys do not open, or that was moved to another row."""


def _key_id(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:8]


def _bound_to(credential: Credential) -> bytes:
    return f"credential:{credential.pk}:provider:{credential.provider_id}".encode()


def encrypt_secret(credential: Credential, secret: str) -> str:
    """Encrypt for this saved row: `key id.base64(nonce + ciphertext)`."""
    key = settings.ENCRYPTION_KEYS[0]
    nonce = os.urandom(NONCE_BYTES)
    sealed = AESGCM(key).encrypt(nonce, secret.encode(), _bound_to(credential))
    return f"{_key_id(key)}.{base64.b64encode(nonce + sealed).decode()}"


def decrypt_secret(credential: Credential) -> str:
    """Open a row's secret. Raises `CredentialError` when no key fits or the text belongs to another row."""
    key_id, _, text = credential.ciphertext.partition(".")
    for key in settings.ENCRYPTION_KEYS:
        if _key_id(key) == key_id:
            sealed = base64.b64decode(text)
            try:
                return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _bound_to(credential)).decode()
            except InvalidTag as error:
                raise CredentialError(f"The secret of credential {credential} was not written for this row.") from error
    raise CredentialError(
        f"Credential {credential} was encrypted with a key that ENCRYPTION_KEYS no longer holds: "
        "put the key back, or enter the secret again."
    )


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


@transaction.atomic
def rotate_all() -> int:
    """Encrypt every secret again with the first key; returns how many. Raises `CredentialError`, changing nothing."""
    credentials = list(Credential.objects.select_for_update().order_by("pk"))
    for credential in credentials:
        credential.ciphertext = encrypt_secret(credential, decrypt_secret(credential))
        credential.save(update_fields=["ciphertext"])
    return len(credentials)
