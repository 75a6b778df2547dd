"""The ledger's statements: each takes one JSON array of rows, so a batch is one round trip.

The functions stand in `billing/migrations/0004_ledger_functions.py`.
"""

RESERVE = "SELECT ledger_reserve($1::jsonb)"
"""Answers what became of the calls that budgets are about. Repeating it is harmless: ids are made by the caller."""

SETTLE = "SELECT ledger_settle($1::jsonb)"
"""An attempt ends once: a charge whose attempt is no longer open changes nothing."""

VOID = "SELECT ledger_void($1::jsonb)"
