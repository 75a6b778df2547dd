"""Schema types in the admin: a draft is checked, shown with an example and its difference, published and left alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from gateway.models import SchemaType, TypeState
from gateway.schemas.services import publish, save_draft
from tests.factories import make_tenant

SCHEMA = {"type": "object", "properties": {"city": {"enum": ["<b>Oslo</b>"]}}, "required": ["city"]}
ADD = "admin:gateway_schematype_add"


def page(row: SchemaType, kind: str = "change") -> str:
    return reverse(f"admin:gateway_schematype_{kind}", args=[row.pk])


def add(client: Client, schema: Any, **fields: Any) -> Any:
    text = schema if isinstance(schema, str) else json.dumps(schema)
    return client.post(reverse(ADD), {"name": "geo.place", "version": 1, "schema": text, **fields})


@pytest.fixture
def published(db: None) -> SchemaType:
    row = SchemaType(name="geo.place", schema=json.dumps(SCHEMA))
    save_draft(row, by=None)
    publish(row, by=None)
    return row


def test_a_draft_is_checked_and_kept_in_form(operator: Client) -> None:
    answer = add(operator, {"properties": {"a": {"$ref": "https://example.com/x"}}})
    assert answer.status_code == 200 and "is not followed" in answer.content.decode()
    assert "not JSON" in add(operator, "{").content.decode()
    assert not SchemaType.objects.exists()
    assert add(operator, SCHEMA, tenant=make_tenant().pk).status_code == 302
    row = SchemaType.objects.get()
    assert row.schema == json.dumps(SCHEMA, indent=2) and row.state == TypeState.DRAFT
    assert row.changed_by is not None and row.changed_by.username == "an-operator"


def test_its_page_shows_an_example_and_what_changed(operator: Client, published: SchemaType) -> None:
    shown = operator.get(page(published)).content.decode()
    assert "&lt;b&gt;Oslo&lt;/b&gt;" in shown and "<b>Oslo" not in shown
    assert "There is no version before it." in shown and "No published type." in shown
    assert operator.post(page(published, "add_version")).status_code == 302
    second = SchemaType.objects.get(version=2)
    changed = {**SCHEMA, "title": "Place"}
    fields = {"tenant": "", "name": "geo.place", "version": 2, "description": "", "schema": json.dumps(changed)}
    assert operator.post(page(second), fields).status_code == 302
    shown = operator.get(page(second)).content.decode()
    assert '<span class="diff-added">+  &quot;title&quot;: &quot;Place&quot;</span>' in shown


def test_publishing_and_withdrawing_ask_first(operator: Client, published: SchemaType) -> None:
    user = SchemaType(name="user.thing", schema='{"properties": {"a": {"$ref": "type:geo.place@1"}}}')
    save_draft(user, by=None)
    assert "stays as it is" in operator.post(page(user, "publish")).content.decode()
    operator.post(page(user, "publish"), {"confirmed": "1", "reason": "new"})
    user.refresh_from_db()
    assert user.state == TypeState.PUBLISHED
    assert LogEntry.objects.filter(change_message="Published. new").exists()
    assert "user.thing@1" in operator.get(page(published)).content.decode()
    refused = operator.post(page(published, "withdraw"), {"confirmed": "1", "reason": ""}, follow=True)
    assert "withdraw these first" in refused.content.decode()
    operator.post(page(user, "withdraw"), {"confirmed": "1", "reason": ""})
    operator.post(page(published, "withdraw"), {"confirmed": "1", "reason": ""})
    published.refresh_from_db()
    assert published.state == TypeState.WITHDRAWN


def test_what_is_published_cannot_be_edited_or_deleted(operator: Client, owner: Client, published: SchemaType) -> None:
    fields = {"tenant": "", "name": "other.name", "version": 3, "description": "x", "schema": "{}"}
    operator.post(page(published), fields)
    assert owner.post(page(published, "delete"), {"post": "yes"}).status_code == 403
    assert SchemaType.objects.get().schema == json.dumps(SCHEMA, indent=2)
    draft = SchemaType(name="a.draft", schema="{}")
    save_draft(draft, by=None)
    assert operator.post(page(draft, "delete"), {"post": "yes"}).status_code == 403
    assert owner.post(page(draft, "delete"), {"post": "yes"}).status_code == 302
    assert SchemaType.objects.count() == 1


def test_a_viewer_looks_only(viewer: Client, published: SchemaType) -> None:
    assert viewer.get(page(published)).status_code == 200
    assert add(viewer, SCHEMA, version=2).status_code == 403
    for action in ("publish", "withdraw", "add_version"):
        assert viewer.post(page(published, action), {"confirmed": "1"}).status_code == 403
    assert SchemaType.objects.get().state == TypeState.PUBLISHED
