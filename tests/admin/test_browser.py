"""The way of an operator through a real browser: log in, approve a model, make a key and see it once, look at usage."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import ConsoleMessage, Page, sync_playwright

from billing.services import read_rates, set_price
from providers.models import Deployment, Lifecycle, LifecycleChange, Model
from providers.services import propose_model
from tenants.keys import digest_key
from tenants.models import ApiKey, Operator, Role
from tests.admin.conftest import PASSWORD
from tests.admin.seeding import add_usage
from tests.factories import make_key, make_model, make_provider, make_tenant
from tests.fakes.openai_server import FakeOpenAI

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage",
    "--disable-component-update", "--no-first-run",
]  # fmt: skip


@pytest.fixture
def chromium() -> str:
    """Debian's browser; a run in CI may not do without it."""
    if CHROMIUM is None:
        missing = "chromium is not installed: the admin was NOT tried in a browser (apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return CHROMIUM


@contextmanager
def browsing(chromium: str) -> Iterator[Page]:
    """A page that fails the test for whatever goes wrong in it, and for any request beyond this machine.

    No query may be made meanwhile: Playwright's event loop runs in this thread, and Django refuses queries beside one.
    """
    problems: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("pageerror", lambda error: problems.append(f"script: {error}"))
        page.on("console", lambda message: _is_problem(message) and problems.append(f"console: {message.text}"))
        page.on(
            "response", lambda response: response.status >= 400 and problems.append(f"{response.status} {response.url}")
        )
        page.on("request", lambda request: _is_foreign(request.url) and problems.append(f"foreign: {request.url}"))
        yield page
        browser.close()
    assert problems == []


def _is_problem(message: ConsoleMessage) -> bool:
    """Whether a page complains. Django's test server has no WebSockets, and a server may be stopped on purpose."""
    return message.type == "error" and "/admin/live/" not in message.text


def _is_foreign(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1", "data:", "blob:"))


def origin_of(live_server: Any) -> str:
    """The address people type for a platform on their own machine: plain http, no name."""
    return str(live_server.url).replace("localhost", "127.0.0.1")


def log_in(page: Page, origin: str) -> None:
    page.goto(f"{origin}/admin/")
    page.fill("[name=username]", "ada")
    page.fill("[name=password]", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Needs you")


def test_an_operators_day(chromium: str, live_server: Any, settings: Any, fake_openai: FakeOpenAI) -> None:
    Operator.objects.create_user("ada", password=PASSWORD, role=Role.OPERATOR, is_staff=True)
    tenant = make_tenant("acme")
    provider = make_provider(fake_openai.base_url, secret=fake_openai.api_key, name="vendor")
    old_key, _ = make_key(tenant)
    add_usage(old_key, make_model(provider, name="served").deployments.get(), request_id="req-seen-in-browser")
    model = propose_model(Model(name="brand-new", capabilities=["chat"]), by=None)
    Deployment.objects.create(model=model, provider=provider, upstream_model="gpt-5.2")
    set_price(model, read_rates({"input": "1", "output": "2"}))

    origin = origin_of(live_server)
    with browsing(chromium) as page:
        log_in(page, origin)
        assert page.title().strip() == "Home | Bursar"

        page.click("text=Model brand-new is proposed")
        page.click("button:has-text('Approve')")
        page.wait_for_selector("text=Approved: brand-new")
        assert page.locator("button:has-text('Retire')").is_visible()

        page.goto(f"{origin}/admin/tenants/apikey/add/?tenant={tenant.pk}")
        page.fill("[name=name]", "from-browser")
        page.click("[name=_save]")
        text = page.locator("#key-text").inner_text()
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.click("text=Copy >> nth=-1")
        page.wait_for_selector("button:has-text('Copied')")
        assert page.evaluate("navigator.clipboard.readText()") == text
        assert text not in page.url
        assert text not in str(page.context.cookies()) + str(page.context.storage_state())
        page.click("text=The key's page")
        page.wait_for_selector("[name=name]")
        assert text not in page.content()

        page.click("nav >> text=Usage >> nth=-1")
        page.wait_for_selector("text=req-seen-in-browser")
        assert "0.00045" in page.content()

    model.refresh_from_db()
    assert model.lifecycle == Lifecycle.APPROVED
    assert LifecycleChange.objects.filter(model=model, changed_by__username="ada").exists()
    assert bytes(ApiKey.objects.get(name="from-browser").digest) == digest_key(text, settings.API_KEY_PEPPER)


def test_the_price_preview_follows_the_typing_and_keys_reach_every_action(chromium: str, live_server: Any) -> None:
    Operator.objects.create_user("ada", password=PASSWORD, role=Role.OPERATOR, is_staff=True)
    model = make_model(make_provider("https://api.example.com/v1"), name="priced")

    origin = origin_of(live_server)
    with browsing(chromium) as page:
        log_in(page, origin)
        page.goto(f"{origin}/admin/billing/price/add/?model={model.pk}")
        page.wait_for_selector("text=Give at least one price")
        page.fill("[name=input]", "15")
        page.fill("[name=output]", "60")
        page.wait_for_selector(".price-preview >> text=0.045")
        assert "0.00045" in page.locator(".price-preview").inner_text(), "what it costs now"
        page.fill("[name=quoted_tiers]", "- {name: night, utc: 16:30-00:30, prices: {input: 5}}")
        page.wait_for_selector(".price-preview >> text=night: 16:30-00:30 UTC >> nth=0")
        page.fill("[name=input]", "0.00015")
        page.click("[name=_save]")
        page.wait_for_selector("text=did you mean 0.15 per million")
        assert "csrfmiddlewaretoken" not in page.url

        page.goto(f"{origin}/admin/providers/model/{model.pk}/change/")
        page.locator("button:has-text('Deprecate')").focus()
        page.keyboard.press("Enter")
        # Chromium leaves autofocus out on a page that loads slowly, so the field is reached as a person would then.
        page.locator("textarea[name=reason]").focus()
        page.keyboard.type("Its successor is here")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=Deprecated: priced")
        page.wait_for_selector("text=Its successor is here")
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
