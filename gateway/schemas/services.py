"""What may become of a type: written as a draft, published for good, withdrawn."""

from __future__ import annotations

import json

import jsonschema
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from gateway.schemas.catalogue import TypeEntry
from gateway.schemas.documents import TYPE, SchemaError, bundle, check_references, read_document
from gateway.schemas.models import SchemaType, TypeState
from gateway.schemas.selectors import published_types
from gateway.schemas.validators import Validator, pointer
from providers.schema_references import Schema, every_part
from tenants.models import Operator

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class TypeStateError(Exception):
    """A move that a type cannot make, in words for an operator."""


def check_type(draft: SchemaType) -> None:
    """Hold a draft to what a type has to be, and write its schema in its proper form.

    Raises `ValidationError` for the field that is wrong.
    """
    draft.full_clean()
    try:
        schema = read_document(draft.schema)
        draft.schema = json.dumps(schema, indent=2, ensure_ascii=False)
        _check_schema(schema, draft)
    except (SchemaError, RecursionError) as error:
        raise ValidationError({"schema": f"{error}"}) from error


def _check_schema(schema: Schema, draft: SchemaType) -> None:
    if schema.get("$schema", DIALECT).rstrip("#") != DIALECT:
        raise SchemaError(f"$schema is {DIALECT}, or left out: types are JSON Schema 2020-12.")
    errors = jsonschema.Draft202012Validator(jsonschema.Draft202012Validator.META_SCHEMA).iter_errors(schema)
    worst = jsonschema.exceptions.best_match(errors)
    if worst is not None:
        raise SchemaError(f"at {pointer(list(worst.absolute_path)) or 'the top'}: {worst.message[:300]}")
    check_references(schema)
    alone = standing_alone(draft, schema)
    check_references(alone)
    Validator(alone)


def standing_alone(row: SchemaType, schema: Schema) -> Schema:
    """A type's schema with all that it refers to, itself included, also while it is a draft. Raises `SchemaError`."""
    types = published_types(row.tenant_id)
    types.add(
        TypeEntry(
            tenant_id=row.tenant_id,
            name=row.name,
            version=row.version,
            description=row.description,
            schema=schema,
            is_withdrawn=False,
            published_at=timezone.now(),
        )
    )
    return bundle(schema, types.finder(row.tenant_id))


def save_draft(draft: SchemaType, *, by: Operator | None) -> None:
    """Create or change a draft. Raises `ValidationError`, or `TypeStateError` for what is no draft any more."""
    if draft.state != TypeState.DRAFT:
        raise TypeStateError(
            f"{draft.reference} is {draft.state}: it does not change. Add version {draft.version + 1}."
        )
    check_type(draft)
    draft.changed_by = by
    draft.save()


@transaction.atomic
def publish(draft: SchemaType, *, by: Operator | None) -> None:
    """Let requests refer to a type. From here on it stays as it is. Raises `TypeStateError`."""
    locked = SchemaType.objects.select_for_update(of=("self",)).get(pk=draft.pk)
    if locked.state != TypeState.DRAFT:
        raise TypeStateError(f"{locked.reference} is {locked.state} already.")
    _lock_types_in(locked)
    try:
        check_type(locked)
    except ValidationError as error:
        raise TypeStateError("; ".join(error.messages)) from error
    locked.state, locked.published_at, locked.changed_by = TypeState.PUBLISHED, timezone.now(), by
    locked.save()
    draft.refresh_from_db()


@transaction.atomic
def withdraw(published: SchemaType, *, by: Operator | None) -> None:
    """Let no new request refer to a type. Raises `TypeStateError`, also while published types refer to it."""
    locked = SchemaType.objects.select_for_update(of=("self",)).get(pk=published.pk)
    if locked.state != TypeState.PUBLISHED:
        raise TypeStateError(f"{locked.reference} is {locked.state}.")
    if users := users_of(locked):
        raise TypeStateError(f"{', '.join(map(str, users[:10]))} refer to it: withdraw these first.")
    locked.state, locked.withdrawn_at, locked.changed_by = TypeState.WITHDRAWN, timezone.now(), by
    locked.save()
    published.refresh_from_db()


def users_of(found: SchemaType) -> list[SchemaType]:
    """The published types that refer to one, besides itself."""
    rows = SchemaType.objects.filter(state=TypeState.PUBLISHED, schema__contains=f"{TYPE}{found.reference}")
    if found.tenant_id is not None:
        rows = rows.filter(tenant_id=found.tenant_id)
    rows = rows.exclude(pk=found.pk).select_related("tenant")
    return [row for row in rows if found.reference in types_in(read_document(row.schema))]


def types_in(schema: Schema) -> set[str]:
    """The types that a schema refers to by itself, as NAME@VERSION."""
    references = (part.get("$ref") for part in every_part(schema))
    return {
        reference.removeprefix(TYPE)
        for reference in references
        if isinstance(reference, str) and reference.startswith(TYPE)
    }


def _lock_types_in(draft: SchemaType) -> None:
    """Keep the types that a draft refers to from being withdrawn until it is published."""
    names = {reference.partition("@")[0] for reference in types_in(read_document(draft.schema))}
    rows = SchemaType.objects.select_for_update(of=("self",)).filter(name__in=names, state=TypeState.PUBLISHED)
    list(rows.order_by("pk"))


def next_version(found: SchemaType, *, by: Operator | None) -> SchemaType:
    """A draft of the version after the newest one, beginning as a copy. Raises `TypeStateError`."""
    same = SchemaType.objects.filter(name=found.name)
    same = same.filter(tenant=found.tenant) if found.tenant is not None else same.filter(tenant__isnull=True)
    newest = same.order_by("-version").first()
    assert newest is not None
    if newest.state == TypeState.DRAFT:
        raise TypeStateError(f"{newest.reference} is a draft already: change that.")
    draft = SchemaType(
        tenant_id=found.tenant_id,
        name=found.name,
        version=newest.version + 1,
        description=found.description,
        schema=found.schema,
        changed_by=by,
    )
    draft.save()
    return draft
