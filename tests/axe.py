"""What axe-core finds wrong with a page for people who do not see it or use no mouse."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

from playwright.sync_api import Page

from tests.engines import ROOT

SCRIPT = ROOT / "tests/vendor/axe-core/axe.min.js"
SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
RUN = """async () => {
    const found = await axe.run(document, {
        runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], resultTypes: ["violations"],
    });
    return found.violations.filter(({impact}) => ["serious", "critical"].includes(impact)).map(({id, nodes}) => [
        id, nodes.slice(0, 3).map((node) => `${node.target} ${node.html.slice(0, 160)} ${node.failureSummary}`),
    ]);
}"""


@cache
def script() -> str:
    """The vendored script, as it was published."""
    source = SCRIPT.read_bytes()
    assert hashlib.sha256(source).hexdigest() == SHA256, "this is not the axe-core that was looked at"
    return source.decode()


def serious_findings(page: Page) -> list[Any]:
    """The rules that a page breaks seriously or critically, with up to three places of each."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(script())  # through the debugger: the page's own policy allows no script but the server's
    found: list[Any] = page.evaluate(RUN)
    return found
