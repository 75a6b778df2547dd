"""The tables of money: prices, budgets with their windows, the ledger, and statements."""

from billing.models.analytics import AnalyticsDay, AnalyticsHour, AnalyticsProgress, AnalyticsUserDay
from billing.models.budgets import Budget, BudgetAlert, BudgetOverride, BudgetWindow, Period, Scope
from billing.models.ledger import (
    Adjustment,
    AdjustmentKind,
    Attempt,
    AttemptState,
    Ending,
    UsageRecord,
    UsageSource,
)
from billing.models.price_proposals import PriceProposal, ProposalState
from billing.models.prices import Price
from billing.models.processes import GatewayProcess
from billing.models.reconciliation import ReconciliationRow, ReconciliationRun
from billing.models.rollups import Entry, UsageDay, UsageHour, UserDay
from billing.models.statements import (
    LineKind,
    Markup,
    Statement,
    StatementKind,
    StatementLine,
    StatementPeriod,
    StatementSchedule,
    StatementState,
)
from billing.models.verification import BooksCheck

__all__ = [
    "Adjustment",
    "AdjustmentKind",
    "AnalyticsDay",
    "AnalyticsHour",
    "AnalyticsProgress",
    "AnalyticsUserDay",
    "Attempt",
    "AttemptState",
    "BooksCheck",
    "Budget",
    "BudgetAlert",
    "BudgetOverride",
    "BudgetWindow",
    "Ending",
    "Entry",
    "GatewayProcess",
    "LineKind",
    "Markup",
    "Period",
    "Price",
    "PriceProposal",
    "ProposalState",
    "ReconciliationRow",
    "ReconciliationRun",
    "Scope",
    "Statement",
    "StatementKind",
    "StatementLine",
    "StatementPeriod",
    "StatementSchedule",
    "StatementState",
    "UsageDay",
    "UsageHour",
    "UsageRecord",
    "UsageSource",
    "UserDay",
]
