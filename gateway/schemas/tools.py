"""Tools in whatever form a client gives them, in OpenAI's form. Each adapter writes its provider's from that.

Given by reference: `{"type": "schema_ref", "schema": "weather.query@1"}`. In a provider's own form: Anthropic's
(`input_schema`), Gemini's (`functionDeclarations`), OpenAI's for its Responses API (the function's members beside
`type`). Anything else passes as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.schemas.catalogue import TypeCatalogue
from gateway.schemas.documents import SchemaError, bundle, check_references

SCHEMA_REF = "schema_ref"
LONGEST_NAME = 64
OF_A_REFERENCE = frozenset({"type", "schema", "name", "description", "strict", "cache_control"})

GEMINI_TYPES = frozenset({"STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"})

Json = dict[str, Any]


class ToolError(ValueError):
    """What is wrong with a tool, and at which path of the request."""

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message)
        self.param = param


def openai_tools(given: list[Any], types: TypeCatalogue, *, tenant_id: int) -> list[Json]:
    """Tools in OpenAI's form, with no reference to a type left in them. Raises `ToolError`."""
    written = []
    for index, tool in enumerate(given):
        place = f"tools[{index}]"
        if not isinstance(tool, dict):
            raise ToolError("a tool is an object.", param=place)
        for one, where in _in_openai_form(tool, types, place=place, tenant_id=tenant_id):
            _resolve_parameters(one, types, place=where, tenant_id=tenant_id)
            written.append(one)
    return written


def _in_openai_form(tool: Json, types: TypeCatalogue, *, place: str, tenant_id: int) -> Iterator[tuple[Json, str]]:
    """The functions of a tool, each with the path of its parameters."""
    declared = tool.get("functionDeclarations", tool.get("function_declarations"))
    if tool.get("type") == SCHEMA_REF:
        yield _from_type(tool, types, place=place, tenant_id=tenant_id), f"{place}.schema"
    elif isinstance(declared, list):
        word = "functionDeclarations" if "functionDeclarations" in tool else "function_declarations"
        for number, one in enumerate(declared):
            where = f"{place}.{word}[{number}]"
            if not isinstance(one, dict) or not isinstance(one.get("name"), str):
                raise ToolError("a declaration is an object with a name.", param=where)
            yield _from_gemini(one), f"{where}.parameters"
    elif "input_schema" in tool and isinstance(tool.get("name"), str):
        yield _function(tool, parameters=tool["input_schema"]), f"{place}.input_schema"
    elif tool.get("type") == "function" and "function" not in tool and isinstance(tool.get("name"), str):
        yield _function(tool, parameters=tool.get("parameters")), f"{place}.parameters"
    elif not isinstance(tool.get("type"), str):
        raise ToolError(
            "a tool has a type: function, schema_ref or another that the provider knows.", param=f"{place}.type"
        )
    else:
        yield dict(tool), f"{place}.function.parameters"


def _from_type(tool: Json, types: TypeCatalogue, *, place: str, tenant_id: int) -> Json:
    unknown = tool.keys() - OF_A_REFERENCE
    if unknown:
        raise ToolError(f"{min(unknown)!r} is no member of a schema_ref.", param=f"{place}.{min(unknown)}")
    reference = tool.get("schema")
    if not isinstance(reference, str):
        raise ToolError("a schema_ref names its type as NAME@VERSION.", param=f"{place}.schema")
    try:
        entry = types.need(reference, tenant_id)
        parameters = types.standing_alone(entry)
    except SchemaError as error:
        raise ToolError(str(error), param=f"{place}.schema") from error
    named = {"name": function_name(entry.name), "description": entry.description, **_given(tool, "name", "description")}
    return _function({**tool, **named}, parameters=parameters)


def function_name(type_name: str) -> str:
    """What a model calls a tool whose parameters are a type: vendors allow no dots."""
    return type_name.replace(".", "_")[:LONGEST_NAME]


def _from_gemini(declared: Json) -> Json:
    parameters = declared.get("parametersJsonSchema", declared.get("parameters_json_schema"))
    if parameters is None:
        parameters = _lower_types(declared.get("parameters"))
    return _function(declared, parameters=parameters)


def _lower_types(schema: Any) -> Any:
    """Gemini's own schemas are OpenAPI's, with types in capitals and `nullable`."""
    if isinstance(schema, list):
        return [_lower_types(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    lowered = {word: _lower_types(value) for word, value in schema.items()}
    kind = lowered.get("type")
    if isinstance(kind, str) and kind in GEMINI_TYPES:
        lowered["type"] = [kind.lower(), "null"] if lowered.pop("nullable", False) is True else kind.lower()
    return lowered


def _function(tool: Json, *, parameters: Any) -> Json:
    function = _given(tool, "name", "description", "strict")
    if parameters is not None:
        function["parameters"] = parameters
    return {"type": "function", "function": function, **_given(tool, "cache_control")}


def _given(tool: Json, *names: str) -> Json:
    return {name: tool[name] for name in names if tool.get(name) not in (None, "")}


def _resolve_parameters(tool: Json, types: TypeCatalogue, *, place: str, tenant_id: int) -> None:
    """Put the types that a function's parameters refer to into them."""
    function = tool.get("function")
    parameters = function.get("parameters") if isinstance(function, dict) else None
    if not isinstance(parameters, dict):
        return
    assert isinstance(function, dict)
    try:
        if check_references(parameters):
            tool["function"] = {**function, "parameters": bundle(parameters, types.finder(tenant_id))}
    except (SchemaError, RecursionError) as error:
        raise ToolError(str(error), param=place) from error


def parameters_by_name(tools: list[Json]) -> dict[str, bytes]:
    """Each function's parameters as JSON, for those that have any."""
    found = {}
    for tool in tools:
        function = tool.get("function")
        if isinstance(function, dict) and isinstance(function.get("name"), str) and function.get("parameters"):
            found[function["name"]] = msgspec.json.encode(function["parameters"])
    return found
