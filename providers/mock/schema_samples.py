"""A JSON value that fits a JSON Schema: deterministic, small, and readable.

Known: local `$ref`, `const`, `enum`, `allOf`, the first possible branch of `anyOf` and `oneOf`, objects, arrays, texts
with lengths, patterns and formats, numbers with bounds. Not known: `not`, `if`, `contains`, `propertyNames`.
Optional members are filled to a depth of `GENEROUS_DEPTH`; below it only what is required, by the shortest way, so that
recursive schemas end.
"""

from __future__ import annotations

from typing import Any

from providers.mock.scalar_samples import number_sample, text_sample
from providers.mock.schema_reading import Schema, SchemaProblemError, Schemas, count, keyword, required_names

GENEROUS_DEPTH = 4
GENEROUS_NODES = 500
"""Beyond so many values the answer is big enough: only what is required follows."""

NODES_LIMIT = 20_000
LONG_TEXT = 100
"""So many characters of one text count as a further value."""


def sample(schema: Schema) -> Any:
    """A value that fits `schema`. Raises `SchemaProblemError` where there is none or where the schema is malformed."""
    return _Sampler(schema).value(schema, depth=0)


class _Sampler:
    def __init__(self, root: Schema) -> None:
        self._schemas = Schemas(root)
        self._nodes = 0

    def value(self, given: Any, *, depth: int, hint: str = "text", variant: int = 0) -> Any:
        """A value for one schema. `hint` is the member's name; `variant` tells the items of a `uniqueItems` apart."""
        self._nodes += 1
        if self._nodes > NODES_LIMIT:
            raise SchemaProblemError("it asks for more than the mock makes")
        schema = self._schemas.flat(given, shortest=self._is_brief(depth))
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            choices = keyword(schema, "enum", kind=list)
            if not choices:
                raise SchemaProblemError("an empty 'enum' allows nothing")
            return choices[variant % len(choices)]
        kind = self._kind(schema)
        if kind == "object":
            return self._object(schema, depth, variant=variant)
        if kind == "array":
            return self._array(schema, depth, hint=hint)
        if kind == "string":
            text = text_sample(schema, hint, variant=variant)
            self._nodes += len(text) // LONG_TEXT
            return text
        if kind in ("integer", "number"):
            return number_sample(schema, whole=kind == "integer", variant=variant)
        if kind == "boolean":
            return variant % 2 == 0
        return None

    def _is_brief(self, depth: int) -> bool:
        return depth >= GENEROUS_DEPTH or self._nodes >= GENEROUS_NODES

    def _kind(self, schema: Schema) -> str:
        """The type to make: the first one allowed that is not null; without `type`, what the keywords suggest."""
        kinds = schema.get("type")
        if kinds is None:
            if schema.keys() & {"properties", "required", "additionalProperties", "minProperties"}:
                return "object"
            if schema.keys() & {"items", "prefixItems", "minItems"}:
                return "array"
            numeric = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
            return "number" if schema.keys() & numeric else "string"
        kinds = [kinds] if isinstance(kinds, str) else kinds
        known = ("object", "array", "string", "integer", "number", "boolean", "null")
        if not isinstance(kinds, list) or not kinds or any(kind not in known for kind in kinds):
            raise SchemaProblemError(f"{kinds!r} is not a valid 'type'")
        return next((kind for kind in kinds if kind != "null"), "null")

    def _object(self, schema: Schema, depth: int, *, variant: int) -> dict[str, Any]:
        properties = keyword(schema, "properties", kind=dict)
        required = dict.fromkeys(required_names(schema))
        others = schema.get("additionalProperties", {})
        most = count(schema, "maxProperties")
        least = count(schema, "minProperties") or 0
        names = [name for name in properties if name in required]
        names += [name for name in required if name not in properties]
        if not self._is_brief(depth):
            names += [
                name for name in properties if name not in required and self._schemas.is_possible(properties[name])
            ]
            if not properties and isinstance(others, dict) and others:
                least = max(least, 1)
        elif len(names) < least:
            names += [name for name in properties if name not in required]
        names = names[: max(most, len(required))] if most is not None else names
        names += [f"key_{number}" for number in range(1, least - len(names) + 1)]
        return {
            name: self.value(properties.get(name, others), depth=depth + 1, hint=name, variant=variant)
            for name in names
        }

    def _array(self, schema: Schema, depth: int, *, hint: str) -> list[Any]:
        first = keyword(schema, "prefixItems", kind=list)
        rest = schema.get("items", {})
        least, most = count(schema, "minItems") or 0, count(schema, "maxItems")
        length = least
        if not self._is_brief(depth):
            length = max(least, len(first), 1 if self._schemas.is_possible(rest) else 0)
        length = length if most is None else min(length, most)
        unique = schema.get("uniqueItems") is True
        return [
            self.value(
                first[index] if index < len(first) else rest,
                depth=depth + 1,
                hint=hint,
                variant=index if unique else 0,
            )
            for index in range(length)
        ]
