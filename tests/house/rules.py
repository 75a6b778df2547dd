"""The house rules that no linter on the shelf knows, each a function from one source file to its violations.

A rule that is right to break in one place is not broken silently: the place is named in the constants below.
"""

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tests.house.sources import (
    Source,
    comments,
    docstrings,
    dotted,
    functions,
    load,
    parameter_names,
    source_files,
    with_function,
)

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 70
MAX_PARAMETERS = 6
MAX_POSITIONAL = 2

# Where everything may be caught, as "file:function". Each must record or re-raise; an entry that catches nothing is
# itself a violation, so the list stays as long as the truth.
BROAD_EXCEPT_DOORS = frozenset(
    {"gateway/views.py:_answered", "gateway/hooks/runner.py:ask", "gateway/jobs/workplace.py:_see_to"}
)

FORBIDDEN_MODULES = {"utils", "helpers", "common", "manager"}
OPEN_WORK = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")

# These folders run processes of their own for checks, measurements and installation.
MAY_READ_ENVIRONMENT = {"tests", "bench", "deploy"}
SETTINGS = "gateway/settings.py"
# The ways in to Django, which must say where the settings are before Django is asked anything.
ENTRY_POINTS = {"manage.py", "gateway/asgi.py", "gateway/celery.py"}

# Methods whose signature another party calls by position: Python's protocols, Django's admin and login.
PROTOCOL_METHODS = {
    "__call__",
    "__exit__",
    "__aexit__",
    "add_view",
    "change_view",
    "get_object",
    "get_search_results",
    "has_perm",
    "history_view",
    "log_addition",
    "log_change",
    "lookup_allowed",
    "response_add",
    "save_model",
}
# Free functions of a protocol, known by their parameters: an ASGI application.
PROTOCOL_SIGNATURES = {("scope", "receive", "send")}

PROVIDER_KINDS = {"openai", "openai_compatible", "anthropic", "google", "deepseek", "ollama", "cli", "mock"}
KIND_OWNERS = ("provider", "deployment", "adapter", "credential")


@dataclass(frozen=True)
class Violation:
    """One broken rule at one place, and what mends it."""

    path: str
    line: int
    rule: str
    mend: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.mend}"


Rule = Callable[[Source], list[Violation]]


def file_size(source: Source) -> list[Violation]:
    lines = len(source.text.splitlines())
    if lines <= MAX_FILE_LINES:
        return []
    mend = f"{lines} lines, {MAX_FILE_LINES} never; split it by what its parts are for"
    return [Violation(source.path, MAX_FILE_LINES + 1, "file size", mend)]


def function_size(source: Source) -> list[Violation]:
    found = []
    for _, node in functions(source.tree):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > MAX_FUNCTION_LINES:
            mend = f"{node.name} has {lines} lines, {MAX_FUNCTION_LINES} never; give its steps names"
            found.append(Violation(source.path, node.lineno, "function size", mend))
    return found


def parameters(source: Source) -> list[Violation]:
    """At most 6 parameters; outside tests, keyword-only after the second. A test's own are its fixtures and cases."""
    found = []
    for holder, node in functions(source.tree):
        in_class = isinstance(holder, ast.ClassDef)
        positional, keyword_only = parameter_names(node, in_class=in_class)
        is_test = source.room == "tests" and node.name.startswith("test_")
        is_protocol = (in_class and node.name in PROTOCOL_METHODS) or tuple(positional) in PROTOCOL_SIGNATURES
        if is_test or is_protocol:
            continue
        count = len(positional) + len(keyword_only)
        if count > MAX_PARAMETERS:
            mend = f"{node.name} takes {count} parameters, {MAX_PARAMETERS} at most; group those that belong together"
            found.append(Violation(source.path, node.lineno, "parameters", mend))
        if len(positional) > MAX_POSITIONAL and source.room != "tests":
            mend = f"{node.name}: put a * after {positional[MAX_POSITIONAL - 1]!r}"
            found.append(Violation(source.path, node.lineno, "keyword-only", mend))
    return found


def imports_in_functions(source: Source) -> list[Violation]:
    found: dict[int, Violation] = {}
    for _, function in functions(source.tree):
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                mend = f"move it from {function.name} to the top; if that closes a circle, a part is in the wrong file"
                found.setdefault(node.lineno, Violation(source.path, node.lineno, "import in a function", mend))
    return list(found.values())


def module_names(source: Source) -> list[Violation]:
    path = PurePosixPath(source.path)
    if path.suffix != ".py":  # templates lie where the theme they override has them
        return []
    bad = [part for part in (*path.parent.parts, path.stem) if part in FORBIDDEN_MODULES]
    mend = "name it after what is in it"
    return [Violation(source.path, 1, f"module named {part!r}", mend) for part in bad]


