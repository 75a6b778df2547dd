"""What a tenant's page shows, gathered: a fixed number of queries, and sums that are read from buckets."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from billing.admin.budget_display import bar, forecast
from billing.budget_trees import Branch, budget_tree
from billing.models import Attempt, AttemptState, Statement
from billing.money import NANO_PER_USD, usd
from billing.statements.documents import cents, period_name
from billing.statements.documents import title as statement_title
from billing.statements.periods import FINAL
from billing.usage_sums import BY_DAY, Stretch, UsageSums, group_usage, sum_usage
from gateway.desk.charts import sparkline, stacked_bars
from gateway.desk.possibilities import Outcome, Possibilities, possibilities
from gateway.limit_buckets import duration, owner
from gateway.models import HookBinding, RealtimeSession
from providers.models import ApprovalState, TenantApproval
from tenants.admin.keys import is_active
from tenants.models import LIMIT_FIELDS, ApiKey, Membership, RateLimit, Tenant
from tenants.operator_admin import OperatorModelAdmin
from tenants.scoping import is_member

DAYS_SHOWN = 31
"""The whole of this month, whatever the day."""

ROWS_SHOWN = 50
STATEMENTS_SHOWN = 6


def fill_page(request: HttpRequest, tenant: Tenant, *, site: AdminSite) -> dict[str, Any]:
    """The page's parts by name."""
    now = timezone.now()
    keys = list(tenant.keys.select_related("project", "tenant").order_by("revoked_at", "name")[: ROWS_SHOWN + 1])
    return {
        "usage": _usage(tenant, now),
        "branches": [_branch(branch, now) for branch in budget_tree(tenant.pk, now)],
        "keys": _keys(request, keys[:ROWS_SHOWN], site=site),
        "more_keys": len(keys) > ROWS_SHOWN,
        "rate_limits": [(limit, _limit_words(limit)) for limit in tenant.rate_limits.all()[:ROWS_SHOWN]],
        "approvals": _approvals(tenant),
        "hooks": list(HookBinding.objects.filter(tenant=tenant).order_by("position", "pk")[:ROWS_SHOWN]),
        "members": list(Membership.objects.filter(tenant=tenant).select_related("operator")[:ROWS_SHOWN]),
        "statements": _statements(request, tenant),
        "right_now": _right_now(request, keys),
        "links": _links(request, tenant),
    }


