"""What tenants' services refuse, as errors the caller can show."""

from __future__ import annotations


class InvalidKeyError(ValueError):
    """A key given by an operator does not have the form of a Bursar key."""


class KeyRotationError(ValueError):
    """A key that cannot be rotated, in words for whoever wants to."""
