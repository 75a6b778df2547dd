"""GET /v1/budgets: what the calling key may still spend."""

from __future__ import annotations

from typing import Any

import orjson
from django.db import DatabaseError, InterfaceError
from django.db.models import Q
from django.http import HttpResponse
from django.utils import timezone

from billing.budgets import BudgetRule, CallFacts
from billing.models import Budget, Scope
from billing.money import usd
from billing.standings import USED, Standing, standing_of, windows_now, with_extras
from gateway.errors import OverloadedError
from gateway.handler import DataPlaneRequest
from gateway.responses import json_response
from gateway.views import DataPlaneView
from tenants import models as tenants

SHARED = (Scope.MODEL, Scope.PROVIDER)
"""Scopes whose budgets any key of the tenant may run into."""

MOST_WINDOWS = 1000


class BudgetsView(DataPlaneView):
    """The budgets that the key's calls are held in: never those of other projects, keys or users."""

    scope = tenants.Scope.USAGE

    async def get(self, request: DataPlaneRequest) -> HttpResponse:
        """Answer a list; amounts are USD as exact decimal strings."""
        caller = request.trace.caller
        assert caller is not None
        principal = caller.principal
        own = CallFacts(
            project=principal.project_name, user=principal.user, key=principal.key_name, model="", provider=""
        )
        subjects = {rule.id: own.subject(rule.scope) for rule in caller.budgets if _concerns(rule, own)}
        try:
            found = await request.gateway.directory.query(_standings, principal.tenant_id, subjects)
        except (DatabaseError, InterfaceError) as error:
            raise OverloadedError("The budgets cannot be read now.") from error
        data = [_describe(budget, standing) for budget, standing in found]
        return json_response(orjson.dumps({"object": "list", "data": data}))


def _concerns(rule: BudgetRule, own: CallFacts) -> bool:
    return rule.scope in SHARED or own.concern(rule)


def _standings(tenant_id: int, subjects: dict[int, str]) -> list[tuple[Budget, Standing]]:
    """Each budget, by id, with its standing for a subject; a budget of each model or provider with every one used.

    Two queries. Asked by id and by tenant: what a caller sees does not hang on one condition alone.
    """
    now = timezone.now()
    mine = Budget.objects.filter(tenant_id=tenant_id, pk__in=subjects, enabled=True).select_related("tenant")
    budgets = list(with_extras(mine, now).order_by("pk"))
    visible = Q(pk__in=())
    for budget in budgets:
        is_own = budget.scope not in SHARED
        visible |= Q(budget=budget, subject=subjects[budget.pk]) if is_own else Q(budget=budget)
    windows = windows_now(budgets, now).filter(visible).order_by("budget_id", USED.desc(), "pk")[:MOST_WINDOWS]
    used: dict[int, list[Standing]] = {budget.pk: [] for budget in budgets}
    by_id = {budget.pk: budget for budget in budgets}
    for window in windows:
        used[window.budget_id].append(standing_of(by_id[window.budget_id], window, now=now))
    return [
        (budget, standing)
        for budget in budgets
        for standing in used[budget.pk] or [standing_of(budget, None, now=now, subject=subjects[budget.pk])]
    ]


def _describe(budget: Budget, standing: Standing) -> dict[str, Any]:
    return {
        "object": "budget",
        "scope": budget.scope,
        "subject": standing.subject or None,
        "period": budget.period,
        "hard": budget.hard,
        "limit_usd": usd(standing.limit_nano_usd),
        "spent_usd": usd(standing.spent_nano_usd),
        "reserved_usd": usd(standing.reserved_nano_usd),
        "remaining_usd": usd(standing.remaining_nano_usd),
        "starts_at": standing.starts_at.isoformat(),
        "resets_at": standing.ends_at.isoformat() if standing.ends_at else None,
    }
