"""An owner's way through statements in a real browser."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from billing.models import Markup, Statement, StatementSchedule
from billing.reconciliation.comparison import reconcile
from billing.reconciliation.export import read_file
from billing.statements.nightly import make_due_statements
from tenants.models import Operator, Role
from tests.admin.conftest import PASSWORD
from tests.admin.test_browser import browsing, chromium, log_in, origin_of
from tests.billing.statement_seeding import make_tenants, post_entries
from tests.factories import make_provider

__all__ = ["chromium"]


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


def test_an_owner_issues_and_credits(chromium: str, live_server: Any) -> None:
    Operator.objects.create_user("ada", password=PASSWORD, role=Role.OWNER, is_staff=True)
    (tenant,) = make_tenants(1, zones=["Asia/Kathmandu"])
    start = dt.datetime(2024, 1, 5, tzinfo=dt.UTC)
    Markup.objects.create(
        tenant=tenant, basis_points=1250, valid_from=dt.datetime(2023, 1, 1, tzinfo=dt.UTC), reason="x"
    )
    StatementSchedule.objects.create(tenant=tenant, issues_by_itself=False)
    post_entries([tenant], 300, start=start, end=start + dt.timedelta(days=20))
    (draft,) = make_due_statements(tenant.pk)
    days = "".join(f"2024-01-{day:02d},up,{day * 90000},{20 + day % 5}\n" for day in range(5, 25))
    export = read_file("export.csv", f"day,model,tokens,cost\n{days}".encode())
    run = reconcile(make_provider("https://api.example.com/v1", name="provider-1"), export, by=None)
    statement_page = f"/admin/billing/statement/{draft.statement.pk}/change/"

    origin = origin_of(live_server)
    with browsing(chromium) as page:
        log_in(page, origin)
        page.goto(f"{origin}/admin/billing/statement/")
        assert fits(page)
        page.goto(origin + statement_page)
        assert fits(page)
        page.click("button:has-text('Issue')")
        page.click("button:has-text('Issue')")
        page.wait_for_selector("text=Issued:")
        with page.expect_download() as downloaded:
            page.click("a:has-text('PDF')")
        content = Path(downloaded.value.path()).read_bytes()
        assert content.startswith(b"%PDF")
        page.click("button:has-text('Credit')")
        page.fill("[name=amount]", "1.5")
        page.fill("[name=reason]", "An outage")
        page.click("button:has-text('Credit')")
        page.wait_for_selector("text=Issued C-")
        page.goto(f"{origin}/admin/billing/reconciliationrun/{run.pk}/change/")
        assert fits(page)
        page.goto(f"{origin}/admin/billing/markup/add/?tenant={tenant.pk}")
        page.fill("[name=percent]", "10")
        page.wait_for_selector("text=comes to")

    assert Statement.objects.get(credits=draft.statement).total_cents == -169
