"""What the ledger refuses or cannot do."""

from __future__ import annotations


class LedgerUnavailableError(Exception):
    """The database did not take the reservation in time: the call must not be made."""


class PriceError(ValueError):
    """A price that may not be stored, with the reason in words for the operator."""
