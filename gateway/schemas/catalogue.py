"""All registered types as one process holds them: found by reference without a query."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import msgspec

from gateway.schemas.documents import Find, SchemaError, bundle
from providers.schema_references import Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeEntry:
    """One published or withdrawn version. `tenant_id` is None for a type of every tenant's."""

    tenant_id: int | None
    name: str
    version: int
    description: str
    schema: Schema
    is_withdrawn: bool
    published_at: dt.datetime

    @property
    def reference(self) -> str:
        """How requests name it."""
        return f"{self.name}@{self.version}"


class TypeCatalogue:
    """The types there are. A tenant's own come before those of every tenant's; another tenant's do not exist for it."""

    def __init__(self, entries: Iterable[TypeEntry] = ()) -> None:
        self._by_owner: dict[int | None, dict[str, TypeEntry]] = defaultdict(dict)
        self._bundles: dict[tuple[int | None, str], msgspec.Raw] = {}
        for entry in entries:
            self.add(entry)

    def add(self, entry: TypeEntry) -> None:
        """Let a type be found."""
        self._by_owner[entry.tenant_id][entry.reference] = entry

    def visible(self, tenant_id: int) -> list[TypeEntry]:
        """What a tenant may refer to or has referred to: by name, newest version first."""
        seen = {**self._by_owner.get(None, {}), **self._by_owner.get(tenant_id, {})}
        return sorted(seen.values(), key=lambda entry: (entry.name, -entry.version))

    def get(self, reference: str, tenant_id: int | None) -> TypeEntry | None:
        """NAME@VERSION as a tenant sees it; None where it has no such type."""
        own = self._by_owner.get(tenant_id, {}).get(reference)
        return own if own is not None else self._by_owner.get(None, {}).get(reference)

    def need(self, reference: str, tenant_id: int | None) -> TypeEntry:
        """The same for use. Raises `SchemaError` where there is none, or none any more."""
        entry = self.get(reference, tenant_id)
        if entry is None:
            raise SchemaError(f"there is no type {reference[:200]!r}; GET /v1/types lists those there are.")
        if entry.is_withdrawn:
            raise SchemaError(f"the type {reference} was withdrawn; use another version of it.")
        return entry

    def finder(self, tenant_id: int | None) -> Find:
        """What finds the references in a tenant's schemas. Those in a type are found as the type's owner sees them."""
        return partial(self._found, tenant_id)

    def _found(self, tenant_id: int | None, reference: str) -> tuple[Schema, Find]:
        entry = self.need(reference, tenant_id)
        return entry.schema, self.finder(entry.tenant_id)

    def standing_alone(self, entry: TypeEntry) -> msgspec.Raw:
        """A type's schema with everything it refers to, as JSON. Raises `SchemaError`."""
        key = (entry.tenant_id, entry.reference)
        if key not in self._bundles:
            self._bundles[key] = msgspec.Raw(msgspec.json.encode(bundle(entry.schema, self.finder(entry.tenant_id))))
        return self._bundles[key]
