"""Every test that the page of the money invariants names is there."""

from __future__ import annotations

import ast
import re

from tests.docs.markdown import codes, reference, table
from tests.engines import ROOT

PAGE = reference("money-invariants")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def functions_of(path: str) -> set[str]:
    """The names of a file's test functions; none where there is no such file."""
    file = ROOT / path
    if not file.is_file():
        return set()
    nodes = ast.walk(ast.parse(file.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_test_it_names_exists() -> None:
    named = TEST.findall(PAGE.read_text())
    assert len(named) > 20
    assert [f"{path}::{name}" for path, name in named if name not in functions_of(path)] == []


def test_every_invariant_is_driven() -> None:
    rows = table(PAGE, "number")
    numbers = [int(row[0].removeprefix("M")) for row in rows]
    assert numbers == sorted(set(numbers))
    assert [row[0] for row in rows if not codes(row[2])] == []
