"""What needs an operator: each thing is listed with what to do and where, and nothing else is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from redis import Redis

from billing.models import (
    BooksCheck,
    Budget,
    BudgetOverride,
    ReconciliationRun,
    UsageRecord,
)
from billing.money import NANO_PER_USD
from billing.standings import running_out
from gateway.desk.needs import Level, Need, find_needs
from gateway.models import AuditCheck
from providers.breakers import KEY
from providers.models import Credential, Deployment, Model, TenantApproval
from providers.services import propose_model
from tenants.models import Delivery
from tests.admin.seeding import Seeded, add_budgets, add_usage, add_window
from tests.factories import make_model, make_provider, make_tenant

HOME = "/admin/"


@pytest.fixture(autouse=True)
def board() -> Iterator[Redis]:
    with Redis.from_url(settings.REDIS_CONNECTION) as redis:
        redis.delete(KEY)
        yield redis
        redis.delete(KEY)


@pytest.fixture
def deployment(db: None) -> Deployment:
    """One model with its price and a credential: nothing needs anybody."""
    provider = make_provider("https://api.example.com/v1", name="vendor", secret="sk-0001")
    found: Deployment = make_model(provider, name="served").deployments.get()
    return found


def needs() -> list[Need]:
    return find_needs(timezone.now())


def only() -> Need:
    (need,) = needs()
    return need


def test_nothing_needs_you(viewer: Client, deployment: Deployment) -> None:
    Budget.objects.create(tenant=make_tenant(), limit_nano_usd=NANO_PER_USD)
    BooksCheck.objects.create(ok=True)
    AuditCheck.objects.create(ok=True, events=1)
    assert needs() == []
    assert "Nothing needs you." in viewer.get(HOME).content.decode()


def test_everything_at_once_leads_to_its_page(owner: Client, seeded: Seeded, board: Redis) -> None:
    Delivery.objects.update(state="dead")
    BooksCheck.objects.create(ok=False, findings=[{"check": "M4 spent", "says": "x", "breaches": 2, "examples": []}])
    AuditCheck.objects.create(ok=False, events=9, breaks=[{"chain": 1}])
    TenantApproval.objects.create(tenant=seeded.tenant, model=seeded.model)
    make_model(make_provider("https://api.example.com/v1"), name="unpriced", prices=None)
    charge = UsageRecord.objects.first()
    for source in ("reserve_bound", "unknown"):
        add_usage(charge.api_key, Deployment.objects.first(), usage_source=source)
    board.hset(KEY, f"b:{Deployment.objects.first().pk}", f"1 {9_999_999_999_999} 0 1")
    credential = Credential.objects.first()
    board.hset(KEY, f"k:{credential.pk}", str(int(credential.changed_at.timestamp() * 1000)))
    ReconciliationRun.objects.filter(pk=seeded.run.pk).update(
        our_cost_nano_usd=100, their_cost_nano_usd=102, created_at=timezone.now() + dt.timedelta(hours=1)
    )
    full = Budget.objects.create(tenant=seeded.tenant, limit_nano_usd=NANO_PER_USD)
    add_window(full, spent_nano_usd=NANO_PER_USD)
    said = [need.says for need in needs()]
    for words in (
        "given up in the last 7 days", "1 charge quarantined", "1 call of unknown cost", "price proposals to decide",
        "The books do not balance: M4 spent", "1 audit chain broken", "first-tenant asks for first-model",
        "Model unpriced serves without a price", "breaker open for", "refuses the credential",
        "USD more than the ledger",
        "first-tenant: the monthly budget of the tenant is spent, 1 of 1 USD", "is proposed",
    ):  # fmt: skip
        assert any(words in text for text in said), (words, said)
    levels = [need.level for need in needs()]
    assert levels == sorted(levels, key=list(Level).index), "what is broken comes first"
    html = owner.get(HOME).content.decode()
    for need in needs():
        assert owner.get(need.link).status_code == 200, need
        assert need.do and need.link.split("?")[0] in html


def test_at_most_twelve_queries_whatever_there_is(seeded: Seeded, board: Redis) -> None:
    board.hset(KEY, f"b:{Deployment.objects.first().pk}", f"1 {9_999_999_999_999} 0 1")
    credential = Credential.objects.first()
    board.hset(KEY, f"k:{credential.pk}", str(int(credential.changed_at.timestamp() * 1000)))
    for _ in range(15):
        add_budgets(seeded.budget, make_tenant())
    with CaptureQueriesContext(connection) as queries:
        needs()
    assert len(queries) <= 12
    for query in queries:
        assert "billing_usagerecord" not in query["sql"] or "usage_source" in query["sql"], "only its index of doubt"


def window(limit: int, spent: int, *, days_ago: int, period: str = "total", **fields: Any) -> Budget:
    """A budget that has spent so much of its limit, in nano-USD, since so many days ago."""
    budget = Budget.objects.create(tenant=make_tenant(), limit_nano_usd=limit, period=period, **fields)
    Budget.objects.filter(pk=budget.pk).update(created_at=timezone.now() - dt.timedelta(days=days_ago))
    add_window(budget, spent_nano_usd=spent)
    budget.refresh_from_db()
    return budget


def test_budgets_that_run_out_this_week_are_forecast_by_their_pace(db: None) -> None:
    now, week = timezone.now(), dt.timedelta(days=7)
    soon = window(200, 100, days_ago=5)
    spent = window(100, 100, days_ago=5)
    window(1000, 100, days_ago=5)  # 45 days more at 20 a day
    window(200, 100, days_ago=5, enabled=False)
    window(10_000, 499, days_ago=0)  # the first calls say little of the pace
    extended = window(200, 100, days_ago=5)
    tomorrow = now + dt.timedelta(days=30)
    BudgetOverride.objects.create(budget=extended, extra_nano_usd=10_000, expires_at=tomorrow, reason="x")
    window(0, 0, days_ago=5)
    found = [budget.pk for budget, _ in running_out(timezone.now(), within=week, most=50)]
    assert found == [spent.pk, soon.pk]
    with CaptureQueriesContext(connection) as queries:
        running_out(now, within=week, most=50)
    assert len(queries) == 2


def test_a_period_that_ends_before_is_no_need(db: None) -> None:
    """A day's budget at a pace of two thirds a day begins anew before it is spent."""
    window(10**9, 10**8, days_ago=100, period="day")
    now = timezone.now().replace(hour=23, minute=0)
    assert running_out(now, within=dt.timedelta(days=7), most=50) == []


