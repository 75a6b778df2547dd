"""Types: who sees which, what may be published, and that what is published never changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import DatabaseError, connection, transaction

from gateway.models import SchemaType, TypeState
from gateway.schemas.services import TypeStateError, next_version, publish, save_draft, withdraw
from tests import factories
from tests.gateway.schemas.conftest import WEATHER, Bench, make_type, wait_for_type


def draft(schema: Any, name: str = "a.type", **fields: Any) -> SchemaType:
    text = schema if isinstance(schema, str) else json.dumps(schema)
    return SchemaType(name=name, schema=text, **fields)


def test_a_tenant_sees_its_own_and_common_types(bench: Bench) -> None:
    make_type("common.thing", {"type": "object", "title": "everybody's"})
    make_type("common.thing", {"type": "object", "title": "our own"}, tenant=bench.tenant)
    make_type("weather.report", {"type": "string"}, version=2, tenant=bench.tenant)
    wait_for_type(bench.outsider, "common.thing@1")
    wait_for_type(bench.client, "weather.report@2")
    seen = {entry["id"]: entry for entry in bench.client.get("/types").json()["data"]}
    assert list(seen)[-2:] == ["weather.report@2", "weather.report@1"], "by name, newest first"
    assert seen["weather.report@1"]["scope"] == "tenant" and "schema" not in seen["weather.report@1"]
    one = bench.client.get("/types/weather.report@1").json()
    assert one["schema"] == WEATHER and list(one["schema"]["properties"]) == list(WEATHER["properties"])
    assert one["description"] == "How the weather is." and one["state"] == "published"
    assert bench.client.get("/types/weather.report").json()["version"] == 2
    assert bench.client.get("/types/common.thing").json()["schema"]["title"] == "our own"
    assert bench.outsider.get("/types/common.thing").json()["schema"]["title"] == "everybody's"


def test_an_outsider_is_refused(bench: Bench) -> None:
    for path in ("/types/weather.report@1", "/types/weather.report", "/types/none@1", "/types/weather.report@99"):
        answer = bench.outsider.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "type_not_found")
    assert "weather" not in bench.outsider.get("/types").text


def test_the_list_comes_in_pages(bench: Bench) -> None:
    for version in (1, 2, 3):
        make_type("many.versions", {"type": "object"}, version=version, tenant=bench.tenant)
    wait_for_type(bench.client, "many.versions@3")
    first = bench.client.get("/types?name=many.versions&limit=2").json()
    assert [entry["version"] for entry in first["data"]] == [3, 2] and first["has_more"] is True
    rest = bench.client.get("/types?name=many.versions&limit=2&after=many.versions@2").json()
    assert [entry["version"] for entry in rest["data"]] == [1] and rest["has_more"] is False
    for query, param in (("limit=0", "limit"), ("limit=x", "limit"), ("after=none@1", "after")):
        error = bench.client.get(f"/types?{query}").json()["error"]
        assert (error["code"], error["param"]) == ("validation_error", param)


def test_a_draft_is_nobodys(bench: Bench) -> None:
    save_draft(draft({"type": "object"}, "not.yet", tenant=bench.tenant), by=None)
    make_type("later.than", {"type": "object"}, tenant=bench.tenant)
    wait_for_type(bench.client, "later.than@1")
    assert bench.client.get("/types/not.yet@1").status_code == 404


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ("{", "not JSON"),
        ("[]", "object"),
        ({"type": "objct"}, "at /type"),
        ({"properties": {"a": {"minLength": -1}}}, "at /properties/a/minLength"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "2020-12"),
        ({"$ref": "https://example.com/x.json"}, "is not followed"),
        ({"properties": {"a": {"$ref": "other.json"}}}, "is not followed"),
        ({"properties": {"a": {"$ref": "type:nobodys.type@1"}}}, "there is no type"),
        ({"$ref": "#/$defs/none"}, "leads to nothing"),
        ({"$ref": "#name"}, "anchor"),
        ({"properties": {"a": {"$ref": "#/properties"}}}, "no schema is"),
        ({"properties": {"a": {"$id": "x"}}}, "$id"),
        ({"$dynamicRef": "#x"}, "$dynamicRef"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}}, "by itself"),
        ({"$ref": "type:a.type@1"}, "itself"),
        ({"anyOf": [{"$ref": "type:a.type@1"}]}, "by itself"),
        ({"pattern": "(("}, "pattern"),
        ({"description": "x" * 200_000}, "bytes"),
    ],
)
def test_what_is_no_type_is_refused(db: None, schema: Any, says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        save_draft(draft(schema), by=None)
    assert says in refused.value.message_dict["schema"][0]


@pytest.mark.parametrize("name", ["Weather", "a b", "1a", "a.b.c.d.e", "a@1", "", "a\n"])
def test_names_have_one_form(db: None, name: str) -> None:
    with pytest.raises(ValidationError) as refused:
        save_draft(draft({}, name), by=None)
    assert "name" in refused.value.message_dict


def test_a_version_is_there_once(db: None) -> None:
    save_draft(draft({}), by=None)
    with pytest.raises(ValidationError):
        save_draft(draft({}), by=None)
    save_draft(draft({}, tenant=factories.make_tenant()), by=None)


def test_a_type_refers_to_its_owners_and_common_types_only(db: None) -> None:
    one, other = factories.make_tenant(), factories.make_tenant()
    make_type("own.thing", {"type": "string"}, tenant=one)
    refers = {"properties": {"a": {"$ref": "type:own.thing@1"}}}
    for tenant in (other, None):
        with pytest.raises(ValidationError):
            save_draft(draft(refers, tenant=tenant), by=None)
    save_draft(draft(refers, tenant=one), by=None)


@pytest.mark.parametrize(
    "change",
    [
        "schema = '{}'",
        "name = 'other.name'",
        "version = 7",
        "description = 'other'",
        "tenant_id = NULL",
        "state = 'draft'",
        "published_at = now()",
    ],
)
@pytest.mark.parametrize("state", [TypeState.PUBLISHED, TypeState.WITHDRAWN])
def test_what_is_published_never_changes(db: None, change: str, state: str) -> None:
    made = make_type("a.type", {"type": "string"}, tenant=factories.make_tenant())
    if state == TypeState.WITHDRAWN:
        withdraw(made, by=None)
    statements = (
        f"UPDATE gateway_schematype SET {change} WHERE id = %s",
        "DELETE FROM gateway_schematype WHERE id = %s",
    )
    for statement in statements:
        with pytest.raises(DatabaseError, match="neither edited nor deleted"), transaction.atomic():
            connection.cursor().execute(statement, [made.pk])
    with pytest.raises(TypeStateError):
        save_draft(made, by=None)


def test_a_type_goes_forward_only(db: None) -> None:
    insert = "INSERT INTO gateway_schematype (name, version, description, schema, state, created_at) VALUES "
    with pytest.raises(DatabaseError, match="begins as a draft"), transaction.atomic():
        connection.cursor().execute(insert + "('a', 1, '', '{}', 'published', now())")
    made = draft({})
    save_draft(made, by=None)
    with pytest.raises(DatabaseError, match="before it is withdrawn"), transaction.atomic():
        connection.cursor().execute("UPDATE gateway_schematype SET state = 'withdrawn'")
    with pytest.raises(TypeStateError):
        withdraw(made, by=None)
    publish(made, by=None)
    with pytest.raises(TypeStateError):
        publish(made, by=None)
    withdraw(made, by=None)
    assert made.withdrawn_at is not None
    made = next_version(made, by=None)
    assert (made.version, made.state) == (2, TypeState.DRAFT)
    with pytest.raises(TypeStateError, match="draft already"):
        next_version(made, by=None)
    made.delete()


def test_a_type_that_others_need_stays(db: None) -> None:
    needed = make_type("needed.thing", {"type": "string"})
    user = make_type(
        "user.thing", {"properties": {"a": {"$ref": "type:needed.thing@1"}}}, tenant=factories.make_tenant()
    )
    with pytest.raises(TypeStateError, match=r"user\.thing@1"):
        withdraw(needed, by=None)
    withdraw(user, by=None)
    withdraw(needed, by=None)
