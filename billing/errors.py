"""What the ledger refuses or cannot do."""

from __future__ import annotations

import datetime as dt

import msgspec


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The window that refused a call: what it was, and what the call would have needed."""

    scope: str
    subject: str
    period: str
    limit_nano_usd: int
    spent_nano_usd: int
    reserved_nano_usd: int
    needed_nano_usd: int
    resets_at: dt.datetime | None


class LedgerUnavailableError(Exception):
    """The database did not take the reservation in time: the call must not be made."""


class BudgetExceededError(Exception):
    """A hard budget has no room for a call; `refusal` says which and by how much."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"The {refusal.scope} budget has no room for this call.")
        self.refusal = refusal


class PriceError(ValueError):
    """A price that may not be stored, with the reason in words for the operator."""


class BudgetError(ValueError):
    """A budget or an extra that may not be stored, with the reason in words for the operator."""


class UsageReportError(ValueError):
    """A question about usage that is too large to be answered whole."""


class AdjustmentError(ValueError):
    """An adjustment that may not be posted, with the reason in words for the operator."""


class StatementError(ValueError):
    """A statement, credit note or markup that may not be made so, with the reason in words for the operator."""


class ReconciliationError(ValueError):
    """A provider's usage export that cannot be read, naming the line and the column."""
