"""The operators' home in a real browser: who sees, hears or types it, live figures, and what a page may load."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.utils import timezone
from playwright.sync_api import Page

from billing.models import Budget, BudgetWindow
from billing.money import NANO_PER_USD
from providers.models import Model, TenantApproval
from providers.services import propose_model
from tenants.models import Operator, Role
from tests import live
from tests.admin.conftest import PASSWORD
from tests.admin.seeding import add_request, add_usage, add_window, begin, grow
from tests.admin.test_browser import browsing, chromium, log_in
from tests.axe import serious_findings
from tests.gateway.conftest import Platform
from tests.gateway.desk.test_live import ask
from tests.live import LiveServer

__all__ = ["chromium"]

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PAGES = (
    "",
    "providers/model/",
    "tenants/tenant/",
    "tenants/apikey/",
    "billing/budget/",
    "billing/usagerecord/",
    "gateway/requestrecord/",
    "tenants/auditevent/",
    "billing/budget/add/",
)
FOLDER = os.environ.get("SCREENSHOTS")
UNREACHED = """[...document.querySelectorAll("[x-on\\\\:click]")]
    .filter((one) => one.checkVisibility() && one.tabIndex < 0 && one.id !== "changelist-filter-close")
    .map((one) => one.outerHTML.slice(0, 120))"""
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def desk(seeded: Platform) -> Iterator[Platform]:
    """Rows of every kind, some of which need somebody, and an operator."""
    Operator.objects.create(username="ada", password=make_password(PASSWORD), role=Role.OPERATOR, is_staff=True)
    first = begin()
    grow(first, 3)
    TenantApproval.objects.create(tenant=first.tenant, model=first.model)
    propose_model(Model(name="a-proposal", capabilities=["chat"]), by=None)
    budget = Budget.objects.create(tenant=first.tenant, limit_nano_usd=NANO_PER_USD)
    Budget.objects.update(created_at=timezone.now() - dt.timedelta(days=300))
    add_window(budget, spent_nano_usd=NANO_PER_USD * 9 // 10)
    for hours in range(20):
        moment = timezone.now() - dt.timedelta(hours=hours)
        charge = add_usage(first.tenant.keys.first(), first.model.deployments.first(), created_at=moment)
        add_request(charge, created_at=moment, latency_ms=100 * hours)
    yield seeded
    assert BudgetWindow.objects.exists()


def shoot(page: Page, name: str) -> None:
    if FOLDER:
        page.screenshot(path=str(Path(FOLDER) / f"{name}.png"), full_page=True)


def test_pages_are_for_everybody(chromium: str, desk: Platform, uvicorn: LiveServer) -> None:
    found: dict[str, Any] = {}
    with browsing(chromium) as page:
        log_in(page, uvicorn.origin)
        for path in PAGES:
            for width, size in (("wide", WIDE), ("narrow", NARROW)):
                page.set_viewport_size(size)  # type: ignore[arg-type]
                page.goto(f"{uvicorn.origin}/admin/{path}")
                page.wait_for_selector("#main")
                for theme in ("light", "dark"):
                    page.evaluate("(dark) => document.documentElement.classList.toggle('dark', dark)", theme == "dark")
                    name = f"{path.strip('/').replace('/', '-') or 'home'} {width} {theme}"
                    if findings := serious_findings(page):
                        found[name] = findings
                    shoot(page, name.replace(" ", "-").replace("?", ""))
                if unreached := page.evaluate(UNREACHED):
                    found[f"{path} {width} keys"] = unreached
                if (too_wide := page.evaluate(TOO_WIDE)) > 0:
                    found[f"{path} {width} px too wide"] = too_wide
    assert not found, json.dumps(found, indent=1)


def test_an_open_page_is_live_and_finds_back_after_a_restart(
    chromium: str, desk: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = LiveServer("uvicorn", tmp_path)
    monkeypatch.setattr(live, "free_port", lambda: first.port)
    servers = [first]
    try:
        with browsing(chromium) as page:
            log_in(page, first.origin)
            page.wait_for_selector("#live-status:has-text('Live, data through')")
            before = page.inner_text("[data-live=requests]")
            ask(first, desk)
            page.wait_for_function(
                "(old) => document.querySelector('[data-live=requests]').textContent !== old", arg=before, timeout=4000
            )
            first.stop()
            page.wait_for_selector("#live-status[data-state=stale]:has-text('These figures are old, data through')")
            shoot(page, "home-stale")
            servers.append(LiveServer("uvicorn", tmp_path))
            page.wait_for_selector("#live-status[data-state=live]", timeout=30_000)
            before = page.inner_text("[data-live=requests]")
            ask(servers[-1], desk)
            page.wait_for_function(
                "(old) => document.querySelector('[data-live=requests]').textContent !== old", arg=before, timeout=4000
            )
    finally:
        for server in servers:
            server.stop()


def test_keys_alone_approve_a_model_and_no_script_from_elsewhere_runs(
    chromium: str, desk: Platform, uvicorn: LiveServer
) -> None:
    with browsing(chromium) as page:
        log_in(page, uvicorn.origin)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        # What is blocked is also told to the console, which `page` may not be told.
        context = page.context.browser.new_context()  # type: ignore[union-attr]
        context.add_cookies(page.context.cookies())  # type: ignore[arg-type]
        other = context.new_page()
        other.goto(f"{uvicorn.origin}/admin/")
        blocked = other.evaluate(
            """() => new Promise((resolve) => {
                document.addEventListener("securitypolicyviolation", (event) => resolve(event.violatedDirective));
                const script = document.createElement("script");
                script.textContent = "window.stolen = true";
                document.body.append(script);
                setTimeout(() => resolve("none"), 2000);
            })"""
        )
        assert blocked == "script-src-elem" and not other.evaluate("window.stolen")
        walk_through_a_dialog(other)
        page.locator("button[aria-label^='Approve: first-tenant asks for']").focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("text=Approved")


def walk_through_a_dialog(page: Page) -> None:
    """The focus goes in, stays in, and returns to what opened it."""
    page.locator("button[aria-label='Show or hide the menu'] >> visible=true").focus()
    page.evaluate(
        """() => {
            const dialog = document.getElementById("modal-content");
            dialog.innerHTML = "<h1>Sure?</h1><button>No</button><button>Yes</button>";
            Alpine.$data(document.documentElement).openModal = true;
        }"""
    )
    focused = "document.activeElement.textContent.trim()"
    page.wait_for_function(f"{focused} === 'No'")
    assert page.locator("[role=dialog][aria-modal=true]").get_attribute("aria-label") == "Sure?"
    reached = []
    for key in ("Tab", "Tab", "Shift+Tab"):
        page.keyboard.press(key)
        reached.append(page.evaluate(focused))
    assert reached == ["Yes", "No", "Yes"]
    page.keyboard.press("Escape")
    page.wait_for_function("document.activeElement.getAttribute('aria-label') === 'Show or hide the menu'")
