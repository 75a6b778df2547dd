"""Schema types in the file: reading them, making the database match, and writing them back.

The file has what is published or withdrawn. Drafts belong to whoever is writing them in the admin.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import yaml
from django.core.exceptions import ValidationError

from gateway.configuration.document import TypeEntry
from gateway.configuration.errors import ConfigurationError
from gateway.configuration.report import Report
from gateway.configuration.rows import blame
from gateway.configuration.source import Entry, Value
from gateway.schemas.models import SchemaType, TypeState
from gateway.schemas.services import TypeStateError, publish, save_draft, types_in, withdraw
from tenants.models import Tenant

_KEYS = ("name", "version", "description", "schema", "state")
_STATES = (TypeState.PUBLISHED.value, TypeState.WITHDRAWN.value)


def read_types(value: Value | None) -> tuple[TypeEntry, ...] | None:
    """The entries of a list of types, each name and version once. Raises `ConfigurationError`."""
    if value is None:
        return None
    seen: dict[str, TypeEntry] = {}
    for item in value.items():
        entry = _type(item)
        if entry.reference in seen:
            first = seen[entry.reference].source.value.place.line
            raise item.refuse(f"{entry.reference} stands here twice, first in line {first}.")
        seen[entry.reference] = entry
    return tuple(seen.values())


def _type(value: Value) -> TypeEntry:
    entry = Entry(value, _KEYS)
    schema = entry.need("schema")
    if not schema.is_mapping:
        raise schema.refuse("write the schema here as a mapping, as it would be in JSON.")
    return TypeEntry(
        source=entry,
        name=entry.need("name").text(),
        version=1 if (version := entry.whole_number("version")) is None else version,
        description=entry.text("description"),
        schema=_as_json(schema),
        state=entry.choice("state", _STATES, default=TypeState.PUBLISHED.value),
    )


def _as_json(schema: Value) -> str:
    try:
        return json.dumps(_plain(schema.node), indent=2, ensure_ascii=False)
    except RecursionError as error:
        raise schema.refuse("this is nested too deeply.") from error


def _plain(node: yaml.Node) -> Any:
    """A value as JSON has it. YAML alone would take a member called `on` for true, and a date for a moment."""
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _plain(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    if isinstance(node, yaml.ScalarNode) and node.style is None:  # not in quotes
        try:
            return json.loads(node.value or "null")
        except ValueError:
            pass
    return str(node.value)


def apply_types(tenant: Tenant | None, entries: Sequence[TypeEntry], *, report: Report) -> None:
    """Publish and withdraw types. Raises `ConfigurationError`, also for a change of what is published: that is a new
    version."""
    ordered = [(entry, _there(tenant, entry, report=report)) for entry in _in_order(entries)]
    for entry, row in reversed(ordered):
        if entry.state == row.state:
            continue
        if row.state == TypeState.WITHDRAWN:
            raise ConfigurationError(
                f"{row} was withdrawn, which is for good; write state: withdrawn, or add a version.",
                entry.source.place_of("state"),
            )
        try:
            withdraw(row, by=None)
        except TypeStateError as error:
            raise ConfigurationError(str(error), entry.source.place_of("state")) from error
        report.changed(_subject(row), ["state"])


def _there(tenant: Tenant | None, entry: TypeEntry, *, report: Report) -> SchemaType:
    """The entry's row, published where it was not yet."""
    found: SchemaType | None = _rows(tenant).filter(name=entry.name, version=entry.version).first()
    if found is not None and found.state != TypeState.DRAFT:
        _check_unchanged(found, entry)
        return found
    made = _published(found or SchemaType(tenant=tenant, name=entry.name, version=entry.version), entry)
    report.created(_subject(made))
    return made


def _in_order(entries: Sequence[TypeEntry]) -> list[TypeEntry]:
    """Each after those of the same list that it refers to, as far as that is possible."""
    waiting = {entry.reference: entry for entry in entries}
    refers_to = {name: types_in(json.loads(entry.schema)) & waiting.keys() - {name} for name, entry in waiting.items()}
    ordered: list[TypeEntry] = []
    while waiting:
        free = [name for name in waiting if not refers_to[name] & waiting.keys()] or list(waiting)
        ordered += (waiting.pop(name) for name in free)
    return ordered


def _check_unchanged(found: SchemaType, entry: TypeEntry) -> None:
    for key, old, new in (
        ("schema", found.schema, entry.schema),
        ("description", found.description, entry.description),
    ):
        if old != new:
            raise ConfigurationError(
                f"{found} is {found.state} with another {key}, and stays so; give the change a new version.",
                entry.source.place_of(key),
            )


def _published(draft: SchemaType, entry: TypeEntry) -> SchemaType:
    draft.schema, draft.description = entry.schema, entry.description
    try:
        save_draft(draft, by=None)
        publish(draft, by=None)
    except ValidationError as error:
        raise blame(error, entry.source) from error
    except TypeStateError as error:
        raise ConfigurationError(str(error), entry.source.place_of("schema")) from error
    return draft


def prune_types(tenant: Tenant | None, named: Sequence[TypeEntry], *, report: Report) -> None:
    """Withdraw the owner's types that the file does not name, those that refer to others first."""
    kept = {entry.reference for entry in named}
    left = [row for row in _rows(tenant).filter(state=TypeState.PUBLISHED) if row.reference not in kept]
    while left:
        refused: list[SchemaType] = []
        for row in left:
            try:
                withdraw(row, by=None)
            except TypeStateError:
                refused.append(row)
            else:
                report.pruned(_subject(row), "withdrawn")
        if len(refused) == len(left):
            raise ConfigurationError(f"{refused[0]} is not in the file, and a type that stays refers to it.")
        left = refused


def export_types(tenant: Tenant | None) -> list[dict[str, Any]]:
    """An owner's types in the form that `read_types` reads."""
    rows = _rows(tenant).exclude(state=TypeState.DRAFT).order_by("name", "version")
    return [_form(row) for row in rows]


def _form(row: SchemaType) -> dict[str, Any]:
    form: dict[str, Any] = {"name": row.name, "version": row.version}
    if row.description:
        form["description"] = row.description
    if row.state != TypeState.PUBLISHED:
        form["state"] = row.state
    return {**form, "schema": json.loads(row.schema)}


def _rows(tenant: Tenant | None) -> Any:
    rows = SchemaType.objects.select_related("tenant")
    return rows.filter(tenant__isnull=True) if tenant is None else rows.filter(tenant=tenant)


def _subject(row: SchemaType) -> str:
    return f"type {row}"
