"""What the nightly job does for one tenant: short, and harmless to repeat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.db import transaction

from billing.models import Statement
from billing.statements.drafting import make_draft
from billing.statements.entries import database_now
from billing.statements.lifecycle import SAFETY_MARGIN, finish, refuse_early
from billing.statements.periods import FINAL, Span, periods_due, schedule_of
from tenants.models import Tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A statement that a run has made or brought up to date, and why it is a draft still, if it is."""

    statement: Statement
    held_back: str


def make_due_statements(
    tenant_id: int, *, wanted: Callable[[Tenant, Span], bool] = lambda tenant, span: True
) -> list[Made]:
    """Bring a tenant's drafts up to date and issue those whose period is over; `wanted` leaves others aside.

    Each statement is a transaction of its own: whatever ends this midway leaves whole ones, and the next run goes on.
    """
    tenant = Tenant.objects.get(pk=tenant_id)
    issues_by_itself = schedule_of(tenant).issues_by_itself
    now = database_now()
    made: list[Made] = []
    for span in periods_due(tenant, now=now):
        if not wanted(tenant, span):
            continue
        may_issue = issues_by_itself and all(one.statement.state in FINAL for one in made)
        with transaction.atomic():  # in one with the draft, so that a second worker finds it issued
            statement = make_draft(tenant.pk, span)
            if statement is None:
                continue
            held_back = _why_held_back(statement, is_over=span.end + SAFETY_MARGIN <= now, may_issue=may_issue)
            if not held_back and statement.state not in FINAL:
                refuse_early(statement)
                statement = finish(statement, by=None)
        made.append(Made(statement=statement, held_back=held_back))
    return made


def _why_held_back(statement: Statement, *, is_over: bool, may_issue: bool) -> str:
    """Why the job leaves a draft as one; empty when it does not."""
    if statement.state in FINAL:
        return ""
    if not is_over:
        return "its period is under way"
    if statement.unpriced_calls:
        return f"{statement.unpriced_calls:,} calls had no price: an owner issues it with a reason"
    return "" if may_issue else "an owner issues it, or the one before it"
