"""Each threshold that was crossed is told once, whoever looks at the same time."""

from __future__ import annotations

import threading

import pytest
from django.db import connection
from django.utils import timezone

from billing.alerts import send_alerts
from billing.models import Budget, BudgetAlert, BudgetWindow
from billing.money import NANO_PER_USD
from tenants.models import Notification
from tests.factories import make_tenant


def cross(*percentages: int) -> BudgetWindow:
    budget = Budget.objects.create(
        tenant=make_tenant("acme"), scope="user", period="total", limit_nano_usd=NANO_PER_USD, hard=False
    )
    window = BudgetWindow.objects.create(
        budget=budget, subject="u-1", starts_at=timezone.now(), spent_nano_usd=900_000_000, reserved_nano_usd=5
    )
    for percent in percentages:
        BudgetAlert.objects.create(window=window, percent=percent)
    return window


@pytest.mark.django_db
def test_an_alert_becomes_a_notification_and_is_marked() -> None:
    window = cross(50, 80)
    assert send_alerts() == 2
    assert send_alerts() == 0
    assert not BudgetAlert.objects.filter(sent_at=None).exists()
    told = Notification.objects.get(key=f"{window.pk}:80")
    assert told.event == "budget.alert" and told.tenant == window.budget.tenant
    assert told.data == {
        "tenant": "acme", "budget": window.budget_id, "scope": "user", "subject": "u-1", "period": "total",
        "hard": False, "percent": 80, "limit_usd": "1", "spent_usd": "0.9", "reserved_usd": "0.000000005",
        "crossed_at": BudgetAlert.objects.get(percent=80).crossed_at.isoformat(), "resets_at": None,
    }  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_workers_at_once_send_each_once() -> None:
    cross(*range(1, 101))
    sent: list[int] = []
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        sent.append(send_alerts())
        connection.close()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert sum(sent) == Notification.objects.count() == 100


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_dies_between_the_two_leaves_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    cross(50)

    def die(*_arguments: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(type(BudgetAlert.objects), "bulk_update", die)
        send_alerts()
    assert not Notification.objects.exists()
    assert send_alerts() == 1
