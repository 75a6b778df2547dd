"""Hard budgets through the public door, one call after the other; `test_hard_cap.py` has the races."""

from __future__ import annotations

import datetime as dt
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from billing.models import Budget, BudgetOverride, BudgetWindow
from billing.money import NANO_PER_USD
from providers.models import Model
from tenants.models import Tenant
from tests import factories
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform, wait_for_models
from tests.gateway.money import MILLI_USD, PER_CALL, books_balance
from tests.live import LiveServer, until


def tenant_with(model: Model) -> tuple[Tenant, str]:
    tenant = factories.make_tenant()
    factories.approve(tenant, model)
    return tenant, factories.make_key(tenant)[1]


@pytest.fixture
def ask(uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI) -> Any:
    def ask(key: str, model: Model, **more: Any) -> Any:
        wait_for_models(uvicorn, key, model.name)
        body = {"model": model.name, "messages": [{"role": "user", "content": "x"}], **more}
        with uvicorn.client(key) as client:
            return client.post("/chat/completions", json=body)

    return ask


def test_a_refusal_explains_itself(ask: Any, platform: Platform, upstream: FakeOpenAI) -> None:
    model = factories.make_model(platform.chat.deployments.get().provider, prices=PER_CALL, upstream_model="gpt-5.2")
    tenant, key = tenant_with(model)
    budget = Budget.objects.create(tenant=tenant, limit_nano_usd=MILLI_USD, period="day")
    assert ask(key, model).status_code == 200
    books_balance()
    answer = ask(key, model)
    error = answer.json()["error"]
    assert answer.status_code == 402 and answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers, "nothing is held that may come free"
    assert error["type"] == "insufficient_quota" and error["code"] == "budget_exceeded"
    told = {name: error[name] for name in ("scope", "period", "limit_usd", "spent_usd", "reserved_usd", "needed_usd")}
    assert told == {
        "scope": "tenant", "period": "day", "limit_usd": "0.001", "spent_usd": "0.001", "reserved_usd": "0",
        "needed_usd": "0.001",
    }  # fmt: skip
    assert error["resets_at"]
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    BudgetOverride.objects.create(budget=budget, extra_nano_usd=MILLI_USD, expires_at=soon, reason="a launch")
    assert ask(key, model).status_code == 200, "an extra counts from the next call on"
    Budget.objects.filter(pk=budget.pk).update(limit_nano_usd=0)
    assert ask(key, model).status_code == 402, "a limit below its use is accepted and blocks"
    books_balance()


def test_all_scopes_or_none(ask: Any, platform: Platform, upstream: FakeOpenAI) -> None:
    model = factories.make_model(platform.chat.deployments.get().provider, prices=PER_CALL, upstream_model="gpt-5.2")
    tenant, key = tenant_with(model)
    for scope, limit in (("tenant", 100), ("key", 100), ("model", 2), ("user", 100)):
        Budget.objects.create(tenant=tenant, scope=scope, limit_nano_usd=limit * MILLI_USD)
    statuses = [ask(key, model, user=f"u-{number}").status_code for number in range(4)]
    assert statuses == [200, 200, 402, 402]
    books_balance()
    spent = {
        (row.budget.scope, row.subject): row.spent_nano_usd
        for row in BudgetWindow.objects.filter(budget__tenant=tenant)
    }
    assert spent[("tenant", "")] == spent[("model", model.name)] == 2 * MILLI_USD
    assert spent[("user", "u-0")] == MILLI_USD and spent[("user", "u-3")] == 0, "each user has a window of its own"


def test_an_answer_is_cut_to_what_is_left(ask: Any, platform: Platform, upstream: FakeOpenAI) -> None:
    model = factories.make_model(
        platform.chat.deployments.get().provider, prices={"output": "10000"}, upstream_model="gpt-5.2"
    )
    Model.objects.filter(pk=model.pk).update(max_output_tokens=1000)
    tenant, key = tenant_with(model)
    # 10,000 USD per million tokens is 0.01 USD a token
    Budget.objects.create(tenant=tenant, limit_nano_usd=NANO_PER_USD)
    assert ask(key, model).status_code == 200
    assert upstream.all_ended()[-1].body["max_tokens"] == 100, "one USD affords a hundred tokens"
    books_balance()
    refused = ask(key, model, max_tokens=500)
    assert refused.status_code == 402, "a limit of the client's own is not cut"


def test_absurd_limits_are_clamped_to_the_model(ask: Any, platform: Platform, upstream: FakeOpenAI) -> None:
    model = factories.make_model(platform.chat.deployments.get().provider, upstream_model="gpt-5.2")
    Model.objects.filter(pk=model.pk).update(max_output_tokens=1000)
    _, key = tenant_with(model)
    until(lambda: ask(key, model, max_tokens=10**9).status_code == 200, what="the call")
    until(
        lambda: ask(key, model, max_tokens=10**9) and upstream.all_ended()[-1].body["max_tokens"] == 1000,
        what="the limit being known",
    )


def test_a_hard_budget_needs_a_price(ask: Any, platform: Platform, upstream: FakeOpenAI) -> None:
    model = factories.make_model(platform.chat.deployments.get().provider, prices=None, upstream_model="gpt-5.2")
    tenant, key = tenant_with(model)
    Budget.objects.create(tenant=tenant, limit_nano_usd=NANO_PER_USD)
    answer = ask(key, model)
    assert answer.status_code == 402 and answer.json()["error"]["code"] == "price_unknown"
    assert upstream.records == []


def test_the_payer_is_the_target(ask: Any, platform: Platform, upstream: FakeOpenAI) -> None:
    """A free model that fails does not hand its call to a paid one that the budget has no room for."""
    dead = factories.make_provider("http://127.0.0.1:1/v1")
    free = factories.make_model(dead, prices={"output": "0"})
    paid = factories.make_model(platform.chat.deployments.get().provider, prices=PER_CALL, upstream_model="gpt-5.2")
    group = factories.make_group(free, paid)
    tenant = factories.make_tenant()
    factories.approve(tenant, group)
    _, key = factories.make_key(tenant)
    Budget.objects.create(tenant=tenant, limit_nano_usd=MILLI_USD - 1)
    assert ask(key, group).status_code == 402
    assert upstream.records == []
    books_balance()


def test_a_call_that_failed_gives_its_room_back(ask: Any, platform: Platform, upstream: FakeOpenAI) -> None:
    model = factories.make_model(platform.chat.deployments.get().provider, prices=PER_CALL, upstream_model="gpt-5.2")
    tenant, key = tenant_with(model)
    Budget.objects.create(tenant=tenant, limit_nano_usd=MILLI_USD)
    upstream.script(Script(status=500), times=2)
    assert ask(key, model).status_code == 502
    books_balance()
    assert ask(key, model).status_code == 200


def test_verify_money_finds_a_cooked_book(ask: Any, platform: Platform, upstream: FakeOpenAI) -> None:
    model = factories.make_model(platform.chat.deployments.get().provider, prices=PER_CALL, upstream_model="gpt-5.2")
    tenant, key = tenant_with(model)
    Budget.objects.create(tenant=tenant, limit_nano_usd=MILLI_USD)
    assert ask(key, model).status_code == 200
    books_balance()
    window = BudgetWindow.objects.filter(budget__tenant=tenant)
    for change in ({"spent_nano_usd": 5}, {"reserved_nano_usd": 1}, {"ceiling_nano_usd": 0}):
        before = window.values(*change).get()
        window.update(**change)
        with pytest.raises(Exception, match="do not balance"):
            call_command("verify_money", stdout=StringIO())
        window.update(**before)
    books_balance()
