"""The sampler's values fit their schemas, in the eyes of a checker that shares no code with it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.mock.schema_reading import SchemaProblemError
from providers.mock.schema_samples import sample

TYPES: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int,
    "number": (int, float),
}  # fmt: skip


def fits(value: Any, schema: Any, root: Any) -> bool:
    """Whether a value is valid under a schema, for the keywords these tests use."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        target = root
        for step in schema["$ref"].split("/")[1:]:
            target = target[step]
        if not fits(value, target, root):
            return False
    kinds = schema.get("type", list(TYPES))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    is_bool = isinstance(value, bool)
    if not any(isinstance(value, TYPES[kind]) and (kind == "boolean") == is_bool for kind in kinds):
        return False
    branches_fit = {
        "allOf": all(fits(value, part, root) for part in schema.get("allOf", [])),
        "anyOf": any(fits(value, part, root) for part in schema.get("anyOf", [True])),
        "oneOf": sum(fits(value, part, root) for part in schema.get("oneOf", [True])) == 1,
        "const": value == schema.get("const", value),
        "enum": value in schema.get("enum", [value]),
    }
    return all(branches_fit.values()) and _fits_own_keywords(value, schema, root)


def _fits_own_keywords(value: Any, schema: dict[str, Any], root: Any) -> bool:
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        return (
            all(name in value for name in schema.get("required", []))
            and all(fits(member, known.get(name, others), root) for name, member in value.items())
            and schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", 10**9)
        )
    if isinstance(value, list):
        first = schema.get("prefixItems", [])
        expected = [*first, *[schema.get("items", True)] * len(value)]
        distinct = len({json.dumps(item) for item in value}) == len(value) or not schema.get("uniqueItems")
        return (
            distinct
            and all(fits(item, expected[index], root) for index, item in enumerate(value))
            and schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9)
        )
    if isinstance(value, str):
        is_long_enough = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**9)
        return is_long_enough and re.search(schema.get("pattern", ""), value) is not None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (
            schema.get("minimum", value) <= value <= schema.get("maximum", value)
            and ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
            and ("exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"])
            and value % schema.get("multipleOf", value or 1) == 0
        )
    return True


EXPRESSION = {
    "$ref": "#/$defs/expression",
    "$defs": {
        "expression": {"anyOf": [{"$ref": "#/$defs/sum"}, {"$ref": "#/$defs/negation"}, {"$ref": "#/$defs/literal"}]},
        "sum": {
            "type": "object",
            "properties": {"left": {"$ref": "#/$defs/expression"}, "right": {"$ref": "#/$defs/expression"}},
            "required": ["left", "right"],
        },
        "negation": {"properties": {"of": {"$ref": "#/$defs/expression"}}, "required": ["of"]},
        "literal": {"type": "object", "properties": {"value": {"type": "number"}}, "required": ["value"]},
    },
}
SCHEMAS: list[dict[str, Any]] = [
    {},
    EXPRESSION,
    {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["next"]},
    {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}, "required": ["children"]},
    {"type": ["null", "string"], "minLength": 30},
    {"type": "string", "maxLength": 2},
    {"enum": ["b", 2, None]},
    {"const": {"a": [1, 2]}},
    {"type": "array", "items": {"enum": ["x", "y", "z"]}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "items": {"type": "integer", "maximum": 4}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2, "uniqueItems": True},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False},
    {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 2},
    {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "maxProperties": 1, "required": ["b"]},
    {"allOf": [{"properties": {"a": {"minimum": 3}}}, {"properties": {"a": {"maximum": 4}}, "required": ["a"]}]},
    {"properties": {"a": {"type": "string"}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
    {"$ref": "#/$defs/small", "maximum": 0, "$defs": {"small": {"type": "integer", "maximum": 10}}},
    {"oneOf": [{"type": "string"}, {"type": "integer"}]},
    {"anyOf": [False, {"type": "boolean"}]},
    {"$ref": "#/$defs/a~1b", "$defs": {"a~1b": {"type": "null"}, "a/b": {"type": "null"}}},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_a_sample_fits_its_schema(schema: dict[str, Any]) -> None:
    value = sample(schema)
    assert fits(value, schema, schema), value
    assert sample(schema) == value


def test_the_checker_says_no() -> None:
    """It would prove nothing otherwise."""
    assert not fits("a", {"type": "integer"}, {})
    assert not fits(True, {"type": "number"}, {})
    assert not fits({}, {"required": ["a"]}, {})
    assert not fits([1], {"items": False}, {})


def test_optional_members_are_filled_and_members_named_in_texts() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "x": False}}
    assert sample(schema) == {"city": "some city", "days": 1}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("date-time", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"),
        ("date", r"\d{4}-\d\d-\d\d"),
        ("time", r"\d\d:\d\d:\d\dZ"),
        ("email", r"\w+@example\.com"),
        ("uuid", r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"),
        ("ipv4", r"(\d+\.){3}\d+"),
    ],
)
def test_formats(name: str, shape: str) -> None:
    assert re.fullmatch(shape, sample({"type": "string", "format": name}))


