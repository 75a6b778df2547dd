"""The ledger's statements: each takes one JSON array of rows, so a batch is one round trip.

The functions stand in `billing/migrations/0004_ledger_functions.py`.
"""

from __future__ import annotations

from uuid import UUID


def reserve(process_id: UUID | None) -> str:
    """Answers what became of the calls that budgets are about. Repeating it is harmless: ids are made by the caller.

    The process is the same in all of a ledger's reservations, so it is part of the statement.
    """
    process = f"'{process_id}'" if process_id is not None else "NULL"
    return f"SELECT ledger_reserve($1::jsonb, {process}::uuid)"


SETTLE = "SELECT ledger_settle($1::jsonb)"
"""An attempt ends once: a charge whose attempt is no longer open changes nothing."""

VOID = "SELECT ledger_void($1::jsonb)"

BEAT = """
INSERT INTO billing_gatewayprocess (id, host, pid, started_at, beat_at, recorder) VALUES (%s, %s, %s, %s, now(), %s)
ON CONFLICT (id) DO UPDATE SET beat_at = now()
"""
"""By the database's clock, so that hosts need not agree on the time."""

SWEEP_TIMEOUTS = "SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '2s'"
SWEEP_LOCK = "SELECT pg_try_advisory_xact_lock(7094703662122)"
"""One sweep writes at a time, over all processes; the number is only ours."""
SWEEP_SETTLE = "SELECT ledger_settle(%s::jsonb)"
SWEEP_VOID = "SELECT ledger_void(%s::jsonb)"
