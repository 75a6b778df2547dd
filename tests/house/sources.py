"""Finding and reading the project's source files for the house rules."""

import ast
import io
import os
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

SIZED_SUFFIXES = {".py", ".sql", ".html", ".css", ".js", ".sh", ".c", ".h"}
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """A file below the root: its path with forward slashes, its text, its syntax tree (empty unless Python)."""

    path: str
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The top folder."""
        return PurePosixPath(self.path).parts[0]


def source_files(root: Path) -> list[str]:
    """Paths below `root`, in order; no hidden folders, no migrations, nothing built."""
    found = []
    for folder, names, files in os.walk(root):
        inside = Path(folder).relative_to(root)
        names[:] = [
            n for n in names if not n.startswith((".", "__")) and n not in ("migrations", "build", "staticfiles")
        ]
        found += [(inside / name).as_posix() for name in files if Path(name).suffix in SIZED_SUFFIXES]
    return sorted(found)


def load(root: Path, path: str) -> Source:
    text = (root / path).read_text(encoding="utf-8")
    return Source(path, text, ast.parse(text) if path.endswith(".py") else ast.Module([], []))


def functions(tree: ast.AST) -> Iterator[tuple[ast.AST, FunctionNode]]:
    """Every function with the node that holds it."""
    for holder in ast.walk(tree):
        for node in ast.iter_child_nodes(holder):
            if isinstance(node, FunctionNode):
                yield holder, node


def with_function(tree: ast.AST, function: str = "module") -> Iterator[tuple[str, ast.AST]]:
    """Every node with the name of the innermost function around it."""
    for node in ast.iter_child_nodes(tree):
        name = node.name if isinstance(node, FunctionNode) else function
        yield name, node
        yield from with_function(node, name)


def parameter_names(node: FunctionNode, *, in_class: bool) -> tuple[list[str], list[str]]:
    """Names of the positional parameters without self or cls, and of the keyword-only ones."""
    positional = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    static = any(isinstance(item, ast.Name) and item.id == "staticmethod" for item in node.decorator_list)
    if in_class and not static:
        positional = positional[1:]
    return positional, [argument.arg for argument in node.args.kwonlyargs]


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or attribute; calls and subscripts inside are left out."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def comments(source: Source) -> Iterator[tuple[int, str]]:
    """Line number and text of every comment; of every line where the file is not Python."""
    if not source.path.endswith(".py"):
        yield from enumerate(source.text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line number and text of every docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | FunctionNode) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text
