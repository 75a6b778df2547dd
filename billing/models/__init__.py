"""The tables of money: prices, budgets with their windows, and the ledger."""

from billing.models.budgets import Budget, BudgetAlert, BudgetOverride, BudgetWindow, Period, Scope
from billing.models.ledger import Attempt, AttemptState, Ending, UsageRecord, UsageSource
from billing.models.prices import Price
from billing.models.processes import GatewayProcess
from billing.models.verification import BooksCheck

__all__ = [
    "Attempt",
    "AttemptState",
    "BooksCheck",
    "Budget",
    "BudgetAlert",
    "BudgetOverride",
    "BudgetWindow",
    "Ending",
    "GatewayProcess",
    "Period",
    "Price",
    "Scope",
    "UsageRecord",
    "UsageSource",
]