def test_an_old_trouble_is_not_told_for_ever(seeded: Seeded) -> None:
    old = timezone.now() - dt.timedelta(days=8)
    key = seeded.tenant.keys.first()
    add_usage(key, seeded.model.deployments.first(), usage_source="reserve_bound", created_at=old)
    assert not any("quarantined" in need.says for need in needs())


def test_a_platform_without_redis_says_so(viewer: Client, deployment: Deployment, settings: Any) -> None:
    settings.REDIS_CONNECTION = "unix:///nowhere/nobody-listens.sock?db=0"
    assert "Redis does not answer" in only().says


def test_a_switched_off_deployment_and_a_mended_credential_need_nobody(deployment: Deployment, board: Redis) -> None:
    board.hset(KEY, f"b:{deployment.pk}", f"1 {9_999_999_999_999} 0 1")
    credential = Credential.objects.get()
    board.hset(KEY, f"k:{credential.pk}", str(int(credential.changed_at.timestamp() * 1000) - 1))
    assert "breaker open" in only().says
    Deployment.objects.update(enabled=False)
    assert needs() == []


def test_what_tenants_called_is_only_text(viewer: Client, deployment: Deployment) -> None:
    propose_model(Model(name="x<script>alert(1)</script>", capabilities=["chat"]), by=None)
    html = viewer.get(HOME).content.decode()
    assert "<script>alert(1)" not in html and "&lt;script&gt;alert(1)" in html
