"""Credit notes: what is taken off an issued statement, with a reason for each line, and never more than is on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Sum

from billing.adjustments import adjust_past
from billing.errors import StatementError
from billing.models import LineKind, Statement, StatementKind, StatementLine
from billing.money import usd
from billing.statements.amounts import Amounts, amounts_of, difference
from billing.statements.content import content_hash
from billing.statements.drafting import lock_tenant
from billing.statements.lifecycle import finish
from billing.statements.periods import FINAL
from tenants.models import Operator

MOST_REASON_CHARACTERS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """One line of a credit note: a positive amount at cost, and why. The names say what it is about, if anything."""

    amount_nano_usd: int
    reason: str
    project: str = ""
    user: str = ""
    model: str = ""
    provider: str = ""


def creditable_nano_usd(statement: Statement) -> int:
    """What of a statement's subtotal, at cost, no credit note has taken off yet. One query."""
    return max(statement.subtotal_nano_usd, 0) - _credited(statement)


def credit_amounts(statement: Statement, amount_nano_usd: int) -> Amounts:
    """What crediting an amount, at cost, takes off: negative, with the statement's own markup. One query."""
    credited = _credited(statement)
    before = amounts_of(-credited, statement.markup_basis_points)
    return difference(amounts_of(-credited - amount_nano_usd, statement.markup_basis_points), before)


@transaction.atomic
def credit(statement_id: int, credits: Sequence[Credit], *, by: Operator | None) -> Statement:
    """Issue a credit note for an issued or locked statement, and post it to the ledger. Raises `StatementError`."""
    tenant = lock_tenant(Statement.objects.values_list("tenant_id", flat=True).get(pk=statement_id))
    statement = Statement.objects.get(pk=statement_id)
    if statement.kind != StatementKind.STATEMENT or statement.state not in FINAL:
        raise StatementError("Only a statement that is issued can be credited.")
    _check(credits)
    amount = sum(one.amount_nano_usd for one in credits)
    creditable = creditable_nano_usd(statement)
    if amount > creditable:
        raise StatementError(f"{usd(amount)} USD is more than the {usd(creditable)} USD that can be credited still.")
    amounts = credit_amounts(statement, amount)
    note = Statement.objects.create(
        tenant=tenant,
        tenant_name=statement.tenant_name,
        kind=StatementKind.CREDIT_NOTE,
        period=statement.period,
        starts_at=statement.starts_at,
        ends_at=statement.ends_at,
        timezone=statement.timezone,
        credits=statement,
        reason=credits[0].reason.strip(),
        subtotal_nano_usd=amounts.subtotal_nano_usd,
        markup_basis_points=statement.markup_basis_points,
        markup_nano_usd=amounts.markup_nano_usd,
        rounding_nano_usd=amounts.rounding_nano_usd,
        total_cents=amounts.total_cents,
    )
    for position, one in enumerate(credits, start=1):
        line = _line(note, one, position=position)
        posted = adjust_past(tenant, line.cost_nano_usd, reason=f"Credited on {statement.number}", by=by)
        line.adjustment = posted.pk
        line.save()
    note.content_hash = content_hash(note)
    return finish(note, by=by)


def _credited(statement: Statement) -> int:
    total = Statement.objects.filter(credits=statement).aggregate(total=Sum("subtotal_nano_usd", default=0))["total"]
    return -int(total)


def _check(credits: Sequence[Credit]) -> None:
    if not credits:
        raise StatementError("A credit note has at least one line.")
    for one in credits:
        if one.amount_nano_usd < 1:
            raise StatementError("Credit more than nothing.")
        if not one.reason.strip() or len(one.reason) > MOST_REASON_CHARACTERS:
            raise StatementError(f"Each line needs a reason of at most {MOST_REASON_CHARACTERS} characters.")


def _line(note: Statement, credit: Credit, *, position: int) -> StatementLine:
    return StatementLine(
        statement=note,
        position=position,
        kind=LineKind.CREDIT,
        project=credit.project,
        user=credit.user,
        model=credit.model,
        provider=credit.provider,
        reason=credit.reason.strip(),
        cost_nano_usd=-credit.amount_nano_usd,
    )
