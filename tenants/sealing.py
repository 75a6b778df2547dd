"""Secrets and texts at rest: AES-256-GCM under the platform's encryption keys, bound to the row they stand in.

The first key seals; every key opens, so that a new one can be put in front and `rotate_encryption_key` run.
"""

from __future__ import annotations

import base64
import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

NONCE_BYTES = 12


class SealError(ValueError):
    """A stored secret that the platform's keys do not open, or that was moved to another row."""


def _key_id(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:8]


def seal(secret: bytes, *, bound_to: bytes) -> str:
    """Encrypt for the row that `bound_to` names: `key id.base64(nonce + ciphertext)`."""
    key = settings.ENCRYPTION_KEYS[0]
    nonce = os.urandom(NONCE_BYTES)
    sealed = AESGCM(key).encrypt(nonce, secret, bound_to)
    return f"{_key_id(key)}.{base64.b64encode(nonce + sealed).decode()}"


def is_sealed_with_first_key(sealed: str) -> bool:
    """Whether sealing it anew would change nothing but its nonce."""
    return sealed.startswith(f"{_key_id(settings.ENCRYPTION_KEYS[0])}.")


def unseal(sealed: str, *, bound_to: bytes) -> bytes:
    """Open what `seal` made. Raises `SealError`, whose text goes on from the name of what was sealed."""
    key_id, _, text = sealed.partition(".")
    for key in settings.ENCRYPTION_KEYS:
        if _key_id(key) == key_id:
            data = base64.b64decode(text)
            try:
                return AESGCM(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], bound_to)
            except InvalidTag as error:
                raise SealError("was not written for this row.") from error
    raise SealError(
        "was encrypted with a key that ENCRYPTION_KEYS no longer holds: put the key back, or enter the secret again."
    )
