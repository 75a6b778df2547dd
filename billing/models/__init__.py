"""The tables of money: prices, budgets with their windows, and the ledger."""

from billing.models.budgets import Budget, BudgetAlert, BudgetOverride, BudgetWindow, Period, Scope
from billing.models.ledger import Attempt, AttemptState, Ending, UsageRecord, UsageSource
from billing.models.prices import Price

__all__ = [
    "Attempt",
    "AttemptState",
    "Budget",
    "BudgetAlert",
    "BudgetOverride",
    "BudgetWindow",
    "Ending",
    "Period",
    "Price",
    "Scope",
    "UsageRecord",
    "UsageSource",
]
