"""The walk through as its page tells it: from the first login to the statement, in a browser and with curl.

`make pictures` takes the page's pictures anew while it goes.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.admin.conftest import PASSWORD
from tests.admin.test_browser import browsing, chromium
from tests.docs.markdown import blocks
from tests.docs.pictures import HEIGHT, WANTED, WIDTH, Installation, take_picture
from tests.engines import ROOT
from tests.live import LiveServer, until

__all__ = ["chromium"]

GUIDE = ROOT / "docs/how-to/walk-through.md"
MOST_CLICKS_TO_APPROVE = 3


class Newcomer:
    """Somebody who follows the guide: clicks what it names, pastes what it shows, and looks at what it pictures."""

    def __init__(self, page: Page, server: LiveServer) -> None:
        self.page = page
        self.server = server
        self.key = ""
        self.clicks = 0
        self._pictures = 0

    def click(self, what: str) -> None:
        self.page.click(what)
        self.page.wait_for_load_state()
        self.clicks += 1

    def sees(self, *texts: str) -> None:
        for text in texts:
            self.page.wait_for_selector(f"#main >> text={text} >> nth=0", timeout=10_000)
        for width in (390, WIDTH):
            self.page.set_viewport_size({"width": width, "height": HEIGHT})
            excess = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert excess <= 0, f"{self.page.url} is {excess} pixels too wide for {width}"

    def pictures(self, name: str, *, at: str = "") -> None:
        self._pictures += 1
        take_picture(self.page, f"walk-through/{self._pictures:02}-{name}", at=at)

    def pastes(self, words: str) -> str:
        """What the guide's command with these words prints."""
        (command,) = (block for block in blocks(GUIDE, "bash") if words in block)
        ready = command.replace("http://127.0.0.1:5005", self.server.origin).replace("YOUR_KEY", self.key)
        done = subprocess.run(["bash", "-c", ready], check=True, capture_output=True, text=True, timeout=60)
        return done.stdout

    def finds_request(self, end: str) -> None:
        """Opens the newest request with this end, once the log has it."""
        row = f"#result_list tr:has-text('{end}') th a >> nth=0"
        self.click("nav >> text=Requests >> nth=-1")
        self.page.wait_for_url("**/admin/gateway/requestrecord/")
        until(lambda: self.page.locator(row).count() or not self.page.reload(), what=f"a request that ended {end}")
        self.click(row)


def test_the_walk_through(chromium: str, tmp_path: Path, django_db_setup: None) -> None:
    platform = Installation(tmp_path)
    account = ("--username", "ann", "--email", "ann@example.com")
    platform.manage("createsuperuser", "--noinput", *account, DJANGO_SUPERUSER_PASSWORD=PASSWORD)
    (document,) = blocks(GUIDE, "yaml")
    (tmp_path / "first.yaml").write_text(document)
    platform.manage("apply", str(tmp_path / "first.yaml"))
    with platform.served() as server, browsing(chromium) as page:
        newcomer = Newcomer(page, server)
        logs_in_and_approves_a_model(newcomer)
        sets_up_a_tenant(newcomer)
        calls_and_finds_the_call(newcomer)
        uses_the_budget_up_and_raises_it(newcomer)
        platform.manage("make_statements")
        reads_the_statement(newcomer)
        if WANTED:
            pictures_home(newcomer, platform)


def logs_in_and_approves_a_model(ann: Newcomer) -> None:
    page = ann.page
    page.goto(f"{ann.server.origin}/admin/")
    page.fill("[name=username]", "ann")
    page.fill("[name=password]", PASSWORD)
    page.keyboard.press("Enter")
    ann.sees("First steps", "Model house-chat is proposed", "Live, data through")
    ann.pictures("first-login")

    ann.clicks = 0
    ann.click("text=Model house-chat is proposed")
    ann.sees("input 3, output 15 USD per million", "Proposed by")
    ann.pictures("a-proposed-model")
    ann.click("button:has-text('Approve')")
    ann.sees("Approved: house-chat")
    assert ann.clicks <= MOST_CLICKS_TO_APPROVE


