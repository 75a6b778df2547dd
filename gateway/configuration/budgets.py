"""A tenant's budgets in the file: reading them, making the database match, and writing them back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from billing.budget_services import check_subject, read_limit
from billing.errors import BudgetError
from billing.models import Budget, Period, Scope
from billing.money import usd
from gateway.configuration.document import BudgetEntry
from gateway.configuration.errors import ConfigurationError
from gateway.configuration.report import Report
from gateway.configuration.rows import put
from gateway.configuration.source import Entry, Value
from tenants.models import Tenant

_KEYS = ("scope", "subject", "period", "limit_usd", "hard", "alert_at", "enabled")

_Identity = tuple[str, str, str]


def read_budgets(value: Value | None) -> tuple[BudgetEntry, ...] | None:
    """The entries of a tenant's `budgets`, each budget once. Raises `ConfigurationError`."""
    if value is None:
        return None
    seen: dict[_Identity, BudgetEntry] = {}
    for item in value.items():
        entry = _budget(item)
        identity = (entry.scope, entry.subject, entry.period)
        if identity in seen:
            first = seen[identity].source.value.place.line
            raise item.refuse(f"this budget stands here twice, first in line {first}.")
        seen[identity] = entry
    return tuple(seen.values())


def _budget(value: Value) -> BudgetEntry:
    entry = Entry(value, _KEYS)
    alert_at = entry.get("alert_at")
    return BudgetEntry(
        source=entry,
        scope=entry.choice("scope", Scope.values, default=Scope.TENANT.value),
        subject=entry.text("subject"),
        period=entry.choice("period", Period.values, default=Period.MONTH.value),
        limit_nano_usd=_limit(entry.need("limit_usd")),
        hard=entry.boolean("hard", default=True),
        alert_at=_percentages(alert_at.items()) if alert_at else [],
        enabled=entry.boolean("enabled", default=True),
    )


def _limit(value: Value) -> int:
    try:
        return read_limit(value.text())
    except BudgetError as error:
        raise value.refuse(str(error)) from error


def _percentages(values: Iterable[Value]) -> list[int]:
    percentages: list[int] = []
    for value in values:
        percent = value.whole_number()
        if percent in percentages:
            raise value.refuse(f"{percent} stands here twice.")
        percentages.append(percent)
    return sorted(percentages)


def apply_budgets(tenant: Tenant, entries: Sequence[BudgetEntry], *, report: Report) -> None:
    """Create or change budgets; run it after the tenant's projects and keys, which they may name."""
    for entry in entries:
        identity = {"tenant": tenant, "scope": entry.scope, "subject": entry.subject, "period": entry.period}
        budget = Budget.objects.filter(**identity).first() or Budget(**identity)
        if budget.pk is None:
            _check_subject(budget, entry)
        wanted = {
            "limit_nano_usd": entry.limit_nano_usd,
            "hard": entry.hard,
            "alert_at": entry.alert_at,
            "enabled": entry.enabled,
        }
        put(budget, wanted, source=entry.source, subject=_subject(budget), report=report)


def _check_subject(budget: Budget, entry: BudgetEntry) -> None:
    try:
        check_subject(budget)
    except BudgetError as error:
        raise ConfigurationError(str(error), entry.source.place_of("subject")) from error


def _subject(budget: Budget) -> str:
    """How a report names a budget."""
    subject = f" {budget.subject}" if budget.subject else ""
    return f"budget of {budget.tenant.name}, {budget.scope}{subject}, {budget.period}"


def disable_budgets(tenant: Tenant, named: Sequence[BudgetEntry], *, report: Report) -> None:
    """Switch off the tenant's budgets that the file does not name: what was spent in them stays on record."""
    kept = {(entry.scope, entry.subject, entry.period) for entry in named}
    for budget in Budget.objects.filter(tenant=tenant, enabled=True).select_related("tenant").order_by("pk"):
        if (budget.scope, budget.subject, budget.period) not in kept:
            budget.enabled = False
            budget.save(update_fields=["enabled"])
            report.pruned(_subject(budget), "disabled")


def export_budgets(tenant: Tenant) -> list[dict[str, Any]]:
    """The tenant's budgets in the form that `read_budgets` reads; extras are left out, as they pass."""
    return [_form(budget) for budget in Budget.objects.filter(tenant=tenant).order_by("pk")]


def _form(budget: Budget) -> dict[str, Any]:
    form: dict[str, Any] = {"scope": budget.scope}
    if budget.subject:
        form["subject"] = budget.subject
    form |= {
        "period": budget.period,
        "limit_usd": usd(budget.limit_nano_usd),
        "hard": budget.hard,
        "alert_at": budget.alert_at,
    }
    if not budget.enabled:
        form["enabled"] = False
    return form
