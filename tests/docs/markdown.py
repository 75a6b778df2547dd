"""Reading the documentation: pages, links, tables, blocks of code."""

from __future__ import annotations

import re
from pathlib import Path

from tests.engines import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`]+)`")


def name_of(page: Path) -> str:
    """A page's path from the root, for messages and test ids."""
    return page.relative_to(ROOT).as_posix()


def reference(name: str) -> Path:
    return ROOT / "docs/reference" / f"{name}.md"


def blocks(page: Path, language: str) -> list[str]:
    """The page's blocks of code in a language."""
    return [text for found, text in BLOCK.findall(page.read_text()) if found == language]


def links(page: Path) -> list[str]:
    """Targets of the page's links, those to other sites left out."""
    text = BLOCK.sub("", page.read_text())
    return [target for target in LINK.findall(text) if not target.startswith(("http://", "https://"))]


def target_of(page: Path, link: str) -> Path:
    """The file that a relative link leads to."""
    path, _, _ = link.partition("#")
    return (page.parent / path).resolve() if path else page


def anchors(page: Path) -> set[str]:
    """What a `#fragment` may name in a page: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table(page: Path, first: str) -> list[list[str]]:
    """The rows of all tables of a page whose first column is headed so, as lists of cells."""
    found: list[list[str]] = []
    wanted = False
    before: list[str] = []
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.lstrip().startswith("|") else []
        if not cells:
            wanted = False
        elif set("".join(cells)) <= {"-", ":"}:
            wanted = before[0] == first
        elif wanted:
            found.append(cells)
        before = cells
    assert found, f"{name_of(page)} has no table that begins with {first!r}"
    return found


def codes(cell: str) -> list[str]:
    """What stands in backticks in a cell."""
    return CODE.findall(cell)
