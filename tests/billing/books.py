"""Calls driven through the ledger's own functions, and whether the books balance after them."""

from __future__ import annotations

import datetime as dt
from io import StringIO
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from billing.budgets import Hold, window_of
from billing.entries import Reservation, Settlement, Void, new_attempt_id
from billing.models import Budget, BudgetWindow
from tests.billing.test_ledger import reservation, settlement


def hold_of(budget: Budget, moment: dt.datetime | None = None) -> Hold:
    starts_at, ends_at = window_of(budget.period, moment or timezone.now(), zone=ZoneInfo("UTC"))
    return Hold(budget_id=budget.pk, subject="", starts_at=starts_at, ends_at=ends_at)


def write(function: str, *rows: Reservation | Settlement | Void, sweeping: bool | None = None) -> None:
    """Call one of the ledger's functions as the ledger or, with `sweeping`, as a sweep does."""
    more = "" if sweeping is None else f", sweeping => {str(sweeping).lower()}"
    more = ", NULL" if function == "ledger_reserve" else more
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {function}(%s::jsonb{more})", [msgspec.json.encode(rows).decode()])


def reserve(*budgets: Budget, cost: int = 1_000_000, **fields: Any) -> str:
    """An open attempt; returns its id."""
    attempt_id = new_attempt_id()
    holds = [hold_of(budget) for budget in budgets]
    write(
        "ledger_reserve",
        reservation(attempt_id, fixed_nano_usd=cost, max_output_tokens=0, holds=holds, **fields),
    )
    return attempt_id


def charge(*budgets: Budget, cost: int = 4_500, **fields: Any) -> str:
    """A settled attempt; returns its id."""
    attempt_id = reserve(*budgets, **({"tenant_id": fields["tenant_id"]} if "tenant_id" in fields else {}))
    write("ledger_settle", settlement(attempt_id, cost_nano_usd=cost, **fields))
    return attempt_id


def spent(budget: Budget) -> int:
    return sum(BudgetWindow.objects.filter(budget=budget).values_list("spent_nano_usd", flat=True))


def verified() -> str:
    """What `verify_money` says; it raises when the books do not balance."""
    said = StringIO()
    call_command("verify_money", stdout=said)
    return said.getvalue()
