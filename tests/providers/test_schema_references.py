"""Which schemas contain themselves, by way of what, and that looking for it ends."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from providers.errors import ProviderError, UnsupportedError
from providers.json_schemas import refuse_recursion
from providers.schema_references import (
    SchemaReferenceError,
    goes_in_circles,
    is_recursive,
    must_recur,
    references,
    resolve,
)

TREE = {"type": "object", "properties": {"below": {"type": "array", "items": {"$ref": "#"}}}}
CHAIN = {"$ref": "#/$defs/n", "$defs": {"n": {"properties": {"next": {"$ref": "#/$defs/n"}}, "required": ["next"]}}}
TWO = {
    "$defs": {
        "a": {"properties": {"b": {"$ref": "#/$defs/b"}}},
        "b": {"items": {"$ref": "#/$defs/a/properties/b"}},
    },
    "$ref": "#/$defs/a",
}
CIRCLE = {"$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"anyOf": [{}, {"$ref": "#/$defs/a"}]}}}
FLAT = {"$defs": {"a": {"type": "string"}}, "properties": {"x": {"$ref": "#/$defs/a"}, "y": {"$ref": "#/$defs/a"}}}
DATA = {"enum": [{"$ref": "#"}], "default": {"$ref": "#"}, "properties": {"$ref": {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "recursive", "required", "circular"),
    [
        (TREE, True, False, False),
        (CHAIN, True, True, False),
        (TWO, True, True, False),
        (CIRCLE, True, True, True),
        (FLAT, False, False, False),
        (DATA, False, False, False),
    ],
    ids=["tree", "chain", "two", "circle", "flat", "data"],
)
def test_what_contains_itself(schema: dict[str, Any], recursive: bool, required: bool, circular: bool) -> None:
    assert (is_recursive(schema), must_recur(schema), goes_in_circles(schema)) == (recursive, required, circular)


def test_places() -> None:
    root = {"$defs": {"a/b": {"x": [True]}, "c~d e": {"type": "string"}}}
    assert resolve(root, "#") is root and resolve(root, "#/$defs/a~1b/x/0") is True
    assert resolve(root, "#/$defs/c~0d%20e") == {"type": "string"}
    for nowhere in ("#/$defs/none", "#/$defs/a~1b/x/1", "#/$defs/a~1b/x/y", "#name"):
        with pytest.raises(SchemaReferenceError):
            resolve(root, nowhere)


def test_looking_ends() -> None:
    wide = {"allOf": [{}] * 200_000}
    deep: dict[str, Any] = {"$ref": "#"}
    for _ in range(5_000):
        deep = {"items": deep}
    assert references(deep) == ["#"]
    tangled = {f"p{n}": {"anyOf": [{"$ref": f"#/properties/p{m}"} for m in range(200)]} for n in range(200)}
    for schema in (wide, {"properties": tangled, "allOf": [{"$ref": "#"}] * 1_000}):
        with pytest.raises(SchemaReferenceError, match="too many parts"):
            is_recursive(schema)


def test_refusals_name_the_member() -> None:
    encoded = msgspec.Raw(msgspec.json.encode(TREE))
    with pytest.raises(UnsupportedError) as refused:
        refuse_recursion(encoded, provider="Anthropic", param="tools")
    assert (refused.value.capability, refused.value.param) == ("recursive_schemas", "tools")
    refuse_recursion(encoded, provider="Gemini", param="tools", only_required=True)
    with pytest.raises(ProviderError, match="leads to nothing"):
        refuse_recursion(msgspec.Raw(b'{"$ref":"#/none"}'), provider="Gemini", param="tools")
