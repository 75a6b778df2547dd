"""From draft to issued to locked. What is issued never changes; the database refuses it too."""

from __future__ import annotations

import datetime as dt

from django.db import transaction
from django.db.models import Max

from billing.errors import StatementError
from billing.models import Statement, StatementKind, StatementState
from billing.statements.announcement import announce
from billing.statements.drafting import fill, lock_tenant
from billing.statements.entries import database_now, first_posted
from billing.statements.periods import FINAL, issued_until
from tenants.models import Operator, Tenant

SAFETY_MARGIN = dt.timedelta(minutes=5)
"""After a period's end. A settle takes the moment of its entry and commits within seconds (its statement timeout is 2
s); after five minutes none that began in the period can still add to it."""

PREFIXES = {StatementKind.STATEMENT: "S", StatementKind.CREDIT_NOTE: "C"}


@transaction.atomic
def issue(statement_id: int, *, by: Operator | None, reason: str = "") -> Statement:
    """Make a draft anew, once more, and final: it gets its number. Raises `StatementError`.

    Calls without a price need a reason: nobody will ever pay for them.
    """
    _, draft = _locked(statement_id)
    refuse_early(draft)
    filled = fill(draft)
    if filled is None:
        raise StatementError("Nothing was posted in this period: there is nothing to state.")
    if filled.unpriced_calls and not reason.strip():
        raise StatementError(
            f"{filled.unpriced_calls:,} calls had no price and are at no cost. Give a reason to issue it all the same."
        )
    filled.reason = reason.strip()
    return finish(filled, by=by)


def refuse_early(draft: Statement) -> None:
    """Raise `StatementError` for a draft that may not be issued yet. The tenant is locked."""
    if draft.state != StatementState.DRAFT:
        raise StatementError(f"{draft.number} is issued already.")
    if database_now() < draft.ends_at + SAFETY_MARGIN:
        raise StatementError(
            f"Its period ends at {draft.ends_at:%Y-%m-%d %H:%M} UTC: it can be issued five minutes after that."
        )
    _refuse_gap(draft)


def finish(draft: Statement, *, by: Operator | None) -> Statement:
    """Number and close a draft that is complete, and have the tenant told. The tenant is locked."""
    kind = StatementKind(draft.kind)
    last = Statement.objects.filter(tenant=draft.tenant, kind=kind).aggregate(last=Max("sequence"))["last"]
    draft.sequence = (last or 0) + 1
    draft.number = f"{PREFIXES[kind]}-{draft.tenant_id:04d}-{draft.sequence:05d}"
    draft.state, draft.issued_at, draft.issued_by = StatementState.ISSUED, database_now(), by
    draft.save()
    announce(draft)
    return draft


@transaction.atomic
def lock(statement_id: int, *, by: Operator | None) -> Statement:
    """Mark what is issued as settled with the tenant; only a credit note can follow. Raises `StatementError`."""
    _, statement = _locked(statement_id)
    if statement.state != StatementState.ISSUED:
        raise StatementError(f"Only an issued statement is locked; this is {statement.get_state_display().lower()}.")
    statement.state, statement.locked_at, statement.locked_by = StatementState.LOCKED, database_now(), by
    statement.save(update_fields=["state", "locked_at", "locked_by"])
    return statement


@transaction.atomic
def refresh(statement_id: int) -> Statement | None:
    """Make a draft anew from the ledger; None when nothing is left of it. Raises `StatementError`."""
    _, draft = _locked(statement_id)
    return fill(draft)


def _locked(statement_id: int) -> tuple[Tenant, Statement]:
    """A statement as it stands once its tenant is ours alone."""
    tenant_id = Statement.objects.values_list("tenant_id", flat=True).get(pk=statement_id)
    tenant = lock_tenant(tenant_id)
    statement = Statement.objects.filter(pk=statement_id).first()
    if statement is None:
        raise StatementError("This draft was replaced meanwhile: look at the list.")
    return tenant, statement


def _refuse_gap(draft: Statement) -> None:
    """Statements are issued in order: what a gap held could get on none of them later."""
    later = Statement.objects.filter(
        tenant=draft.tenant, kind=StatementKind.STATEMENT, state__in=FINAL, ends_at__gt=draft.starts_at
    ).first()
    if later is not None:
        raise StatementError(f"{later.number} is issued for a later period.")
    entry_at = first_posted(draft.tenant_id, start=issued_until(draft.tenant), end=draft.starts_at)
    if entry_at is not None:
        raise StatementError(
            f"What was posted since {entry_at:%Y-%m-%d %H:%M} UTC is on no statement yet: issue that first."
        )
