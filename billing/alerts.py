"""Telling tenants of the thresholds their budgets have crossed."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from billing.models import BudgetAlert
from billing.money import usd
from tenants.audit import SYSTEM, record, subject_of
from tenants.notifications import notify

AT_ONCE = 200


def send_alerts() -> int:
    """Turn every unsent alert into a notification, each once however many workers do this; returns how many."""
    sent = 0
    while count := _send_some():
        sent += count
    return sent


@transaction.atomic
def _send_some() -> int:
    """The notification and the mark that it was sent are one transaction: neither is without the other."""
    unsent = BudgetAlert.objects.filter(sent_at=None).select_related("window__budget__tenant")
    alerts = list(unsent.select_for_update(skip_locked=True, of=("self",)).order_by("pk")[:AT_ONCE])
    for alert in alerts:
        notify(
            alert.window.budget.tenant_id, "budget.alert", key=f"{alert.window_id}:{alert.percent}", data=_data(alert)
        )
        record("budget.alert", by=SYSTEM, about=subject_of(alert.window.budget), details=_data(alert))
        alert.sent_at = timezone.now()
    BudgetAlert.objects.bulk_update(alerts, ["sent_at"])
    return len(alerts)


def _data(alert: BudgetAlert) -> dict[str, Any]:
    """What was crossed, and how the window stands now; amounts in USD, as texts."""
    window = alert.window
    budget = window.budget
    return {
        "tenant": budget.tenant.name,
        "budget": budget.pk,
        "scope": budget.scope,
        "subject": window.subject,
        "period": budget.period,
        "hard": budget.hard,
        "percent": alert.percent,
        "limit_usd": usd(budget.limit_nano_usd),
        "spent_usd": usd(window.spent_nano_usd),
        "reserved_usd": usd(window.reserved_nano_usd),
        "crossed_at": alert.crossed_at.isoformat(),
        "resets_at": window.ends_at.isoformat() if window.ends_at else None,
    }
