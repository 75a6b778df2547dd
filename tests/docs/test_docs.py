"""The documentation against the code: links lead somewhere, names are those of the code, snippets run."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.management import get_commands, load_command_class
from django.urls import URLPattern
from prometheus_client.metrics import MetricWrapperBase

from billing.pricing import PRICED_AS, UNITS
from gateway import observation
from gateway.configuration.apply import apply_document
from gateway.configuration.parsing import parse
from gateway.data_plane_urls import urlpatterns
from gateway.errors import GatewayError
from gateway.settings import BASE_DIR
from tenants.keys import generate_key
from tests import engines, factories
from tests.docs.markdown import PAGES, anchors, blocks, codes, links, name_of, reference, table, target_of
from tests.engines import ROOT
from tests.live import LiveServer, until

ROOMS = ("gateway", "billing", "providers", "tenants")
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "migrations" not in path.parts)
QUICKSTART = ROOT / "docs/quickstart.md"

# What every command of Django takes.
COMMON_OPTIONS = {
    "--help", "--version", "--verbosity", "--settings", "--pythonpath", "--traceback", "--no-color", "--force-color",
    "--skip-checks",
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        target = target_of(page, link)
        assert target.exists(), f"{link} leads nowhere"
        fragment = link.partition("#")[2]
        assert not fragment or fragment in anchors(target), f"{link}: no such heading"


def test_the_map_has_every_page() -> None:
    map_page = ROOT / "docs/README.md"
    mapped = {target_of(map_page, link) for link in links(map_page)} | {map_page}
    assert [name_of(page) for page in PAGES if page.is_relative_to(map_page.parent) and page not in mapped] == []
    assert map_page in {target_of(ROOT / "README.md", link) for link in links(ROOT / "README.md")}


def test_pages_that_the_code_names_exist() -> None:
    named = {name for source in SOURCES for name in re.findall(r"docs/[\w/-]+\.md", source.read_text())}
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_settings() -> None:
    tree = ast.parse((BASE_DIR / "gateway/settings.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    readers = [call for call in calls if call.func.id in ("_text", "_number", "_list")]  # type: ignore[attr-defined]
    read = {call.args[0].value for call in readers if isinstance(call.args[0], ast.Constant)}
    documented = [name for row in table(reference("settings"), "variable") for name in codes(row[0])]
    assert sorted(documented) == sorted(read)


def test_errors() -> None:
    known = {(error.code, str(error.status), error.type) for error in _subclasses(GatewayError)}
    documented = {
        (codes(code)[0], status, codes(kind)[0])
        for code, statuses, kind, *_ in table(reference("errors"), "code")
        for status in statuses.split(" or ")
    }
    assert documented == known


def _subclasses(error: type[GatewayError]) -> Iterator[type[GatewayError]]:
    for subclass in error.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def test_metrics() -> None:
    metrics = [metric for metric in vars(observation).values() if isinstance(metric, MetricWrapperBase)]
    known = {}
    for metric in metrics:
        suffix = "_total" if metric._type == "counter" else ""
        known[metric._name + suffix] = (metric._type, list(metric._labelnames))
    documented = {codes(row[0])[0]: (row[1], codes(row[2])) for row in table(reference("metrics-and-logs"), "metric")}
    assert documented == known


def test_log_events() -> None:
    logged = re.compile(r"logger\.(\w+)\(\s*\"([a-z_]+\.[a-z_]+)\"")
    known = {event: level for source in SOURCES for level, event in logged.findall(source.read_text())}
    documented = {codes(row[0])[0]: row[1] for row in table(reference("metrics-and-logs"), "event")}
    assert documented == {event: "error" if level == "exception" else level for event, level in known.items()}


def test_endpoints() -> None:
    known = {entry for pattern in urlpatterns for entry in _described(pattern)}
    documented = set()
    for endpoint, scope, _ in table(reference("http-api"), "method and path"):
        method, path = endpoint.split(" ")
        documented.add((method, codes(path)[0], (codes(scope) or [""])[0]))
    assert documented == known


def _described(pattern: URLPattern) -> Iterator[tuple[str, str, str]]:
    view = pattern.callback.cls  # type: ignore[attr-defined]
    path = "/" + re.sub(r"<[^>]+>", "{id}", str(pattern.pattern))
    for method in ("get", "post", "put", "patch", "delete"):
        if hasattr(view, method):
            scope = view.scope[0] if isinstance(view.scope, tuple) else view.scope
            yield method.upper(), path, str(scope or "")


def test_units() -> None:
    page = ROOT / "docs/how-to/change-a-price.md"
    documented = {codes(row[0])[0]: (codes(row[1]) or [None])[0] for row in table(page, "unit")}
    assert documented == {unit: PRICED_AS.get(unit) for unit in UNITS}


def own_commands() -> list[str]:
    return sorted(name for name, app in get_commands().items() if app in ROOMS)


def options_of(command: str) -> set[str]:
    """A command's long options, without those that all commands have."""
    app = get_commands()[command]
    assert isinstance(app, str)
    parser: ArgumentParser = load_command_class(app, command).create_parser("manage.py", command)
    return {name for action in parser._actions for name in action.option_strings if name.startswith("--")}