def sets_up_a_tenant(ann: Newcomer) -> None:
    page = ann.page
    ann.click("nav >> text=Home >> nth=0")
    ann.click("text=Open it to a tenant")
    page.fill("[name=name]", "acme")
    ann.click("[name=_save]")
    ann.sees("What could acme do right now?", "Nothing: it has no key that works", "No budget holds this tenant")
    ann.pictures("a-new-tenant")

    ann.click("a:has-text('Approve a model')")
    page.click(".field-model .select2-selection")
    page.keyboard.type("house")
    page.wait_for_selector(".select2-results >> text=house-chat")
    page.keyboard.press("Enter")
    ann.click("[name=_save]")

    ann.click("a:has-text('Set a budget')")
    page.fill("[name=limit]", "0.02")
    ann.sees("No hard budget above it: this one binds")
    ann.pictures("a-hard-budget")
    ann.click("[name=_save]")
    ann.sees("0.02 USD left, bound by this budget")

    ann.click("a:has-text('Create a key')")
    page.fill("[name=name]", "ci")
    ann.click("[name=_save]")
    ann.sees("Copy it now: it is not stored and cannot be shown again")
    ann.key = page.inner_text("#key-text")
    ann.pictures("a-key-shown-once")
    ann.click("text=acme's page")
    ann.sees("1 of 1 models and groups would answer")


def calls_and_finds_the_call(ann: Newcomer) -> None:
    answer = until(lambda: "200 OK" in (said := ann.pastes("curl -si")) and said, what="the new key being known")
    head, _, body = answer.replace("\r\n", "\n").partition("\n\n")
    told = dict(line.split(": ", 1) for line in head.splitlines()[1:])
    cost = told["x-gateway-cost-usd"]
    assert json.loads(body)["choices"][0]["message"]["content"]

    ann.finds_request(told["x-request-id"])
    ann.sees("Asked for house-chat, served by house-chat at mock", cost)
    ann.pictures("a-call-and-its-trace")
    ann.sees("chosen", "at 3 per million", "at 15 per million", "given back")
    ann.pictures("what-a-call-cost", at="text=Who could have answered")


def uses_the_budget_up_and_raises_it(ann: Newcomer) -> None:
    page = ann.page
    refusal: dict[str, Any] = json.loads(ann.pastes("until"))["error"]
    assert (refusal["code"], refusal["scope"], refusal["limit_usd"]) == ("budget_exceeded", "tenant", "0.02")

    ann.finds_request("402 budget exceeded")
    ann.sees("no provider was asked", refusal["message"])
    ann.pictures("a-refused-call")
    ann.click("#main >> a:text-is('acme') >> nth=0")
    ann.sees("0 of 1 models and groups would answer", "budget_exceeded")
    ann.pictures("what-the-tenant-can-do-now", at="text=What could acme do right now?")

    ann.click("#main >> a:text-is('The whole tenant')")
    page.fill("[name=limit]", "5")
    ann.sees("5 USD last until the period ends")
    ann.pictures("raise-the-budget")
    ann.click("[name=_save]")
    ann.sees("was changed successfully")
    until(lambda: "200 OK" in ann.pastes("curl -si"), what="a call within the raised budget")


def reads_the_statement(ann: Newcomer) -> None:
    ann.click("nav >> text=Tenants >> nth=-1")
    ann.click("#main >> a:text-is('acme')")
    ann.click("section:has(#statements-title) a")
    ann.sees("Draft statement", "Subtotal, at cost as in the ledger", "house-chat at mock")
    ann.pictures("the-statement")


def pictures_home(ann: Newcomer, platform: Installation) -> None:
    """Home of a platform that has been busy for a month."""
    platform.manage("verify_money")
    platform.run("tests.docs.busy_month")
    platform.manage("roll_up_usage")
    platform.run("tests.docs.busy_month", "forget")
    ann.page.goto(f"{ann.server.origin}/admin/")
    ann.sees("Live, data through")
    take_picture(ann.page, "admin-home", height=1180)
