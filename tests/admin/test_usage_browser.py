"""The usage explorer in a real browser: wide and narrow, light and dark, by keyboard, and without a script."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Page

from billing.analytics.roll_up import roll_up
from gateway.models import SavedView
from tenants.models import Operator, Role
from tests.admin.seeding import add_usage
from tests.admin.test_browser import browsing, chromium, origin_of
from tests.factories import make_key, make_model, make_provider, make_tenant

__all__ = ["chromium"]

UNREADABLE = """() => {
  const parts = colour => {
    const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const light = rgb => { const [r, g, b] = rgb.slice(0, 3).map(v => { v /= 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = element => { for (let at = element; at; at = at.parentElement) {
    const found = parts(getComputedStyle(at).backgroundColor); if (found[3] > 250) return found; }
    return [255, 255, 255]; };
  return [...document.querySelectorAll('.desk *')].filter(element => element.checkVisibility()
      && !['OPTION', 'DATALIST', 'TITLE'].includes(element.tagName) && !element.closest('svg')
      && [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())).map(element => {
    const [one, two] = [light(parts(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => a - b);
    return [(two + 0.05) / (one + 0.05), element.textContent.trim().slice(0, 40)];
  }).filter(([ratio]) => ratio < 4.5);
}"""
"""Texts of the page whose contrast is less than 4.5:1."""

NAMELESS = """() => [...document.querySelectorAll(
    '.desk :is(a, button, input:not([type=hidden]), select, summary, [tabindex])')]
  .filter(element => !(element.getAttribute('aria-label') || element.getAttribute('aria-labelledby')
    || element.textContent.trim() || (element.labels && element.labels.length))).map(element => element.outerHTML)"""


@pytest.fixture
def session(transactional_db: None) -> dict[str, str]:
    """A viewer's cookie, and a week of usage of seven models."""
    dice = random.Random(5)
    tenant, other = make_tenant("acme"), make_tenant("globex")
    provider = make_provider("https://a.example.com/v1", name="vendor")
    keys = [make_key(tenant, "backend")[0], make_key(other, "batch")[0]]
    names = ("gpt-5-mini", "claude-sonnet-5", "gemini-3-flash", "deepseek-v4", "mistral-large", "llama-4", "qwen-4")
    now = timezone.now()
    for place, name in enumerate(names):
        deployment = make_model(provider, name=name).deployments.get()
        for _ in range(9 - place):
            add_usage(
                dice.choice(keys), deployment, created_at=now - dt.timedelta(hours=dice.randrange(1, 24 * 6)),
                latency_ms=dice.randrange(20_000), ending=dice.choice(["completed"] * 5 + ["failed"]),
            )  # fmt: skip
    roll_up(until=now)
    client = Client()
    client.force_login(Operator.objects.create(username="ada", role=Role.VIEWER, is_staff=True))
    return {"name": "sessionid", "value": client.cookies["sessionid"].value, "domain": "127.0.0.1", "path": "/"}


def overflow(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def reached_by_tab(page: Page, wanted: set[str]) -> set[str]:
    """What of the wanted the tabulator reaches, each with an outline one can see."""
    reached = set()
    page.locator(".desk-ask input").first.focus()
    for _ in range(80):
        name = page.evaluate(
            "document.activeElement.id || document.activeElement.getAttribute('aria-label')"
            " || document.activeElement.getAttribute('aria-labelledby') || document.activeElement.textContent.trim()"
        )
        outline = page.evaluate(
            "getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).boxShadow"
        )
        if name in wanted and outline != "nonenone":
            reached.add(name)
        page.keyboard.press("Tab")
    return reached


def test_the_explorer_is_seen_and_reached_everywhere(
    chromium: str, live_server: Any, session: dict[str, Any], tmp_path: Path
) -> None:
    origin = origin_of(live_server)
    with browsing(chromium) as page:
        page.context.add_cookies([session])
        for theme in ("light", "dark"):
            for width in (1280, 390):
                page.set_viewport_size({"width": width, "height": 900})
                page.goto(f"{origin}/admin/usage/?group=model")
                page.evaluate(f"localStorage.setItem('adminTheme', '\"{theme}\"')")
                page.goto(f"{origin}/admin/usage/?group=model")
                page.wait_for_selector(".desk-chart")
                assert page.evaluate("document.documentElement.classList.contains('dark')") == (theme == "dark")
                page.screenshot(path=str(tmp_path / f"usage_{width}_{theme}.png"), full_page=True)
                assert not overflow(page), (theme, width)
                assert page.evaluate(UNREADABLE) == [], (theme, width)
                assert page.evaluate(NAMELESS) == []
        page.goto(f"{origin}/admin/usage/?group=model&measure=latency_p95&tenant=acme")
        page.wait_for_selector(".desk-chart")
        page.screenshot(path=str(tmp_path / "usage_lines.png"), full_page=True)
        assert not overflow(page)

        page.set_viewport_size({"width": 1280, "height": 900})
        wanted = {"Show", "Figures", "usage-caption", "CSV", "XLSX", "view-name", "Save", "Remove Tenant: acme"}
        assert reached_by_tab(page, wanted) == wanted
        assert page.locator(".desk-chart svg[role=img]").count() == 1
        page.locator(".desk-chart summary").press("Enter")
        assert page.locator(".chart-figures tbody tr").count() == 7
        assert page.locator(".chart-figures table th[scope=col]").count() == 6

        page.fill("[name=model]", "gpt-5-mini")
        page.press("[name=model]", "Enter")
        page.wait_for_url("**model=gpt-5-mini**")
        page.fill("#view-name", "Acme's small one")
        page.press("#view-name", "Enter")
        page.wait_for_selector(".desk-views >> text=Acme's small one")
        page.goto(f"{origin}/admin/usage/")
        page.click(".desk-views >> text=Acme's small one")
        page.wait_for_url("**model=gpt-5-mini**")
        with page.expect_download() as downloaded:
            page.click("text=XLSX")
        assert Path(downloaded.value.path()).read_bytes().startswith(b"PK")
        page.click("[aria-label='Remove Model: gpt-5-mini']")
        page.wait_for_selector(".desk-table >> text=qwen-4")
    assert SavedView.objects.get().operator.username == "ada"
