"""JSON schemas for providers that hold their models to a part of JSON Schema only. No Django."""

from __future__ import annotations

from typing import Any

import msgspec

from providers.errors import Failure, ProviderError, UnsupportedError
from providers.schema_references import SchemaReferenceError, is_recursive, must_recur

KEPT = frozenset({"$ref", "type", "enum", "const", "description", "title", "required", "default"})
SCHEMAS_BY_NAME = ("properties", "$defs", "definitions")
LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "allOf")
FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})


def closed_schema(schema: Any) -> Any:
    """The schema with every object closed, and what cannot be enforced told to the model in the description instead.

    Source: `transform_schema` of the `anthropic` SDK 2.12.0, whose answers its API accepts.
    """
    if not isinstance(schema, dict):
        return schema
    closed: dict[str, Any] = {}
    told: dict[str, Any] = {}
    for word, value in schema.items():
        if word in SCHEMAS_BY_NAME and isinstance(value, dict):
            closed[word] = {name: closed_schema(inner) for name, inner in value.items()}
        elif word in LISTS_OF_SCHEMAS and isinstance(value, list):
            closed["anyOf" if word == "oneOf" else word] = [closed_schema(inner) for inner in value]
        elif word == "items":
            closed[word] = closed_schema(value)
        elif word in KEPT or (word == "format" and value in FORMATS) or (word == "minItems" and value in (0, 1)):
            closed[word] = value
        elif word not in ("$schema", "$id", "additionalProperties", "strict"):
            told[word] = value
    if closed.get("type") == "object" or "properties" in closed:
        closed["additionalProperties"] = False
    if told:
        words = ", ".join(f"{word}: {value}" for word, value in told.items())
        closed["description"] = f"{closed.get('description', '')}\n\n{{{words}}}".strip()
    return closed


def refuse_recursion(raw: msgspec.Raw, *, provider: str, param: str, only_required: bool = False) -> None:
    """Raise `UnsupportedError` for a schema that contains itself: in what it requires, or at all.

    Anthropic compiles what it enforces (answers' formats and strict tools) into a grammar that cannot recur; Gemini
    unrolls a part that recurs a few times, and so takes it in members that may be left out. Other tools are told to the
    model as they are. Sources: docs.claude.com "Structured outputs", ai.google.dev "Structured output", November 2026.
    """
    if b"$ref" not in bytes(raw):
        return
    schema = msgspec.json.decode(raw)
    try:
        found = isinstance(schema, dict) and (must_recur(schema) if only_required else is_recursive(schema))
    except SchemaReferenceError as error:
        raise ProviderError(Failure.REFUSED_INPUT, str(error), status=400, param=param) from error
    if found:
        where = "in members that it requires" if only_required else "here"
        raise UnsupportedError(
            "recursive_schemas", f"{provider} takes no schema that contains itself {where}.", param=param
        )
