"""Changes to budgets that need checking first."""

from __future__ import annotations

import datetime as dt

from django.utils import timezone

from billing.errors import BudgetError
from billing.models import Budget, BudgetOverride, Scope
from billing.money import nano_from_usd
from providers.models import Model, Provider
from tenants.models import ApiKey, Operator, Project


def read_limit(text: str) -> int:
    """A limit as people type it, in USD, as nano-USD. Raises `BudgetError` with the reason."""
    try:
        return nano_from_usd(text.strip())
    except ValueError as error:
        raise BudgetError(str(error)) from error


def check_subject(budget: Budget) -> None:
    """Refuse a subject that nothing bears: its budget would limit no call. Raises `BudgetError`.

    An end user's name is the client's to choose, so any will do.
    """
    named = {
        Scope.PROJECT: Project.objects.filter(tenant_id=budget.tenant_id),
        Scope.KEY: ApiKey.objects.filter(tenant_id=budget.tenant_id),
        Scope.MODEL: Model.objects.all(),
        Scope.PROVIDER: Provider.objects.all(),
    }
    rows = named.get(Scope(budget.scope))
    if budget.subject and rows is not None and not rows.filter(name=budget.subject).exists():
        whose = " of this tenant" if budget.scope in (Scope.PROJECT, Scope.KEY) else ""
        hint = " A group is not charged; the model that answers is." if budget.scope == Scope.MODEL else ""
        raise BudgetError(f"No {budget.scope}{whose} is called {budget.subject!r}.{hint}")


def allow_more(
    budget: Budget, extra_nano_usd: int, *, expires_at: dt.datetime, reason: str, by: Operator | None
) -> BudgetOverride:
    """Raise a budget's limit until a moment; the next call counts with it. Raises `BudgetError`."""
    if extra_nano_usd < 1:
        raise BudgetError("Allow more than nothing.")
    if expires_at <= timezone.now():
        raise BudgetError("This moment has passed.")
    if not reason.strip():
        raise BudgetError("Say why: the reason stays with the budget.")
    return BudgetOverride.objects.create(
        budget=budget, extra_nano_usd=extra_nano_usd, expires_at=expires_at, reason=reason.strip(), created_by=by
    )
