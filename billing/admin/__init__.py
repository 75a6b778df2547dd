"""Admin pages for money; importing this registers them all."""

from __future__ import annotations

from billing.admin import budget_history, budgets, prices, usage

__all__ = ["budget_history", "budgets", "prices", "usage"]
