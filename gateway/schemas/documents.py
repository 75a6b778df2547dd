"""A JSON schema as a document: what it may refer to, and what it is with the types it refers to put into it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from providers.schema_references import (
    BY_NAME,
    LISTS,
    SINGLE,
    Schema,
    SchemaReferenceError,
    every_part,
    goes_in_circles,
    resolve,
)

TYPE = "type:"
"""How a `$ref` to a registered type begins."""

LONGEST_BYTES = 128 * 1024
"""A schema with all that it refers to. OpenAI takes 120,000 characters, the other vendors less."""

MOST_TYPES = 50
"""So many types may be put into one schema."""

BY_ANOTHER_NAME = ("$dynamicRef", "$recursiveRef", "$anchor", "$dynamicAnchor", "$recursiveAnchor")

Find = Callable[[str], tuple[Schema, "Find"]]
"""From NAME@VERSION to a type's schema and to what that finds its own references by. Raises `SchemaError`."""


class SchemaError(ValueError):
    """What is wrong with a schema, in words for whoever wrote it."""


def read_document(text: str | bytes) -> Schema:
    """Parse a schema. Raises `SchemaError`."""
    if len(text) > LONGEST_BYTES:
        raise SchemaError(f"a schema may have {LONGEST_BYTES} bytes; this one has {len(text)}.")
    try:
        schema = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise SchemaError(f"this is not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise SchemaError("a schema is a JSON object here.")
    return schema


def check_references(schema: Schema) -> bool:
    """Whether a schema refers to registered types. Raises `SchemaError` for a reference that is not followed: nothing
    is ever fetched."""
    try:
        inside = every_part(schema)
        places = set(map(id, inside))
        to_types = False
        for part in inside:
            _check_words(part, is_root=part is schema)
            reference = part.get("$ref")
            if not isinstance(reference, str):
                continue
            if reference.startswith(TYPE):
                to_types = True
            elif not reference.startswith("#"):
                raise SchemaError(
                    f"{reference[:200]!r} is not followed: a $ref is to a part of the same schema (#/$defs/NAME) "
                    "or to a registered type (type:NAME@VERSION)."
                )
            elif not isinstance(target := resolve(schema, reference), bool) and id(target) not in places:
                raise SchemaError(f"{reference[:200]!r} leads to a place where no schema is.")
        if goes_in_circles(schema):
            raise SchemaError("a part of this schema is defined by itself, with nothing in between.")
    except SchemaReferenceError as error:
        raise SchemaError(str(error)) from error
    return to_types


def _check_words(part: Schema, *, is_root: bool) -> None:
    for word in BY_ANOTHER_NAME:
        if word in part:
            raise SchemaError(f"{word} is not followed here; use $ref.")
    if "$id" in part and not is_root:
        raise SchemaError("$id stands at the top of a schema only.")


def bundle(schema: Schema, find: Find) -> Schema:
    """The schema with every type that it refers to among its `$defs`. Raises `SchemaError`.

    A schema that is nothing but a reference becomes that type's own. Types that contain themselves stay references.
    """
    for _ in range(MOST_TYPES):
        reference = schema.get("$ref")
        if (
            not isinstance(reference, str)
            or not reference.startswith(TYPE)
            or not schema.keys() <= {"$ref", "description"}
        ):
            break
        schema, find = find(reference.removeprefix(TYPE))
    else:
        raise SchemaError("a type of this schema is nothing but a reference to itself.")
    bundled = _Bundle(schema).of(schema, find)
    if len(msgspec.json.encode(bundled)) > LONGEST_BYTES:
        raise SchemaError(f"with the types it refers to, this schema has more than {LONGEST_BYTES} bytes.")
    return bundled


class _Bundle:
    """One schema on its way to standing alone."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        own = root.get("$defs")
        self._definitions: Schema = {}
        self._taken: set[str] = set(own) if isinstance(own, dict) else set()
        self._names: dict[int, str] = {id(root): ""}
        """By the schema of each type that is in: the name it has here."""

    def of(self, root: Schema, find: Find) -> Schema:
        written: Schema = self._written(root, find, name="")
        if self._definitions:
            written["$defs"] = {**written.get("$defs", {}), **self._definitions}
        return written

    def _written(self, schema: Any, find: Find, *, name: str) -> Any:
        """A part of the type called `name` here, its references moved along with it."""
        if not isinstance(schema, dict):
            return schema
        written: Schema = {}
        for word, value in schema.items():
            if word == "$ref" and isinstance(value, str):
                written[word] = self._moved(value, find, name=name)
            elif word in BY_NAME and isinstance(value, dict):
                written[word] = {key: self._written(inner, find, name=name) for key, inner in value.items()}
            elif word in LISTS and isinstance(value, list):
                written[word] = [self._written(inner, find, name=name) for inner in value]
            elif word in SINGLE:
                written[word] = self._written(value, find, name=name)
            else:
                written[word] = value
        return written

    def _moved(self, reference: str, find: Find, *, name: str) -> str:
        if reference.startswith(TYPE):
            return _pointer(self._put_in(reference.removeprefix(TYPE), find))
        if not name:
            return reference
        if reference.startswith("#/$defs/"):
            return f"#/$defs/{name}__{reference.removeprefix('#/$defs/')}"
        return _pointer(name) + reference.removeprefix("#")

    def _put_in(self, type_reference: str, find: Find) -> str:
        """The name that a type has here; it is put in when it is first referred to."""
        schema, find_on = find(type_reference)
        known = self._names.get(id(schema))
        if known is not None:
            return known
        if len(self._names) > MOST_TYPES:
            raise SchemaError(f"this schema refers to more than {MOST_TYPES} types.")
        name = re.sub(r"\W", "_", type_reference.replace("@", "_v"), flags=re.ASCII)
        while any(taken == name or taken.startswith(f"{name}__") for taken in self._taken):
            name += "_"
        self._taken.add(name)
        self._names[id(schema)] = name
        written = self._written(schema, find_on, name=name)
        for word in ("$schema", "$id"):
            written.pop(word, None)
        for own, definition in written.pop("$defs", {}).items():
            self._definitions[f"{name}__{own}"] = definition
            self._taken.add(f"{name}__{own}")
        self._definitions[name] = written
        return name


def _pointer(name: str) -> str:
    return f"#/$defs/{name}" if name else "#"
