"""M14: every refusal explains its window, and every charge can be reckoned again from what the admin shows of it."""

from __future__ import annotations

import datetime as dt
import html
import re
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from billing.models import BudgetWindow, Period, Scope, UsageRecord
from billing.money import usd
from billing.pricing import PRICED_AS
from tenants.models import Operator, Project, Role
from tests import factories
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform
from tests.gateway.money import MILLI_USD, Payer, books_balance, make_payer
from tests.live import LiveServer, until

SUBJECTS = {"tenant": "", "project": "web", "user": "ann", "key": "ci", "provider": "fake"}


@pytest.fixture(scope="module")
def priced(seeded: Platform) -> Payer:
    """Whose model all tenants of these tests share."""
    return make_payer(seeded)


def tenant_of_its_own(priced: Payer) -> Payer:
    tenant = factories.make_tenant(timezone="Asia/Kathmandu")
    project = Project.objects.create(tenant=tenant, name="web")
    factories.approve(tenant, priced.model)
    return Payer(tenant, factories.make_key(tenant, "ci", project=project, user="ann")[1], priced.model)


@pytest.mark.parametrize("period", list(Period))
@pytest.mark.parametrize("scope", list(Scope))
def test_a_refusal_says_all_of_its_window(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI, priced: Payer, scope: str, period: str
) -> None:
    priced.known_to(uvicorn)
    payer = tenant_of_its_own(priced)
    budget = payer.budget(scope=scope, period=period, limit_nano_usd=2 * MILLI_USD - 1)
    assert payer.ask(uvicorn).status_code == 200
    books_balance()
    answer = payer.ask(uvicorn)
    assert answer.status_code == 402 and len(upstream.all_ended()) == 1
    window = BudgetWindow.objects.filter(budget=budget).latest("starts_at")
    error = answer.json()["error"]
    subject = SUBJECTS.get(scope, payer.model.name)
    resets_at = error.pop("resets_at")
    assert (dt.datetime.fromisoformat(resets_at) if resets_at else None) == window.ends_at
    whose = f"{scope} {subject!r}" if subject else scope
    message = error.pop("message")
    assert message.startswith(
        f"The {period} budget of this {whose} is 0.001999999 USD: 0.001 are spent and 0 held by calls under way; "
        "this call may need 0.001."
    )
    assert (f"{window.ends_at:%Y-%m-%d %H:%M} UTC" in message) if window.ends_at else message.endswith("0.001.")
    assert error == {
        "type": "insufficient_quota",
        "code": "budget_exceeded",
        "param": None,
        "request_id": answer.headers["x-request-id"],
        "scope": scope,
        "subject": subject,
        "period": period,
        "limit_usd": "0.001999999",
        "spent_usd": "0.001",
        "reserved_usd": "0",
        "needed_usd": "0.001",
    }
    assert answer.headers["x-should-retry"] == "false" and "retry-after" not in answer.headers


def test_of_several_windows_the_tightest_is_named(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI, priced: Payer
) -> None:
    priced.known_to(uvicorn)
    payer = tenant_of_its_own(priced)
    for scope, period, limit in (("tenant", "month", 900), ("user", "day", 300), ("key", "hour", 500)):
        payer.budget(scope=scope, period=period, limit_nano_usd=limit * MILLI_USD // 1000)
    payer.budget(scope="provider", period="total", limit_nano_usd=0, hard=False)
    error = payer.ask(uvicorn).json()["error"]
    assert (error["scope"], error["subject"], error["period"], error["limit_usd"]) == ("user", "ann", "day", "0.0003")


LABELLED = re.compile(r'<label[^>]*>\s*([^<]+?)\s*</label>.*?<div class="readonly[^"]*">(.*?)</div>', re.DOTALL)
TERM = re.compile(r"<tr><th>(\w+)</th><td>(.*?)</td><td>at ([\d.]+) per million</td>")
RATE = re.compile(r"<tr><th>(\w+)</th><td>([\d.]+)</td></tr>")


def shown(client: Client, url: str) -> dict[str, str]:
    """The read-only fields of an admin page, by label, as HTML."""
    return dict(LABELLED.findall(client.get(url).content.decode()))


def text_of(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", markup)).strip()


def reckoned(client: Client, charge: UsageRecord) -> tuple[Decimal, str]:
    """What a charge comes to by its page and the page of its price that it links to, and what it says it comes to."""
    page = shown(client, reverse("admin:billing_usagerecord_change", args=[charge.pk]))
    terms = TERM.findall(page["Formula, USD"])
    units = {unit: int(text_of(amount).replace(",", "")) for unit, amount, _ in terms}
    link = re.search(r'href="([^"]+)"', page["Price"])
    assert link is not None
    prices = dict(RATE.findall(client.get(link[1]).content.decode()))
    assert {unit: rate for unit, _, rate in terms} == {unit: price_of(unit, prices) for unit in units}
    total = sum((Decimal(price_of(unit, prices)) * count for unit, count in units.items()), Decimal())
    return (total / 1_000_000).quantize(Decimal("1e-9"), ROUND_HALF_UP), text_of(page["Cost, USD"])


def price_of(unit: str, prices: dict[str, str]) -> str:
    """USD per million; docs/how-to/change-a-price.md says what a unit without a price of its own costs."""
    while unit not in prices:
        unit = PRICED_AS[unit]
    return prices[unit]


def test_a_charge_is_reckoned_again_from_its_page(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI, client: Client
) -> None:
    rates = {"input": "0.15", "cache_read": "0.075", "output": "0.60", "requests": "12.3"}
    payer = make_payer(platform, rates)
    payer.known_to(uvicorn)
    operator = Operator.objects.create(username=factories.unique("auditor"), role=Role.VIEWER, is_staff=True)
    client.force_login(operator)
    usage = {
        "prompt_tokens": 1003,
        "completion_tokens": 307,
        "prompt_tokens_details": {"cached_tokens": 401, "cache_write_tokens": 101},
        "completion_tokens_details": {"reasoning_tokens": 203},
    }
    for script in (Script(usage=usage), Script(text="some words", omit_usage=True)):
        upstream.script(script)
        answer = payer.ask(uvicorn)
        found = UsageRecord.objects.filter(request_id=answer.headers["x-request-id"])
        charge: Any = until(found.first, what="the charge")
        again, says = reckoned(client, charge)
        assert again == Decimal(says) > 0
        assert answer.headers["x-gateway-cost-usd"] == says == usd(charge.cost_nano_usd)
