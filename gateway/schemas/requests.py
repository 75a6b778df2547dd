"""Reading what a request says about schemas: tools, the format of the answer, and the headers about both.

A request with neither never comes here. One whose tools are plain keeps its own bytes (decision 0008).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from gateway.errors import ValidationError
from gateway.schemas.catalogue import TypeCatalogue
from gateway.schemas.documents import LONGEST_BYTES, SchemaError, bundle, check_references, read_document
from gateway.schemas.expectations import Expectation
from gateway.schemas.tools import SCHEMA_REF, Json, ToolError, function_name, openai_tools, parameters_by_name
from gateway.schemas.validators import Validator, Validators

HOLD_STREAM = "X-Gateway-Hold-Stream"
VALIDATE_ARGUMENTS = "X-Gateway-Validate-Arguments"

NULL = msgspec.Raw(b"null")
Members = Mapping[str, msgspec.Raw]

OF_A_STREAM = frozenset({"stream", "stream_options"})
FORMAT, SCHEMA = "response_format", "response_format.json_schema.schema"
ANY_OBJECT = b'{"type":"object"}'
"""What `json_object` holds an answer to. Providers have that format themselves, so no model has to be told."""


class Tool(msgspec.Struct):
    """What tells whether a tool is in OpenAI's own form."""

    type: str | None = None
    function: msgspec.Raw = NULL
    input_schema: msgspec.Raw = NULL

    @property
    def is_openai(self) -> bool:
        """Whether it goes on as it came. So do tools of types that the gateway has never heard of."""
        if self.type == "function":
            return self.function != NULL
        return self.type is not None and self.type != SCHEMA_REF and self.input_schema == NULL


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A request with its references resolved, and what its answer is held to, if anything."""

    members: Members
    expected: Expectation | None = None
    format_bytes: int = 0
    """How much the format of the answer adds to what the model reads."""


@dataclass(frozen=True, slots=True)
class Registry:
    """What requests are read with: the types of the moment, and what was compiled."""

    types: TypeCatalogue
    validators: Validators

    def bound(
        self,
        members: Members,
        *,
        tools: list[Tool] | None,
        has_format: bool,
        tenant_id: int,
        headers: Mapping[str, Any],
    ) -> Bound:
        """Read a request that has tools, a format for its answer, or both. Raises `ValidationError`."""
        expected = Expectation(held=_flag(headers, HOLD_STREAM))
        written = dict(members)
        if tools:
            wants_arguments = _flag(headers, VALIDATE_ARGUMENTS)
            if wants_arguments or not _is_plain(tools, members["tools"]):
                found = self._tools(written, tenant_id=tenant_id)
                if wants_arguments:
                    expected = replace(expected, arguments=self._arguments(found))
        format_bytes = 0
        if has_format:
            schema, is_told = self._format(written, tenant_id=tenant_id)
            if schema is not None:
                answer = self._validator(schema, param=SCHEMA)
                expected = replace(expected, answer=answer, schema=schema if is_told else b"")
                format_bytes = len(written[FORMAT]) if is_told else 0
        if expected.answer is None and not expected.arguments:
            return Bound(members=written)
        if expected.held:
            written = {name: raw for name, raw in written.items() if name not in OF_A_STREAM}
        return Bound(members=written, expected=expected, format_bytes=format_bytes)

    def _tools(self, members: dict[str, msgspec.Raw], *, tenant_id: int) -> list[Json]:
        """The tools in OpenAI's form; the member is rewritten where they were not."""
        given = msgspec.json.decode(members["tools"])
        try:
            found = openai_tools(given, self.types, tenant_id=tenant_id)
            if found != given:
                members["tools"] = msgspec.Raw(msgspec.json.encode(found))
            return found
        except ToolError as error:
            raise ValidationError(f"{error.param}: {error}", param=error.param) from error
        except RecursionError as error:
            raise ValidationError("tools: this is nested too deeply.", param="tools") from error

    def _arguments(self, tools: list[Json]) -> dict[str, Validator]:
        return {name: self._validator(schema, param="tools") for name, schema in parameters_by_name(tools).items()}

    def _format(self, members: dict[str, msgspec.Raw], *, tenant_id: int) -> tuple[bytes | None, bool]:
        """The schema of the answer, standing alone, and whether the model sees it; the member is rewritten where it
        referred to a type. None where there is no schema."""
        given = msgspec.json.decode(members[FORMAT])
        kind = given.get("type")
        if kind == "json_object":
            return ANY_OBJECT, False
        if kind == SCHEMA_REF:
            return self._format_of_type(given, members, tenant_id=tenant_id), True
        described = given.get("json_schema")
        if kind != "json_schema" or not isinstance(described, dict) or described.get("schema") is None:
            return None, False
        try:
            schema = read_document(msgspec.json.encode(described["schema"]))
            if check_references(schema):
                described["schema"] = schema = bundle(schema, self.types.finder(tenant_id))
                members[FORMAT] = msgspec.Raw(msgspec.json.encode(given))
        except (SchemaError, RecursionError) as error:
            raise ValidationError(f"{SCHEMA}: {error}", param=SCHEMA) from error
        return msgspec.json.encode(schema), True

    def _format_of_type(self, given: Json, members: dict[str, msgspec.Raw], *, tenant_id: int) -> bytes:
        param = f"{FORMAT}.schema"
        reference = given.get("schema")
        if not isinstance(reference, str):
            raise ValidationError(f"{param}: a schema_ref names its type as NAME@VERSION.", param=param)
        try:
            entry = self.types.need(reference, tenant_id)
            schema = self.types.standing_alone(entry)
        except SchemaError as error:
            raise ValidationError(f"{param}: {error}", param=param) from error
        described: Json = {"name": given.get("name") or function_name(entry.name), "schema": schema}
        if entry.description:
            described["description"] = entry.description
        if given.get("strict") is not None:
            described["strict"] = given["strict"]
        members[FORMAT] = msgspec.Raw(msgspec.json.encode({"type": "json_schema", "json_schema": described}))
        return bytes(schema)

    def _validator(self, schema: bytes, *, param: str) -> Validator:
        if len(schema) > LONGEST_BYTES:
            raise ValidationError(f"{param}: a schema may have {LONGEST_BYTES} bytes.", param=param)
        try:
            return self.validators.of(schema)
        except SchemaError as error:
            raise ValidationError(f"{param}: this is no JSON schema: {error}", param=param) from error


def _is_plain(tools: list[Tool], raw: msgspec.Raw) -> bool:
    """Whether tools are in OpenAI's form and refer to nothing: a word can also be written with escapes."""
    text = bytes(raw)
    if b"$ref" in text or b'Ref"' in text or b"\\u" in text:
        return False
    return all(tool.is_openai for tool in tools)


def _flag(headers: Mapping[str, Any], name: str) -> bool:
    value = str(headers.get(f"HTTP_{name.upper().replace('-', '_')}", "false")).strip().lower()
    if value not in ("true", "false"):
        raise ValidationError(f"{name} is true or false.", param=name)
    return value == "true"
