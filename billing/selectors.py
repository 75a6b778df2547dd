"""Questions about prices and usage, answered from the database."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict

from billing.budgets import BudgetRule
from billing.models import Budget, Price
from billing.pricing import PriceList, PriceVersion
from billing.tiers import stored_tiers


def price_holding(model_id: int, moment: dt.datetime) -> Price | None:
    """The price a model has at a moment; None when it has none. One query."""
    return Price.objects.filter(model_id=model_id, valid_from__lte=moment).order_by("-valid_from").first()


def load_prices() -> PriceList:
    """Every model's price versions. One query."""
    versions: dict[int, list[PriceVersion]] = defaultdict(list)
    rows = Price.objects.values_list("pk", "model_id", "valid_from", "rates", "tiers")
    for pk, model_id, valid_from, rates, tiers in rows:
        versions[model_id].append(PriceVersion(pk, valid_from, rates, stored_tiers(tiers)))
    return PriceList(versions)


def budget_rules(tenant_id: int) -> tuple[BudgetRule, ...]:
    """The budgets in force for a tenant. One query."""
    rows = Budget.objects.filter(tenant_id=tenant_id, enabled=True).order_by("pk")
    return tuple(
        BudgetRule(id=row.pk, scope=row.scope, subject=row.subject, period=row.period, hard=row.hard) for row in rows
    )