def test_commands() -> None:
    text = reference("commands").read_text()
    sections = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## )", text, re.M | re.S))
    assert sorted(sections) == own_commands()
    for command, section in sections.items():
        documented = {option for option in codes(section) if option.startswith("--")}
        assert documented == options_of(command) - COMMON_OPTIONS, command


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_command_lines_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in _command_lines(page):
        words = shlex.split(line, comments=True)
        if words and words[0] == "make":
            assert words[1] in targets, line
        if "manage.py" in words:
            command, *rest = words[words.index("manage.py") + 1 :]
            given = {word.partition("=")[0] for word in rest if word.startswith("--")}
            assert given <= options_of(command), line


def _command_lines(page: Path) -> Iterator[str]:
    for block in (*blocks(page, "bash"), *blocks(page, "console")):
        for line in block.replace("\\\n", " ").splitlines():
            yield line.strip().removeprefix("$ ")


YAML = [(page, number) for page in PAGES for number in range(len(blocks(page, "yaml")))]


@pytest.mark.parametrize(("page", "number"), YAML, ids=[f"{name_of(page)}-{number}" for page, number in YAML])
def test_configuration_examples_can_be_applied(
    page: Path, number: int, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = blocks(page, "yaml")[number]
    for variable in re.findall(r"_env: (\w+)", text):
        monkeypatch.setenv(variable, generate_key())
    mock = factories.make_provider("mock://local", kind="mock", name="mock")
    factories.make_model(mock, name="house-chat", prices=None)
    done = apply_document(parse(text)).as_json()
    assert done["created"] or done["changed"]
    assert apply_document(parse(text)).as_text() == "Nothing changed."


@pytest.fixture(scope="module")
def demo(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: Any
) -> Iterator[tuple[LiveServer, str]]:
    """A live gateway with the demo's models, and a key for them."""
    with django_db_blocker.unblock():
        tenant = factories.make_tenant("demo")
        mock = factories.make_provider("mock://local", kind="mock", name="mock")
        chat = factories.make_model(mock, name="mock-chat")
        embed = factories.make_model(mock, name="mock-embed", capabilities=("embeddings",))
        factories.approve(tenant, chat, embed)
        _, key = factories.make_key(tenant)
        server = LiveServer("uvicorn", tmp_path_factory.mktemp("docs"))
        try:
            yield server, key
        finally:
            server.stop()
            engines.empty_database()


def test_the_quickstart_runs(demo: tuple[LiveServer, str]) -> None:
    server, key = demo
    (snippet,) = blocks(QUICKSTART, "python")
    for written, real in (("http://127.0.0.1:5005/v1", server.base_url), ("YOUR_KEY", key)):
        assert written in snippet
        snippet = snippet.replace(written, real)
    said = subprocess.run([sys.executable, "-c", snippet], check=True, capture_output=True, text=True).stdout
    whole, streamed, vectors = said.splitlines()
    assert "Hello, Bursar" in whole and "piece by piece" in streamed and vectors == "2 vectors"


def test_an_answers_headers_and_its_log_line(demo: tuple[LiveServer, str]) -> None:
    server, key = demo
    ask = {"model": "mock-chat", "messages": [{"role": "user", "content": "hi"}]}
    with server.client(key) as client:
        answer: httpx.Response = client.post("/chat/completions", json=ask, headers={"x-request-id": "documented"})
    headers = {name for name in answer.headers if name.startswith("x-gateway-")}
    assert {codes(row[0])[0] for row in table(reference("http-api"), "header")} == headers

    lines = until(
        lambda: [line for line in server.call_lines() if line["request_id"] == "documented"], what="the log line"
    )
    fields = [name for row in table(reference("metrics-and-logs"), "field") for name in codes(row[0])]
    assert sorted(fields) == sorted(lines[0])
