"""Reading a JSON Schema: its keywords, its local references, and which of its branches can be satisfied."""

from __future__ import annotations

import math
from typing import Any, TypeVar
from urllib.parse import unquote

Schema = dict[str, Any]
Value = TypeVar("Value")

MERGES_LIMIT = 100
"""More references and branches on one place than this go in a circle."""

COUNT_LIMIT = 10_000
"""The mock makes no text, array or object of more than this."""

_LARGER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_SMALLER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


class SchemaProblemError(ValueError):
    """The schema is malformed, cannot be satisfied, or asks for more than the mock makes."""


def keyword(schema: Schema, name: str, *, kind: type[Value]) -> Value:
    """The value of a keyword, empty where it is absent. Raises `SchemaProblemError` for one of another type."""
    value = schema[name] if name in schema else kind()
    if not isinstance(value, kind):
        raise SchemaProblemError(f"{value!r:.100} is not a valid '{name}'")
    return value


def count(schema: Schema, name: str) -> int | None:
    """The value of a keyword that counts, such as `minItems`; 3.0 counts three."""
    value = schema.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or value < 0 or value != int(value):
        raise SchemaProblemError(f"{value!r:.100} is not a valid '{name}'")
    if name.startswith("min") and value > COUNT_LIMIT:
        raise SchemaProblemError(f"a '{name}' of {value} is more than the mock makes")
    return int(value)


def required_names(schema: Schema) -> list[str]:
    """The names an object must have."""
    names = keyword(schema, "required", kind=list)
    if not all(isinstance(name, str) for name in names):
        raise SchemaProblemError("'required' takes a list of names")
    return names


class Schemas:
    """One schema document, for the questions the sampler has about its parts."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._heights = dict.fromkeys(_references(root), math.inf)
        """How deep the smallest value of each referenced schema nests; infinite where it has none."""
        self._measure()
        if not self.is_possible(root):
            raise SchemaProblemError("no value fits it")

    def is_possible(self, schema: Any) -> bool:
        """Whether a value fits, as far as `false`, empty choices and endless recursion tell."""
        return self.height(schema) < math.inf

    def height(self, schema: Any) -> float:
        """How deep the smallest value of a schema nests; infinite where it has none."""
        if not isinstance(schema, dict):
            return math.inf if schema is False else 0
        if "const" in schema or "enum" in schema:
            return 0
        heights: list[float] = [0]
        if "$ref" in schema:
            heights.append(self._heights.get(str(schema["$ref"]), math.inf))
        heights += [self.height(part) for part in keyword(schema, "allOf", kind=list)]
        for word in ("anyOf", "oneOf"):
            if word in schema:
                heights.append(
                    min((self.height(branch) for branch in keyword(schema, word, kind=list)), default=math.inf)
                )
        properties = keyword(schema, "properties", kind=dict)
        needed = [properties[name] for name in required_names(schema) if name in properties]
        if count(schema, "minItems"):
            needed += [*keyword(schema, "prefixItems", kind=list), schema.get("items", {})]
        return max(heights + [1 + self.height(part) for part in needed])

    def flat(self, given: Any, *, shortest: bool) -> Schema:
        """The schema with its references, `allOf` and one branch of each `anyOf` and `oneOf` merged into it.

        The branch is the first possible one, or with `shortest` the one whose value nests least.
        """
        schema = _as_schema(given)
        for _ in range(MERGES_LIMIT):
            rest = dict(schema)
            if "$ref" in schema:
                schema = _merged(_as_schema(self._resolve(rest.pop("$ref"))), rest)
            elif "anyOf" in schema or "oneOf" in schema:
                word = "anyOf" if "anyOf" in schema else "oneOf"
                branches = keyword(schema, word, kind=list)
                del rest[word]
                schema = _merged(rest, _as_schema(self._branch(branches, shortest=shortest)))
            elif "allOf" in schema:
                del rest["allOf"]
                for part in keyword(schema, "allOf", kind=list):
                    rest = _merged(rest, _as_schema(part))
                schema = rest
            else:
                return schema
        raise SchemaProblemError("its references go in a circle")

    def _branch(self, branches: list[Any], *, shortest: bool) -> Any:
        possible = [branch for branch in branches if self.is_possible(branch)]
        if not possible:
            raise SchemaProblemError("no value fits it")
        return min(possible, key=self.height) if shortest else possible[0]

    def _resolve(self, reference: str) -> Any:
        if not (reference == "#" or reference.startswith("#/")):
            raise SchemaProblemError(f"{reference!r:.100} is not a reference inside the schema")
        found: Any = self._root
        for step in reference.split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            else:
                raise SchemaProblemError(f"{reference!r:.100} leads nowhere")
        return found

    def _measure(self) -> None:
        """Improve the heights of the references until none changes: recursive schemas need each other's."""
        for _ in range(MERGES_LIMIT):
            measured = {reference: self.height(self._resolve(reference)) for reference in self._heights}
            if measured == self._heights:
                return
            self._heights = measured
        raise SchemaProblemError("it has more references than the mock follows")


def _references(document: Any) -> set[str]:
    """Every reference in a schema document."""
    if isinstance(document, list):
        return set().union(*(_references(item) for item in document))
    if not isinstance(document, dict):
        return set()
    found = set().union(*(_references(item) for item in document.values()))
    reference = document.get("$ref")
    return found | {reference} if isinstance(reference, str) else found


def _as_schema(given: Any) -> Schema:
    if given is True:
        return {}
    if not isinstance(given, dict) or not isinstance(given.get("$ref", ""), str):
        raise SchemaProblemError("no value fits it" if given is False else f"{given!r:.100} is not a schema")
    return given


def _merged(first: Schema, second: Schema) -> Schema:
    """A schema that asks for what both ask for."""
    merged = {**first, **second}
    for name in first.keys() & second.keys():
        if name in _LARGER or name in _SMALLER:
            merged[name] = (max if name in _LARGER else min)(_bound(first, name), _bound(second, name))
        elif name == "allOf":
            merged[name] = [*keyword(first, name, kind=list), *keyword(second, name, kind=list)]
        elif name == "required":
            merged[name] = [*required_names(first), *required_names(second)]
        elif name == "properties":
            merged[name] = _both(keyword(first, name, kind=dict), keyword(second, name, kind=dict))
        elif name in ("enum", "type"):
            ours, theirs = _listed(first[name]), _listed(second[name])
            merged[name] = [item for item in ours if item in theirs]
            if not merged[name]:
                raise SchemaProblemError("no value fits it")
    twice = [word for word in ("$ref", "anyOf", "oneOf", "items") if word in first and word in second]
    if twice:
        merged["allOf"] = [
            *keyword(merged, "allOf", kind=list),
            *({word: first[word]} for word in twice if word != "items"),
        ]
        if "items" in twice:
            merged["items"] = {"allOf": [first["items"], second["items"]]}
    return merged


def _both(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    shared = {name: {"allOf": [first[name], second[name]]} for name in first.keys() & second.keys()}
    return {**first, **second, **shared}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _bound(schema: Schema, name: str) -> float:
    value = schema[name]
    if not isinstance(value, int | float):
        raise SchemaProblemError(f"{value!r:.100} is not a valid '{name}'")
    return value
