"""What tenants pay on top of cost, or less: typed in percent, kept in hundredths of one."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal, InvalidOperation

from django.db import transaction

from billing.errors import StatementError
from billing.models import Markup, Statement, StatementKind
from billing.models.statements import HIGHEST_MARKUP_BASIS_POINTS, LOWEST_MARKUP_BASIS_POINTS
from billing.money import plain
from billing.statements.periods import FINAL
from tenants.models import Operator, Tenant

MOST_PERCENT_CHARACTERS = 12


def markup_at(tenant_id: int, moment: dt.datetime) -> int:
    """The basis points that hold for a period that begins at a moment; 0 without any. One query."""
    holding = Markup.objects.filter(tenant_id=tenant_id, valid_from__lte=moment).order_by("-valid_from", "-pk").first()
    return holding.basis_points if holding else 0


def read_percent(text: str) -> int:
    """A percentage such as "12.5" or "-3" as basis points. Raises `StatementError` with the reason."""
    text = text.strip().removesuffix("%").strip()
    try:
        percent = Decimal(text) if len(text) <= MOST_PERCENT_CHARACTERS else Decimal("NaN")
    except InvalidOperation:
        percent = Decimal("NaN")
    if not percent.is_finite():
        raise StatementError(f"{text[:40]!r} is not a percentage; write one such as 12.5, or -3 for a discount.")
    if not LOWEST_MARKUP_BASIS_POINTS <= percent * 100 <= HIGHEST_MARKUP_BASIS_POINTS:
        raise StatementError("A markup is from -100 % (a discount of all) to 1000 %.")
    if percent * 100 % 1:
        raise StatementError(f"{text} is finer than a hundredth of a percent.")
    return int(percent * 100)


def percent_text(basis_points: int) -> str:
    """Basis points as people read them: +12.5 %, -3 %."""
    sign = "+" if basis_points > 0 else ""
    return f"{sign}{plain(Decimal(basis_points) / 100)} %"


def check_markup(tenant: Tenant, *, valid_from: dt.datetime) -> None:
    """Refuse a markup for periods that are stated already. Raises `StatementError`. One query."""
    issued = Statement.objects.filter(
        tenant=tenant, kind=StatementKind.STATEMENT, state__in=FINAL, starts_at__gte=valid_from
    ).first()
    if issued is not None:
        raise StatementError(
            f"{issued.number} is issued for a period that begins after this moment: choose a later one."
        )


@transaction.atomic
def set_markup(
    tenant: Tenant, basis_points: int, *, valid_from: dt.datetime, reason: str, by: Operator | None
) -> Markup:
    """Supersede a tenant's markup for periods that begin at a moment or later. Raises `StatementError`."""
    if not LOWEST_MARKUP_BASIS_POINTS <= basis_points <= HIGHEST_MARKUP_BASIS_POINTS:
        raise StatementError("A markup is from -100 % (a discount of all) to 1000 %.")
    if not reason.strip():
        raise StatementError("Say why: the reason stays with the markup.")
    Tenant.objects.select_for_update(no_key=True).get(pk=tenant.pk)
    check_markup(tenant, valid_from=valid_from)
    return Markup.objects.create(
        tenant=tenant, basis_points=basis_points, valid_from=valid_from, reason=reason.strip(), created_by=by
    )