def environment(source: Source) -> list[Violation]:
    """`os.environ` only in the settings; the entry points may set the default for DJANGO_SETTINGS_MODULE."""
    if source.path == SETTINGS or source.room in MAY_READ_ENVIRONMENT:
        return []
    allowed: set[ast.AST] = set()
    found = []
    for node in ast.walk(source.tree):
        if source.path in ENTRY_POINTS and isinstance(node, ast.Call) and _names_settings_module(node):
            allowed.update(ast.walk(node))
        if node not in allowed and _reads_environment(node):
            mend = f"read it once in {SETTINGS} and use the setting"
            found.append(Violation(source.path, getattr(node, "lineno", 1), "environment", mend))
    return found


def broad_except(source: Source) -> list[Violation]:
    """`except Exception`, `BaseException`, bare, and `suppress(Exception)`: only at the named doors."""
    if source.room == "tests":
        return []
    doors_here = {door for door in BROAD_EXCEPT_DOORS if door.startswith(f"{source.path}:")}
    used, found = set(), []
    for function, node in with_function(source.tree):
        if not _catches_everything(node):
            continue
        door = f"{source.path}:{function}"
        used.add(door)
        if door not in doors_here:
            mend = f"name the errors that can happen here, or make {door} a door in tests/house/rules.py"
            found.append(Violation(source.path, getattr(node, "lineno", 1), "broad except", mend))
    for door in sorted(doors_here - used):
        found.append(Violation(source.path, 1, "broad except", f"{door} catches nothing broad; take it off the doors"))
    return found


def provider_kinds(source: Source) -> list[Violation]:
    """No decision by the kind of a provider outside its adapter."""
    if source.room == "tests" or source.path.startswith("providers/adapters/"):
        return []
    mend = "let the adapter answer: a method or a declared capability in providers/adapters"
    return [
        Violation(source.path, node.lineno, "comparison with a provider's kind", mend)
        for node in ast.walk(source.tree)
        if (isinstance(node, ast.Compare) and _compares_kind([node.left, *node.comparators]))
        or (isinstance(node, ast.Match) and _compares_kind([node.subject, *_case_values(node)]))
    ]


def open_work(source: Source) -> list[Violation]:
    """No promises in comments and docstrings."""
    mend = "do it now, or open an issue and say nothing here"
    return [
        Violation(source.path, line, f"{match.group()} left open", mend)
        for line, text in [*comments(source), *docstrings(source.tree)]
        if (match := OPEN_WORK.search(text))
    ]


RULES: tuple[Rule, ...] = (
    file_size,
    function_size,
    parameters,
    imports_in_functions,
    module_names,
    environment,
    broad_except,
    provider_kinds,
    open_work,
)


def check(root: Path, rules: tuple[Rule, ...] = RULES) -> list[Violation]:
    """Every violation of `rules` in the sources under `root`; a file that does not parse is one too."""
    found: list[Violation] = []
    for path in source_files(root):
        try:
            source = load(root, path)
        except SyntaxError as error:
            found.append(Violation(path, error.lineno or 1, "syntax", str(error.msg)))
            continue
        for rule in rules:
            found += rule(source)
    return found


def _reads_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and any(name.name in ("environ", "environb", "getenv") for name in node.names)
    return isinstance(node, ast.Attribute) and dotted(node) in ("os.environ", "os.environb", "os.getenv")


def _names_settings_module(call: ast.Call) -> bool:
    first = call.args[0] if call.args else None
    is_settings = isinstance(first, ast.Constant) and first.value == "DJANGO_SETTINGS_MODULE"
    return dotted(call.func) == "os.environ.setdefault" and is_settings


def _catches_everything(node: ast.AST) -> bool:
    if isinstance(node, ast.ExceptHandler):
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        return any(item is None or _is_everything(item) for item in caught)
    if isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] == "suppress":
        return any(_is_everything(argument) for argument in node.args)
    return False


def _is_everything(node: ast.AST) -> bool:
    return dotted(node).split(".")[-1] in ("Exception", "BaseException")


def _compares_kind(sides: list[ast.expr]) -> bool:
    kinds = [dotted(side) for side in sides if dotted(side).split(".")[-1].endswith("kind")]
    owned = any(owner in name for name in kinds for owner in KIND_OWNERS)
    literals = {item.value for side in sides for item in ast.walk(side) if isinstance(item, ast.Constant)}
    return bool(kinds) and (owned or bool(literals & PROVIDER_KINDS))


def _case_values(node: ast.Match) -> list[ast.expr]:
    return [item.value for case in node.cases for item in ast.walk(case.pattern) if isinstance(item, ast.MatchValue)]