# Usage --------------------------------------------------------------------------------------------------------------
def _usage(tenant: Tenant, now: dt.datetime) -> dict[str, Any]:
    """The last days, by day and model."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    start = midnight - dt.timedelta(days=DAYS_SHOWN - 1)
    groups = group_usage((BY_DAY, "model_name"), Stretch(start=start), narrow=lambda rows: rows.filter(tenant=tenant))
    days = [(start + dt.timedelta(days=place)).date() for place in range(DAYS_SHOWN)]
    by_day = dict.fromkeys(days, UsageSums())
    costs: dict[str, dict[dt.date, int]] = {}
    for (day, model), sums in groups:
        if day in by_day:
            by_day[day] += sums
            of_model = costs.setdefault(model or "adjustments", {})
            of_model[day] = of_model.get(day, 0) + sums.cost_nano_usd
    labels = [f"{day:%m-%d}" for day in days]
    series = {model: [_dollars(of_day.get(day, 0)) for day in days] for model, of_day in costs.items()}
    month = sum((sums for day, sums in by_day.items() if day >= midnight.date().replace(day=1)), UsageSums())
    return {
        "tiles": [
            ("Today", _tile(by_day[midnight.date()])),
            ("This month", _tile(month)),
            (f"In {DAYS_SHOWN} days", _tile(sum(by_day.values(), UsageSums()))),
        ],
        "chart": stacked_bars("Spent a day, by model", labels, series=series, unit="USD"),
        "calls": sparkline("Calls a day", [sums.calls for sums in by_day.values()], unit="calls"),
        "now": now,
    }


def _tile(sums: UsageSums) -> dict[str, str]:
    unpriced = f"{sums.unpriced_calls:,}" if sums.unpriced_calls else ""
    return {"cost": usd(sums.cost_nano_usd), "calls": _calls(sums.calls), "unpriced": unpriced}


def _dollars(nano_usd: int) -> Decimal:
    return Decimal(nano_usd) / NANO_PER_USD


# Budgets and limits -------------------------------------------------------------------------------------------------
def _branch(branch: Branch, now: dt.datetime) -> dict[str, Any]:
    """A budget of the tree as its row shows it."""
    budget, standing = branch.budget, branch.standing
    return {
        "branch": branch,
        "url": reverse("admin:billing_budget_change", args=[budget.pk]),
        "kind": "off" if not budget.enabled else "hard" if budget.hard else "soft",
        "period": "for good" if budget.period == "total" else f"a {budget.period}",
        "bar": bar(standing, remark=f" of {usd(standing.limit_nano_usd)}"),
        "held": usd(standing.reserved_nano_usd),
        "forecast": forecast(standing, now) if budget.enabled else "Off: nothing is counted",
        "history": sparkline(
            f"{branch.whose}, spent in the last periods", [_dollars(spent) for spent in branch.history], unit="USD"
        )
        if len(branch.history) > 1
        else "",
        "effective": effective_words(branch),
    }


def effective_words(branch: Branch) -> str:
    """What may still be spent, and which level holds it there."""
    if branch.binding is None or branch.effective_nano_usd is None:
        return "no hard budget holds it"
    left = f"{usd(branch.effective_nano_usd)} USD left"
    if branch.binding.pk == branch.budget.pk:
        return f"{left}, bound by this budget"
    whose = f"{branch.binding.scope} {branch.binding.subject}".strip()
    return f"{left}, bound by the {whose} budget above"


def _limit_words(limit: RateLimit) -> str:
    set_ones = [(name, getattr(limit, name)) for name in LIMIT_FIELDS]
    return ", ".join(f"{value:,} {name.replace('_per_', ' a ')}" for name, value in set_ones if value is not None)


# Keys, models, statements -------------------------------------------------------------------------------------------
def _keys(request: HttpRequest, keys: Sequence[ApiKey], *, site: AdminSite) -> list[dict[str, Any]]:
    key_admin = site.get_model_admin(ApiKey)
    assert isinstance(key_admin, OperatorModelAdmin)
    return [
        {
            "key": key,
            "url": reverse("admin:tenants_apikey_change", args=[key.pk]),
            "state": "revoked" if key.revoked_at else "active" if is_active(key) else "expired",
            "rotating": key.previous_until is not None and key.previous_until > timezone.now(),
            "actions": key_admin.offered_actions(key, permitted_to=request),
        }
        for key in keys
    ]


def _approvals(tenant: Tenant) -> list[TenantApproval]:
    rows = TenantApproval.objects.filter(tenant=tenant).exclude(state=ApprovalState.REJECTED)
    return list(rows.select_related("model", "group", "tenant")[:ROWS_SHOWN])


def _statements(request: HttpRequest, tenant: Tenant) -> list[dict[str, Any]]:
    rows = Statement.objects.filter(tenant=tenant).order_by("-starts_at", "-pk")
    if is_member(request.user):
        rows = rows.filter(state__in=FINAL)
    return [
        {
            "url": reverse("admin:billing_statement_change", args=[row.pk]),
            "title": statement_title(row),
            "period": period_name(row),
            "state": row.get_state_display(),
            "total": cents(row.total_cents),
        }
        for row in rows[:STATEMENTS_SHOWN]
    ]


def _links(request: HttpRequest, tenant: Tenant) -> dict[str, str]:
    """Where something is added to the tenant, for those who may."""
    pages = {
        "key": ("tenants.add_apikey", "tenants_apikey_add"),
        "budget": ("billing.add_budget", "billing_budget_add"),
        "limit": ("tenants.add_ratelimit", "tenants_ratelimit_add"),
        "model": ("providers.add_tenantapproval", "providers_tenantapproval_add"),
        "hook": ("gateway.add_hookbinding", "gateway_hookbinding_add"),
        "member": ("tenants.add_membership", "tenants_membership_add"),
    }
    return {
        name: f"{reverse(f'admin:{page}')}?tenant={tenant.pk}"
        for name, (permission, page) in pages.items()
        if request.user.has_perm(permission)
    }


# Right now ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Row:
    """A model or group, and what would become of a call to it."""

    outcome: Outcome
    effective: str

    @property
    def passed_over(self) -> str:
        return "; ".join(self.outcome.skipped)


def _right_now(request: HttpRequest, keys: Sequence[ApiKey]) -> dict[str, Any]:
    """What a chosen key could do, by default the first that works."""
    chosen = request.GET.get("key", "")
    user = request.GET.get("user", "").strip()[:128]
    working = [key for key in keys if is_active(key)]
    key = next((key for key in keys if str(key.pk) == chosen), working[0] if working else None)
    shown: dict[str, Any] = {"choices": [one for one in keys if one.revoked_at is None], "chosen": key, "user": user}
    if key is None:
        return shown
    found = possibilities(key, user=user)
    shown["found"] = found
    shown["rows"] = [Row(outcome, _effective(outcome)) for outcome in found.outcomes]
    shown["limits"] = _limit_rows(found)
    shown["open"] = sum(outcome.is_open for outcome in found.outcomes)
    return shown


def _limit_rows(found: Possibilities) -> list[dict[str, str]]:
    return [
        {
            "whose": owner(standing.bucket),
            "what": f"{standing.bucket.measure.what} {standing.bucket.measure.window and 'a '}"
            f"{standing.bucket.measure.window}",
            "left": f"{max(0, standing.limit - standing.used):,} of {standing.limit:,}",
            "fresh": duration(standing.reset_ms) if standing.used else "none of it is used",
        }
        for standing in found.limits
    ]


def _effective(outcome: Outcome) -> str:
    """The budget that holds a call, in words."""
    if outcome.rehearsal is None:
        return ""
    binding = outcome.rehearsal.binding
    if binding is None:
        return "no hard budget is about it"
    whose = f"{binding.scope} {binding.subject}".strip()
    period = "for good" if binding.period == "total" else f"this {binding.period}"
    return f"{usd(binding.room_nano_usd)} USD left {period}, bound by the {whose} budget"


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"


# Suspending ---------------------------------------------------------------------------------------------------------
def suspension_in_numbers(tenant: Tenant) -> list[str]:
    """What stops when a tenant is suspended."""
    now = timezone.now()
    keys = sum(is_active(key) for key in tenant.keys.all())
    last_day = Stretch(start=now - dt.timedelta(hours=24))
    day = sum_usage(last_day, narrow=lambda rows: rows.filter(tenant=tenant))
    under_way = Attempt.objects.filter(tenant=tenant, state=AttemptState.OPEN).count()
    voices = RealtimeSession.objects.filter(tenant=tenant, closed_at=None).count()
    return [
        f"{keys:,} working key{'' if keys == 1 else 's'} will be refused, with tenant_suspended (403).",
        f"In the last 24 hours they made {_calls(day.calls)} for {usd(day.cost_nano_usd)} USD.",
        f"Under way now: {_calls(under_way)}, which finish and are charged.",
        f"Open now: {voices:,} voice session{'' if voices == 1 else 's'}.",
    ]
