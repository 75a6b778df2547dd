"""The ledger's statements: each takes one JSON array of rows, so a batch is one round trip.

The functions stand in `billing/migrations`: reserving and releasing in `0004_ledger_functions.py`, ending and adjusting
in `0010_posting_functions.py`, adding up in `0009_entries_and_rollups.py`, extending in `0020_leases.py`. The
procedures of `0023_reserve_at_once.py` commit what they call, let go of its locks, and only then wait for the disk.
"""

from __future__ import annotations

from uuid import UUID


def reserve(process_id: UUID | None) -> str:
    """Answers what became of the calls that budgets are about. Repeating it is harmless: ids are made by the caller.

    The process is the same in all of a ledger's reservations, so it is part of the statement.
    """
    process = f"'{process_id}'" if process_id is not None else "NULL"
    return f"CALL ledger_reserve_and_flush($1::jsonb, {process}::uuid, NULL)"


SETTLE = "CALL ledger_settle_and_flush($1::jsonb)"
"""An attempt ends once: a charge whose attempt is no longer open changes nothing, unless a sweep ended it. Then what it
costs beyond, or below, what the sweep charged is posted as a correction, once."""

VOID = "SELECT ledger_void($1::jsonb)"

EXTEND = "SELECT ledger_extend($1::jsonb)"

BEAT = """
INSERT INTO billing_gatewayprocess (id, host, pid, started_at, beat_at, recorder) VALUES (%s, %s, %s, %s, now(), %s)
ON CONFLICT (id) DO UPDATE SET beat_at = now()
"""
"""By the database's clock, so that hosts need not agree on the time."""

SWEEP_TIMEOUTS = "SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '2s'"
SWEEP_LOCK = "SELECT pg_try_advisory_xact_lock(7094703662122)"
"""One sweep writes at a time, over all processes; the number is only ours."""
REPLAY = "SELECT ledger_reserve(%s::jsonb, %s::uuid)"
SWEEP_SETTLE = "SELECT ledger_settle(%s::jsonb, sweeping => true)"
SWEEP_VOID = "SELECT ledger_void(%s::jsonb, sweeping => true)"

POST_SETTLE = "SELECT ledger_settle(%s::jsonb)"
POST_VOID = "SELECT ledger_void(%s::jsonb)"
"""For whoever ends an attempt in a transaction of its own."""

ADJUST = "SELECT ledger_adjust(%s::jsonb)"
