"""Admin pages for money; importing this registers them all."""

from __future__ import annotations

from billing.admin import (
    adjustments,
    budget_history,
    budgets,
    price_proposals,
    prices,
    reconciliation,
    statement_terms,
    statements,
    usage,
)

__all__ = [
    "adjustments",
    "budget_history",
    "budgets",
    "price_proposals",
    "prices",
    "reconciliation",
    "statement_terms",
    "statements",
    "usage",
]
