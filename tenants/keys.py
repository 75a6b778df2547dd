"""API keys as text: making one, checking its form, and the digest that is stored.

A key is `bsr_live_`, 30 random base62 characters and 6 base62 characters of CRC32 over what precedes them, so that a
mistyped or invented key is refused without a query.
"""

from __future__ import annotations

import hmac
import secrets
import string
import zlib

PREFIX = "bsr_live_"
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM_LENGTH = 30
CHECKSUM_LENGTH = 6
KEY_LENGTH = len(PREFIX) + RANDOM_LENGTH + CHECKSUM_LENGTH
HINT_LENGTH = len(PREFIX) + 4


def _base62(number: int, length: int) -> str:
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits = ALPHABET[digit] + digits
    return digits


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode("ascii")), CHECKSUM_LENGTH)


def generate_key() -> str:
    """Make a new key with 178 bits of randomness."""
    body = PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_LENGTH))
    return body + _checksum(body)


def is_well_formed(key: str) -> bool:
    """Say whether the text has a key's length, prefix and checksum; says nothing about whether it exists."""
    if len(key) != KEY_LENGTH or not key.startswith(PREFIX) or not key.isascii():
        return False
    return _checksum(key[:-CHECKSUM_LENGTH]) == key[-CHECKSUM_LENGTH:]


def digest_key(key: str, pepper: bytes) -> bytes:
    """HMAC-SHA-256 of the key under the platform's pepper: what is stored and looked up."""
    return hmac.digest(pepper, key.encode("ascii"), "sha256")


def key_hint(key: str) -> str:
    """The part of a key that may be shown for good."""
    return key[:HINT_LENGTH] + "…"
