"""Schema types in the configuration file."""

from __future__ import annotations

import io
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command

from gateway.models import SchemaType, TypeState
from gateway.schemas.services import save_draft
from tests.configuration.conftest import Apply, nothing

TEXT = """
types:
  - name: weather.query
    description: Ask for the weather.
    schema:
      type: object
      properties: {z: {$ref: "type:geo.place@1"}, on: {type: string}, a: {const: 2026-11-21}, n: {maximum: 1.5}}
      required: [z, on]
  - {name: geo.place, version: 1, schema: {type: string}}
"""


def types(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"types": list(entries)}


PLACE = {"name": "geo.place", "schema": {"type": "string"}}
QUERY = {"name": "weather.query", "schema": {"properties": {"a": {"$ref": "type:geo.place@1"}}}}


def test_types_are_published_in_the_order_they_need(apply: Apply) -> None:
    report = apply(TEXT)
    assert report["created"] == ["type geo.place@1", "type weather.query@1"]
    query = SchemaType.objects.get(name="weather.query")
    assert query.state == TypeState.PUBLISHED and query.description == "Ask for the weather."
    assert '"on": {' in query.schema and '"const": "2026-11-21"' in query.schema and '"maximum": 1.5' in query.schema
    assert query.schema.index('"z"') < query.schema.index('"on"') < query.schema.index('"a"'), "as it was written"
    assert nothing(apply(TEXT))


def test_a_change_is_a_new_version(apply: Apply) -> None:
    apply(TEXT)
    for change, key in ((("type: string}}\n", "type: integer}}\n"), "schema"), (("Ask for", "Tell of"), "description")):
        with pytest.raises(CommandError, match=rf"types\[\d\]\.{key}.*stays so; give the change a new version"):
            apply(TEXT.replace(*change))
    assert SchemaType.objects.count() == 2


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"name": "Bad Name", "schema": {}}, r"types\[0\]\.name: a name is"),
        ({"name": "a", "schema": {"type": "objct"}}, r"types\[0\]\.schema: at /type"),
        ({"name": "a", "schema": {"$ref": "https://example.com/x"}}, r"types\[0\]\.schema.*is not followed"),
        ({"name": "a", "schema": "{}"}, "as a mapping"),
        ({"name": "a"}, "'schema' is missing"),
        ({"name": "a", "schema": {}, "state": "draft"}, r"types\[0\]\.state"),
        ({"name": "a", "version": 0, "schema": {}}, r"types\[0\]\.version"),
    ],
)
def test_mistakes_are_named(apply: Apply, entry: dict[str, Any], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        apply(types(entry))
    with pytest.raises(CommandError, match="stands here twice"):
        apply(types(PLACE, PLACE))
    assert not SchemaType.objects.exists()


def test_withdrawing_and_pruning(apply: Apply) -> None:
    apply(types(PLACE, QUERY))
    with pytest.raises(CommandError, match=r"types\[0\]\.state: weather\.query@1 refer to it"):
        apply(types({**PLACE, "state": "withdrawn"}))
    report = apply(types({**PLACE, "state": "withdrawn"}, {**QUERY, "state": "withdrawn"}))
    assert report["changed"] == ["type weather.query@1: state", "type geo.place@1: state"]
    with pytest.raises(CommandError, match="which is for good"):
        apply(types(PLACE))
    apply(types({**PLACE, "version": 2}))
    assert apply(types(), prune=True)["pruned"] == ["type geo.place@2: withdrawn"]


def test_pruning_takes_users_first_and_keeps_what_is_needed(apply: Apply) -> None:
    apply(types(PLACE, QUERY))
    with pytest.raises(CommandError, match="a type that stays refers to it"):
        apply(types(QUERY), prune=True)
    assert apply(types(), prune=True)["pruned"] == ["type weather.query@1: withdrawn", "type geo.place@1: withdrawn"]


def test_a_tenants_own(apply: Apply) -> None:
    asked = {**types(PLACE), "tenants": [{"name": "acme", "types": [QUERY]}]}
    report = apply(asked)
    assert report["created"][-1] == "type weather.query@1 of acme"
    assert SchemaType.objects.get(name="weather.query").tenant is not None
    pruned = apply({"tenants": [{"name": "acme", "types": []}]}, prune=True)["pruned"]
    assert pruned == ["type weather.query@1 of acme: withdrawn"]


def test_an_export_is_applied_without_a_change(apply: Apply) -> None:
    apply({**types(PLACE, QUERY), "tenants": [{"name": "acme", "types": [{**PLACE, "state": "withdrawn"}]}]})
    save_draft(SchemaType(name="not.yet", schema="{}"), by=None)
    exported = io.StringIO()
    call_command("export", stdout=exported)
    assert nothing(apply(exported.getvalue(), prune=True))
    form = yaml.safe_load(exported.getvalue())
    assert [entry["name"] for entry in form["types"]] == ["geo.place", "weather.query"]
    assert form["tenants"][0]["types"] == [
        {"name": "geo.place", "version": 1, "state": "withdrawn", "schema": PLACE["schema"]}
    ]
    SchemaType.objects.filter(state=TypeState.DRAFT).delete()
