"""A tenant's page, a model's approval and a budget's consequence in a real browser, on a desk and on a telephone."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.utils import timezone
from playwright.sync_api import Page

from billing.models import Budget
from billing.money import NANO_PER_USD
from billing.services import read_rates, set_price
from providers.models import Deployment, Lifecycle, Model
from providers.services import approve_for_tenant, propose_model
from tenants.models import ApiKey, Membership, Operator, Project, RateLimit, Role, Tenant
from tests.admin.conftest import PASSWORD
from tests.admin.seeding import add_usage, add_window
from tests.admin.test_browser import browsing, chromium, log_in, origin_of
from tests.factories import make_group, make_key, make_model, make_provider, make_tenant
from tests.fakes.openai_server import FakeOpenAI

__all__ = ["chromium"]

SIZES = ((1280, 900), (390, 844))


def grown_tenant(fake: FakeOpenAI) -> tuple[Tenant, Model]:
    """A tenant with a fortnight of usage and budgets on three levels, and a model that waits."""
    provider = make_provider(fake.base_url, secret=fake.api_key, name="vendor")
    served, other = (make_model(provider, name=name) for name in ("served", "other"))
    make_group(served, other, name="house")
    tenant = make_tenant("acme")
    key, _ = make_key(tenant, name="ci", project=Project.objects.create(tenant=tenant, name="web"))
    make_key(tenant, name="batch")
    approve_for_tenant(tenant, served, by=None)
    approve_for_tenant(tenant, other, by=None)
    now = timezone.now()
    for day in range(14):
        for model in (served, other)[: 1 + day % 2]:
            add_usage(key, model.deployments.get(), created_at=now - dt.timedelta(days=day, minutes=5))
    whole = Budget.objects.create(tenant=tenant, limit_nano_usd=NANO_PER_USD // 100)
    add_window(whole, spent_nano_usd=NANO_PER_USD // 125)
    Budget.objects.create(tenant=tenant, scope="project", subject="web", limit_nano_usd=5 * NANO_PER_USD)
    Budget.objects.create(tenant=tenant, scope="key", subject="ci", period="day", limit_nano_usd=NANO_PER_USD)
    RateLimit.objects.create(tenant=tenant, requests_per_minute=60, tokens_per_day=100_000)
    waiting = propose_model(Model(name="brand-new", capabilities=["chat"]), by=None, reason="listed by vendor")
    Deployment.objects.create(model=waiting, provider=provider, upstream_model="gpt-5.2")
    set_price(waiting, read_rates({"input": "1", "output": "2"}))
    return tenant, waiting


def fits(page: Page, url: str) -> None:
    """Nothing of a page is cut off or scrolled sideways, on a desk and on a telephone."""
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        page.goto(url)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), url
    page.set_viewport_size({"width": 1280, "height": 900})


def test_an_operator_decides_on_people_and_models(chromium: str, live_server: Any, fake_openai: FakeOpenAI) -> None:
    Operator.objects.create_user("ada", password=PASSWORD, role=Role.OPERATOR, is_staff=True)
    tenant, waiting = grown_tenant(fake_openai)
    budget = tenant.budgets.get(scope="key")
    origin = origin_of(live_server)
    here = f"{origin}/admin/tenants/tenant/{tenant.pk}/change/"
    with browsing(chromium) as page:
        log_in(page, origin)
        fits(page, f"{origin}/admin/providers/model/")
        page.click(f"button[aria-label='Approve {waiting.name}']")
        page.wait_for_selector("text=Approved: brand-new")
        fits(page, f"{origin}/admin/providers/model/{waiting.pk}/change/")
        page.click("button:has-text('Deprecate')")
        page.wait_for_selector("text=0 tenants made 0 calls to it")

        fits(page, here)
        page.wait_for_selector("text=bound by the tenant budget")
        page.click("button[aria-label='Rotate ci']")
        page.click("button:has-text('Rotate')")
        text = page.locator("#key-text").inner_text()
        page.wait_for_selector("text=The text before")
        page.goto(here)
        assert text not in page.content()

        page.goto(f"{origin}/admin/billing/budget/{budget.pk}/change/")
        page.fill("[name=limit]", "0.0001")
        page.wait_for_selector(".price-preview >> text=would have been refused")
        page.wait_for_selector(".price-preview >> text=At this pace 0.0001 USD")
        fits(page, f"{origin}/admin/billing/budget/{budget.pk}/change/")

        page.goto(here)
        page.click("button:has-text('Suspend')")
        page.wait_for_selector("text=2 working keys will be refused")
        page.fill("[name=reason]", "Unpaid")
        page.fill("[name=typed_name]", "acme")
        page.click("button:has-text('Suspend')")
        page.wait_for_selector("text=Suspended: acme")
        page.wait_for_selector("text=tenant_suspended")
    assert Model.objects.get(pk=waiting.pk).lifecycle == Lifecycle.APPROVED
    assert ApiKey.objects.get(name="ci").previous_until is not None


def test_a_member_sees_their_tenant(chromium: str, live_server: Any, fake_openai: FakeOpenAI) -> None:
    member = Operator.objects.create_user("ada", password=PASSWORD, role=Role.MEMBER, is_staff=True)
    tenant, _ = grown_tenant(fake_openai)
    Membership.objects.create(operator=member, tenant=tenant)
    origin = origin_of(live_server)
    with browsing(chromium) as page:
        page.goto(f"{origin}/admin/")
        page.fill("[name=username]", "ada")
        page.fill("[name=password]", PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_selector("text=What could acme do right now?")
        assert page.locator("button:has-text('Suspend')").count() == 0
        assert page.locator("button:has-text('Rotate')").count() == 2
        for name in ("API keys", "Budgets", "Statements", "Usage"):
            page.click(f"nav >> text={name} >> nth=-1")
            page.wait_for_selector("h1, h2")
        fits(page, f"{origin}/admin/tenants/tenant/{tenant.pk}/change/")
