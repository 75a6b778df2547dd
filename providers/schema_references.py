"""How the parts of a JSON schema refer to each other: what contains itself, and what refers to nothing. No Django.

Only places where JSON Schema 2020-12 (or draft 7) has a schema are looked at: a `$ref` inside an `enum`, a `default` or
an example is data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

BY_NAME = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})
LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
SINGLE = frozenset(
    {
        "items",
        "additionalItems",
        "additionalProperties",
        "unevaluatedItems",
        "unevaluatedProperties",
        "contains",
        "propertyNames",
        "contentSchema",
        "not",
        "if",
        "then",
        "else",
    }
)
DEFINITIONS = frozenset({"$defs", "definitions"})
IN_PLACE = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"})
"""What is applied to the same value, and not to a part of it."""

Schema = dict[str, Any]
Parts = Callable[[Schema], Iterator[Any]]


MOST_STEPS = 100_000
"""How many parts are looked at, again for each reference to them: a twentieth of a second, far more than honest schemas
need."""


class SchemaReferenceError(ValueError):
    """A `$ref` within the document that leads to nothing, or more of them than anybody can follow."""


def parts(schema: Schema) -> Iterator[Any]:
    """The schemas directly inside one, definitions included."""
    for word, value in schema.items():
        yield from _schemas_at(word, value)


def _schemas_at(word: str, value: Any) -> Iterator[Any]:
    if word in BY_NAME and isinstance(value, dict):
        yield from (inner for inner in value.values() if isinstance(inner, (dict, bool)))
    elif word in LISTS and isinstance(value, list):
        yield from value
    elif word in SINGLE:
        yield value


def _applied_parts(schema: Schema) -> Iterator[Any]:
    """Those that a value is held to: definitions are not, until something refers to them."""
    for word, value in schema.items():
        if word not in DEFINITIONS:
            yield from _schemas_at(word, value)


def _parts_in_place(schema: Schema) -> Iterator[Any]:
    for word in IN_PLACE & schema.keys():
        value = schema[word]
        inner = value if isinstance(value, list) else value.values() if word == "dependentSchemas" else [value]
        yield from inner


def _required_parts(schema: Schema) -> Iterator[Any]:
    """All but the members that may be left out."""
    required = schema.get("required")
    for word, value in schema.items():
        if word == "properties" and isinstance(value, dict):
            named = required if isinstance(required, list) else []
            yield from (inner for name, inner in value.items() if name in named)
        elif word not in DEFINITIONS and word != "patternProperties":
            yield from _schemas_at(word, value)


def references(schema: Any, within: Parts = parts) -> list[str]:
    """Every `$ref` in a schema, as far as `within` goes into it. Raises `SchemaReferenceError` for too large a one."""
    return _walk(schema, within, steps=MOST_STEPS)[0]


def _walk(schema: Any, within: Parts, *, steps: int) -> tuple[list[str], int]:
    """The references, and how many of the steps are left."""
    found: list[str] = []
    waiting = [schema]
    while waiting:
        schema = waiting.pop()
        steps -= 1
        if steps < 0:
            raise SchemaReferenceError("This schema has too many parts that refer to each other.")
        if isinstance(schema, dict):
            if isinstance(schema.get("$ref"), str):
                found.append(schema["$ref"])
            waiting.extend(within(schema))
    return found, steps


def every_part(root: Schema) -> list[Schema]:
    """The schema and all schemas inside it. Raises `SchemaReferenceError` for too many of them."""
    found: list[Schema] = []
    waiting: list[Any] = [root]
    while waiting:
        schema = waiting.pop()
        if isinstance(schema, dict):
            found.append(schema)
            waiting.extend(parts(schema))
        if len(found) > MOST_STEPS:
            raise SchemaReferenceError("This schema has too many parts.")
    return found


def resolve(root: Any, pointer: str) -> Any:
    """What `#` or `#/…` stands for. Raises `SchemaReferenceError`."""
    if pointer != "#" and not pointer.startswith("#/"):
        raise SchemaReferenceError(f"{pointer!r} is an anchor; refer to a part by its place, such as #/$defs/NAME.")
    found = root
    for step in pointer.removeprefix("#").split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        try:
            found = found[int(name)] if isinstance(found, list) else found[name]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise SchemaReferenceError(f"{pointer!r} leads to nothing in this schema.") from error
    return found


def is_recursive(root: Schema) -> bool:
    """Whether some part of a schema contains itself. Raises `SchemaReferenceError`."""
    return _has_cycle(root, _applied_parts)


def must_recur(root: Schema) -> bool:
    """Whether one does without a member that may be left out in between."""
    return _has_cycle(root, _required_parts)


def goes_in_circles(root: Schema) -> bool:
    """Whether a part is defined by itself with nothing in between: no value can be held to that."""
    return _has_cycle(root, _parts_in_place)


def _has_cycle(root: Schema, within: Parts) -> bool:
    """Whether following references leads back to where one has been."""
    leads_to: dict[str, set[str]] = {}
    found, steps = _walk(root, parts, steps=MOST_STEPS)
    waiting = {"#", *_local(found)}
    while waiting:
        pointer = waiting.pop()
        found, steps = _walk(resolve(root, pointer), within, steps=steps)
        leads_to[pointer] = set(_local(found))
        waiting |= leads_to[pointer] - leads_to.keys()
    return _circular(leads_to)


def _local(found: list[str]) -> Iterator[str]:
    return (reference for reference in found if reference.startswith("#"))


def _circular(leads_to: dict[str, set[str]]) -> bool:
    """Take away what leads nowhere any more; what is left over goes in circles."""
    while ends := [pointer for pointer, targets in leads_to.items() if not targets & leads_to.keys()]:
        for pointer in ends:
            del leads_to[pointer]
    return bool(leads_to)
