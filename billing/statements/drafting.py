"""Drafts: made whole in one transaction, and made anew from the ledger as often as one likes."""

from __future__ import annotations

from django.db import transaction
from django.db.models import Sum

from billing.errors import StatementError
from billing.models import Statement, StatementKind, StatementState
from billing.statements.amounts import amounts_of
from billing.statements.content import content_hash
from billing.statements.entries import database_now, write_lines
from billing.statements.markups import markup_at
from billing.statements.periods import FINAL, Span, schedule_of
from tenants.models import Tenant


def lock_tenant(tenant_id: int) -> Tenant:
    """Let one worker at a time make, issue or credit a tenant's statements; ends with the transaction."""
    return Tenant.objects.select_for_update(no_key=True).get(pk=tenant_id)


@transaction.atomic
def make_draft(tenant_id: int, span: Span) -> Statement | None:
    """Bring a tenant's draft for a period up to date; None when nothing was posted in it.

    The same entries give the same lines and the same hash. An issued statement is returned as it is. Raises
    `StatementError` for a period that overlaps an issued one.
    """
    tenant = lock_tenant(tenant_id)
    touching = Statement.objects.filter(
        tenant=tenant, kind=StatementKind.STATEMENT, starts_at__lt=span.end, ends_at__gt=span.start
    )
    issued = touching.filter(state__in=FINAL).first()
    if issued is not None:
        if (issued.starts_at, issued.ends_at) == (span.start, span.end):
            return issued
        raise StatementError(f"This period overlaps {issued.number}, which is issued.")
    # A changed time zone or schedule leaves drafts of other periods behind.
    touching.exclude(starts_at=span.start, ends_at=span.end).delete()
    draft, _ = Statement.objects.get_or_create(
        tenant=tenant, kind=StatementKind.STATEMENT, starts_at=span.start, defaults={"ends_at": span.end}
    )
    draft.tenant, draft.period, draft.timezone = tenant, schedule_of(tenant).period, tenant.timezone
    draft.tenant_name = tenant.name
    return fill(draft)


def fill(draft: Statement) -> Statement | None:
    """Write a draft's lines and figures anew; without any line it goes. The tenant is locked."""
    if draft.state != StatementState.DRAFT:
        raise StatementError(f"{draft.number} is issued.")
    draft.lines.all().delete()
    write_lines(draft.pk, draft.tenant_id, start=draft.starts_at, end=draft.ends_at)
    sums = draft.lines.aggregate(
        subtotal=Sum("cost_nano_usd"), calls=Sum("calls"), unpriced_calls=Sum("unpriced_calls")
    )
    if sums["subtotal"] is None:
        draft.delete()
        return None
    draft.calls, draft.unpriced_calls = int(sums["calls"]), int(sums["unpriced_calls"])
    draft.markup_basis_points = markup_at(draft.tenant_id, draft.starts_at)
    amounts = amounts_of(int(sums["subtotal"]), draft.markup_basis_points)
    draft.subtotal_nano_usd, draft.markup_nano_usd = amounts.subtotal_nano_usd, amounts.markup_nano_usd
    draft.rounding_nano_usd, draft.total_cents = amounts.rounding_nano_usd, amounts.total_cents
    draft.content_hash, draft.made_at = content_hash(draft), database_now()
    draft.save()
    return draft
