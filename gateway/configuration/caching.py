"""A tenant's cache rules in the file: reading them, making the database match, and writing them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.caching.models import HOUR_SECONDS, CacheRule
from gateway.configuration.document import CacheEntry
from gateway.configuration.errors import suggest
from gateway.configuration.report import Report
from gateway.configuration.rows import put
from gateway.configuration.source import Entry, Value
from providers.models import Model, ModelGroup
from tenants.models import Tenant

_KEYS = ("model", "ttl_seconds", "any_temperature", "enabled")


def read_cache(value: Value | None) -> tuple[CacheEntry, ...] | None:
    """The entries of a tenant's `cache`, each model or group once. Raises `ConfigurationError`."""
    if value is None:
        return None
    seen: dict[str, CacheEntry] = {}
    for item in value.items():
        entry = _rule(item)
        if entry.model in seen:
            first = seen[entry.model].source.value.place.line
            raise item.refuse(f"{entry.target!r} stands here twice, first in line {first}.")
        seen[entry.model] = entry
    return tuple(seen.values())


def _rule(value: Value) -> CacheEntry:
    entry = Entry(value, _KEYS)
    return CacheEntry(
        source=entry,
        model=entry.text("model"),
        ttl_seconds=entry.whole_number("ttl_seconds", HOUR_SECONDS) or 0,
        any_temperature=entry.boolean("any_temperature", default=False),
        enabled=entry.boolean("enabled", default=True),
    )


def apply_cache(tenant: Tenant, entries: Sequence[CacheEntry], *, report: Report) -> None:
    """Create or change the tenant's rules. What is kept under them stays, unless its time is over by then."""
    rows = _rules(tenant)
    for entry in entries:
        row = rows.get(entry.model) or CacheRule(tenant=tenant, **_target(entry))
        wanted = {
            "ttl_seconds": entry.ttl_seconds,
            "any_temperature": entry.any_temperature,
            "enabled": entry.enabled,
        }
        put(row, wanted, source=entry.source, subject=_subject(row), report=report)


def _target(entry: CacheEntry) -> dict[str, Any]:
    """The model or group that a rule is about; neither for everything."""
    if not entry.model:
        return {}
    if model := Model.objects.filter(name=entry.model).first():
        return {"model": model}
    if group := ModelGroup.objects.filter(name=entry.model).first():
        return {"group": group}
    known = {*Model.objects.values_list("name", flat=True), *ModelGroup.objects.values_list("name", flat=True)}
    raise entry.source.need("model").refuse(f"no model or group is called {entry.model!r}{suggest(entry.model, known)}")


def _rules(tenant: Tenant) -> dict[str, CacheRule]:
    """By the name of what they are about; empty for the one about everything."""
    rows = CacheRule.objects.filter(tenant=tenant).select_related("tenant", "model", "group").order_by("pk")
    return {_name(row): row for row in rows}


def _name(row: CacheRule) -> str:
    target = row.model or row.group
    return target.name if target else ""


def _subject(row: CacheRule) -> str:
    return f"cache rule {row.tenant.name}/{row.target_name}"


def prune_cache(tenant: Tenant, named: Sequence[CacheEntry], *, report: Report) -> None:
    """Delete the tenant's rules that the file does not name: what was kept under them is not found any more."""
    kept = {entry.model for entry in named}
    for name, row in _rules(tenant).items():
        if name not in kept:
            report.pruned(_subject(row), "deleted")
            row.delete()


def export_cache(tenant: Tenant) -> list[dict[str, Any]]:
    """The tenant's rules in the form that `read_cache` reads."""
    return [_form(name, row) for name, row in _rules(tenant).items()]


def _form(name: str, row: CacheRule) -> dict[str, Any]:
    form: dict[str, Any] = {"model": name} if name else {}
    form["ttl_seconds"] = row.ttl_seconds
    if row.any_temperature:
        form["any_temperature"] = True
    if not row.enabled:
        form["enabled"] = False
    return form
