"""Telling a tenant that a statement or a credit note was issued."""

from __future__ import annotations

from django.conf import settings
from django.urls import reverse

from billing.models import Statement
from billing.money import usd
from billing.statements.documents import cents, period_name
from billing.statements.markups import percent_text
from tenants.notifications import notify

EVENT = "statement.issued"


def announce(statement: Statement) -> None:
    """Write down, in the transaction that issues it, that its tenant is to be told. Amounts are texts, in USD."""
    notify(
        statement.tenant_id,
        EVENT,
        key=statement.number,
        data={
            "number": statement.number,
            "kind": statement.kind,
            "credits": statement.credits.number if statement.credits else None,
            "period": period_name(statement),
            "starts_at": statement.starts_at.isoformat(),
            "ends_at": statement.ends_at.isoformat(),
            "calls": statement.calls,
            "subtotal_usd": usd(statement.subtotal_nano_usd),
            "markup": percent_text(statement.markup_basis_points),
            "markup_usd": usd(statement.markup_nano_usd),
            "rounding_usd": usd(statement.rounding_nano_usd),
            "total_usd": cents(statement.total_cents).replace(",", ""),
            "content_hash": statement.content_hash,
            "url": settings.PUBLIC_URL + reverse("admin:billing_statement_change", args=[statement.pk]),
        },
    )
