"""The consequence of a budget, in sentences, while it is being typed: nothing is saved."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from billing.admin.budget_display import period_text
from billing.budget_paces import pace_of
from billing.budget_services import read_limit
from billing.budget_trees import Branch, budget_tree
from billing.errors import BudgetError
from billing.models import Budget, Period, Scope
from billing.money import usd
from tenants.models import ApiKey, Tenant


def typed_budget(form: Mapping[str, str]) -> Budget:
    """The budget as the form has it so far; of a saved one only the limit and whether it is hard can differ.

    Raises `BudgetError` with what is missing.
    """
    limit = form.get("limit", "").strip()
    saved = form.get("budget", "")
    if saved:
        budget = Budget.objects.select_related("tenant").filter(pk=_number(saved)).first()
        if budget is None:
            raise BudgetError("This budget is not there any more.")
    else:
        tenant = Tenant.objects.filter(pk=_number(form.get("tenant", ""))).first()
        if tenant is None:
            raise BudgetError("Choose a tenant, and type a limit, to see what it would mean.")
        budget = Budget(tenant=tenant, scope=form.get("scope", ""), period=form.get("period", ""))
        budget.subject = "" if budget.scope == Scope.TENANT else form.get("subject", "").strip()[:256]
        if budget.scope not in Scope.values or budget.period not in Period.values:
            raise BudgetError("Choose what it is about, and for how long.")
    if not limit:
        raise BudgetError("Type a limit to see what it would mean.")
    budget.limit_nano_usd = read_limit(limit)
    budget.hard = form.get("hard") == "on"
    return budget


def preview_lines(budget: Budget, now: dt.datetime) -> list[str]:
    """The last seven days beside the limit, when it runs out, and which level holds in effect."""
    pace = pace_of(budget, now)
    limit = usd(budget.limit_nano_usd)
    lines = [
        f"In the last 7 days: {usd(pace.spent_nano_usd)} USD in {pace.calls:,} calls, "
        f"about {usd(pace.a_day_nano_usd)} USD a day."
    ]
    if budget.pk is not None:
        lines.append(f"In this period {usd(pace.spent_now_nano_usd)} USD are counted already.")
    elif pace.spent_nano_usd:
        lines.append("It counts from when it is saved: what was spent before does not count.")
    if pace.exhausted_at is not None and pace.exhausted_at <= now:
        lines.append(f"{limit} USD are spent already: {_meets(budget)} from now on.")
    elif pace.exhausted_at is not None:
        lines.append(f"At this pace {limit} USD run out on {pace.exhausted_at:%Y-%m-%d %H:%M} UTC.")
    elif pace.spent_nano_usd:
        lines.append(
            f"At this pace {limit} USD last until the period ends on {pace.ends_at:%Y-%m-%d %H:%M} UTC."
            if pace.ends_at is not None
            else f"At this pace {limit} USD last more than ten years."
        )
    if pace.calls:
        would = "would have been refused" if budget.hard else "would have been above it"
        lines.append(f"Of the last 7 days' calls, {pace.above:,} {would}.")
    return [*lines, *_level_lines(budget, now, spent_now=pace.spent_now_nano_usd)]


def _meets(budget: Budget) -> str:
    return "calls are refused" if budget.hard else "it alerts"


def _level_lines(budget: Budget, now: dt.datetime, *, spent_now: int) -> list[str]:
    """Which of the hard budgets above leaves less than this one would."""
    above = [branch for branch in budget_tree(budget.tenant_id, now) if _is_above(branch, budget)]
    hard = [branch for branch in above if branch.budget.hard and branch.budget.enabled]
    if not hard:
        return ["No hard budget above it: this one binds." if budget.hard else "It is soft, and refuses nothing."]
    tightest = min(hard, key=lambda branch: branch.standing.remaining_nano_usd)
    left = tightest.standing.remaining_nano_usd
    name = f"{tightest.whose.lower()} ({period_text(tightest.standing)})"
    if left < budget.limit_nano_usd - spent_now or not budget.hard:
        return [f"In effect less: the budget of {name} has {usd(left)} USD left and binds."]
    return [f"This one binds: the budget of {name} has {usd(left)} USD left."]


def _is_above(branch: Branch, budget: Budget) -> bool:
    if branch.budget.pk == budget.pk or budget.scope == Scope.TENANT:
        return False
    if branch.budget.scope == Scope.TENANT:
        return True
    if branch.budget.scope != Scope.PROJECT or budget.scope != Scope.KEY:
        return False
    key = ApiKey.objects.filter(tenant=budget.tenant_id, name=budget.subject).select_related("project").first()
    return key is not None and key.project is not None and branch.budget.subject == key.project.name


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