@pytest.mark.parametrize(
    "pattern",
    [
        "^[A-Z]{3}$",
        r"^\d{4}-\d{2}$",
        "^(red|green)$",
        r"^[^@\s]+@[^@\s]+\.[a-z]{2,}$",
        "^#?[0-9a-f]{6}$",
        "a.c*",
        r"^\+\w+$",
    ],
)
@pytest.mark.parametrize("least", [0, 3])
def test_patterns(pattern: str, least: int) -> None:
    assert re.search(pattern, sample({"type": "string", "pattern": pattern, "minLength": least}))


def test_a_text_grows_to_its_least_length_where_the_pattern_lets_it() -> None:
    assert sample({"type": "string", "pattern": "^[a-z]+$", "minLength": 5}) == "aaaaa"


number = st.integers(-50, 50) | st.integers(-100, 100).map(lambda half: half / 2)


@given(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "number"])},
        optional={"minimum": number, "exclusiveMinimum": number, "maximum": number, "exclusiveMaximum": number,
                  "multipleOf": st.sampled_from([1, 2, 0.5, 7])},
    )
)  # fmt: skip
def test_numbers_fit_or_there_is_none(schema: dict[str, Any]) -> None:
    """Halves are all that can fit here: between two bounds that are at least 1 apart, one does."""
    try:
        value = sample(schema)
    except SchemaProblemError:
        halves = [half / 2 for half in range(-400, 400)]
        usable = [int(half) if half.is_integer() else half for half in halves]
        assert not any(fits(half, schema, schema) for half in usable)
    else:
        assert fits(value, schema, schema)


names = st.sampled_from(["a", "b", "c"])
leaves = st.one_of(
    st.fixed_dictionaries({"type": st.sampled_from(["string", "integer", "number", "boolean", "null"])}),
    st.fixed_dictionaries({"enum": st.lists(st.integers() | st.text(max_size=5), min_size=1, max_size=3)}),
    st.fixed_dictionaries({"type": st.just("string"), "minLength": st.integers(0, 9), "maxLength": st.integers(9, 20)}),
    st.sampled_from([{"$ref": "#/$defs/leaf"}, {"anyOf": [{"$ref": "#"}, {"type": "null"}]}, {}]),
)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(
            lambda properties, wanted: {
                "type": "object",
                "properties": properties,
                "required": [name for name in properties if name in wanted],
                "additionalProperties": False,
            },
            st.dictionaries(names, inner, max_size=3),
            st.sets(names),
        ),
        st.builds(lambda items, least: {"type": "array", "items": items, "minItems": least}, inner, st.integers(0, 3)),
        st.builds(lambda branches: {"anyOf": branches}, st.lists(inner, min_size=1, max_size=3)),
    )


@given(st.recursive(leaves, nested, max_leaves=8))
def test_any_schema_of_the_known_keywords_is_fitted(schema: dict[str, Any]) -> None:
    leaf = {"type": "integer", "minimum": 5}
    root = {"properties": {"value": schema}, "required": ["value"], "$defs": {"leaf": leaf}}
    value = sample(root)
    assert fits(value, root, root), value


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        {"type": "object", "properties": {"me": {"$ref": "#"}}, "required": ["me"]},
        {"$ref": "#/$defs/absent"},
        {"$ref": "https://example.com/schema.json"},
        {"$ref": 5},
        {"enum": []},
        {"anyOf": []},
        {"anyOf": [False]},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "integer", "minimum": 2, "maximum": 1},
        {"type": "unknown"},
        {"type": "object", "properties": []},
        {"type": "object", "required": [[]]},
        {"type": "string", "minLength": 10**12},
        {"type": "array", "minItems": 10**12},
        {"type": "object", "minProperties": 10**12},
        {"type": "string", "pattern": "(?=a)b"},
        {"type": "string", "minLength": "many"},
    ],
    ids=str,
)
def test_what_cannot_be_fitted_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaProblemError):
        sample(schema)
