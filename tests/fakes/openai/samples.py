"""A small JSON value that fits a JSON Schema, for answers to `response_format` and to forced tool calls."""

from typing import Any

_PLAIN: dict[str, Any] = {"string": "text", "integer": 1, "number": 1.5, "boolean": True, "null": None}
# Recursive schemas (strict mode requires every property) end here: arrays empty, the last of `anyOf` (null) taken.
_DEEP = 4


def sample(schema: dict[str, Any], root: dict[str, Any] | None = None, depth: int = 0) -> Any:
    """A value valid under `schema`: const, enum, anyOf, local $ref, required properties, arrays, plain types."""
    root = schema if root is None else root
    if "$ref" in schema:
        return sample(_resolve(schema["$ref"], root), root, depth)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return sample(schema[word][0 if depth < _DEEP else -1], root, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: sample(properties.get(name, {}), root, depth + 1) for name in schema.get("required", [])}
    if kind == "array":
        length = schema.get("minItems", 1 if depth < _DEEP else 0)
        return [sample(schema.get("items", {}), root, depth + 1) for _ in range(length)]
    if kind in ("integer", "number") and "minimum" in schema:
        return schema["minimum"]
    return _PLAIN[kind]


def _resolve(reference: str, root: dict[str, Any]) -> dict[str, Any]:
    found = root
    for step in filter(None, reference.removeprefix("#").split("/")):
        found = found[step]
    return found
