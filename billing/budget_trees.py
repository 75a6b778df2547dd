"""A tenant's budgets as a tree: what each stands at, and what it comes to in effect, since those above hold too."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.db.models import F, Window
from django.db.models.functions import RowNumber

from billing.models import Budget, BudgetWindow, Scope
from billing.standings import USED, Standing, fullest_standings, standing_of, windows_now, with_extras
from tenants.models import ApiKey

MOST_BUDGETS = 100
MOST_WINDOWS = 1000
PERIODS_SHOWN = 12
ORDER = (Scope.TENANT, Scope.PROJECT, Scope.KEY, Scope.USER, Scope.MODEL, Scope.PROVIDER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One budget in its place."""

    depth: int
    budget: Budget
    standing: Standing
    effective_nano_usd: int | None
    """What a further call may need at most, by this budget and every hard one above it; None where all are soft."""
    binding: Budget | None
    """Which of them that is."""
    history: Sequence[int]
    """What was spent in each of the last periods, the oldest first."""

    @property
    def whose(self) -> str:
        """What it is about, for people."""
        if self.budget.scope == Scope.TENANT:
            return "The whole tenant"
        return f"{self.budget.scope.capitalize()} {self.budget.subject}" if self.budget.subject else (
            f"Each {self.budget.scope}"
        )  # fmt: skip


def budget_tree(tenant_id: int, now: dt.datetime) -> list[Branch]:
    """The tenant's budgets, those above first, each followed by what is below it. Five queries."""
    rows = Budget.objects.filter(tenant_id=tenant_id).select_related("tenant")
    budgets = list(with_extras(rows, now).order_by("pk")[:MOST_BUDGETS])
    standings = fullest_standings(budgets, now)
    history = _history(budgets)
    project_of = dict(ApiKey.objects.filter(tenant=tenant_id).values_list("name", "project__name"))
    above = _Above(budgets, now)
    branches = []
    for depth, budget in _ordered(budgets, project_of):
        standing = standings[budget.pk]
        holding = [(budget, standing), *above.of(budget, project_of)]
        binding, room = _binding(holding)
        branches.append(
            Branch(
                depth=depth,
                budget=budget,
                standing=standing,
                effective_nano_usd=room,
                binding=binding,
                history=history[budget.pk],
            )
        )
    return branches


def _binding(holding: Iterable[tuple[Budget, Standing]]) -> tuple[Budget | None, int | None]:
    hard = [(standing.remaining_nano_usd, budget) for budget, standing in holding if budget.hard and budget.enabled]
    if not hard:
        return None, None
    room, budget = min(hard, key=lambda pair: pair[0])
    return budget, room


class _Above:
    """Which budgets hold what another one is about: the tenant's, and the project's of a key."""

    def __init__(self, budgets: Sequence[Budget], now: dt.datetime) -> None:
        self._budgets = [budget for budget in budgets if budget.scope in (Scope.TENANT, Scope.PROJECT)]
        windows = windows_now(self._budgets, now).order_by(USED.desc(), "pk")[:MOST_WINDOWS]
        self._windows = {(window.budget_id, window.subject): window for window in windows}
        self._now = now

    def of(self, budget: Budget, project_of: Mapping[str, str | None]) -> list[tuple[Budget, Standing]]:
        if budget.scope == Scope.TENANT:
            return []
        project = project_of.get(budget.subject) if budget.scope == Scope.KEY else None
        found = []
        for one in self._budgets:
            subject = "" if one.scope == Scope.TENANT else project
            if subject is None or (one.scope == Scope.PROJECT and one.subject not in ("", subject)):
                continue
            window = self._windows.get((one.pk, subject))
            found.append((one, standing_of(one, window, now=self._now, subject=subject)))
        return found


def _ordered(budgets: Sequence[Budget], project_of: Mapping[str, str | None]) -> list[tuple[int, Budget]]:
    """Tenant, then each project with its keys, then what hangs on the tenant alone."""
    by_scope: dict[str, list[Budget]] = defaultdict(list)
    for budget in budgets:
        by_scope[budget.scope].append(budget)
    keys = by_scope.pop(Scope.KEY, [])
    found: list[tuple[int, Budget]] = []
    for scope in ORDER:
        for budget in sorted(by_scope.get(scope, ()), key=lambda one: (one.subject, one.period)):
            found.append((0 if scope == Scope.TENANT else 1, budget))
            if scope == Scope.PROJECT and budget.subject:
                own = [key for key in keys if project_of.get(key.subject) == budget.subject]
                found += [(2, key) for key in own]
                keys = [key for key in keys if key not in own]
        if scope == Scope.KEY:
            found += [(1, key) for key in keys]
    return found


def _history(budgets: Sequence[Budget]) -> dict[int, list[int]]:
    """What the last periods came to, of budgets with one window in each. One query."""
    found: dict[int, list[int]] = {budget.pk: [] for budget in budgets}
    single = [budget.pk for budget in budgets if budget.subject or budget.scope == Scope.TENANT]
    place = Window(RowNumber(), partition_by=[F("budget_id")], order_by=F("starts_at").desc())
    rows = BudgetWindow.objects.filter(budget__in=single).annotate(place=place).filter(place__lte=PERIODS_SHOWN)
    for budget_id, spent in rows.order_by("starts_at").values_list("budget_id", "spent_nano_usd"):
        found[budget_id].append(spent)
    return found
