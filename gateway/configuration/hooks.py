"""A tenant's hooks in the file: reading them, making the database match, and writing them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from gateway.configuration.document import HookEntry
from gateway.configuration.report import Report
from gateway.configuration.rows import find, put
from gateway.configuration.source import Entry, Value
from gateway.hooks.models import HookBinding, OnFailure
from gateway.hooks.registry import HOOKS
from tenants.models import Project, Tenant

_KEYS = ("name", "hook", "project", "model", "order", "settings", "timeout_ms", "on_failure", "enabled")
ORDER = 100
TIMEOUT_MS = 1000


def read_hooks(value: Value | None) -> tuple[HookEntry, ...] | None:
    """The entries of a tenant's `hooks`, each name once. Raises `ConfigurationError`."""
    if value is None:
        return None
    seen: dict[str, HookEntry] = {}
    for item in value.items():
        entry = _hook(item)
        if entry.name in seen:
            first = seen[entry.name].source.value.place.line
            raise item.refuse(f"{entry.name!r} stands here twice, first in line {first}.")
        seen[entry.name] = entry
    return tuple(seen.values())


def _hook(value: Value) -> HookEntry:
    entry = Entry(value, _KEYS)
    settings = entry.get("settings")
    return HookEntry(
        source=entry,
        name=entry.need("name").text(),
        hook=entry.need("hook").choice(HOOKS),
        project=entry.get("project"),
        model=entry.text("model"),
        order=entry.whole_number("order", ORDER) or 0,
        settings=_plain(settings) if settings is not None else {},
        timeout_ms=entry.whole_number("timeout_ms", TIMEOUT_MS) or 0,
        on_failure=entry.choice("on_failure", OnFailure.values, default=OnFailure.CLOSED.value),
        enabled=entry.boolean("enabled", default=True),
    )


def _plain(value: Value) -> Any:
    """A value as JSON has it: the hook's own settings say which types are right."""
    if value.is_mapping:
        return {key: _plain(member) for key, member in value.members().items()}
    if isinstance(value.node, yaml.SequenceNode):
        return [_plain(item) for item in value.items()]
    tag = value.node.tag.rpartition(":")[2]
    if tag in ("bool", "int", "float", "null"):
        return SafeConstructor().construct_object(value.node)
    return str(value.node.value)


def apply_hooks(tenant: Tenant, entries: Sequence[HookEntry], *, report: Report) -> None:
    """Create or change the tenant's hooks; its projects and webhooks are there already."""
    for entry in entries:
        row = HookBinding.objects.filter(tenant=tenant, name=entry.name).first()
        wanted = {
            "hook": entry.hook,
            "project": _project(tenant, entry.project),
            "model": entry.model,
            "position": entry.order,
            "settings": entry.settings,
            "timeout_ms": entry.timeout_ms,
            "on_failure": entry.on_failure,
            "enabled": entry.enabled,
        }
        row = row or HookBinding(tenant=tenant, name=entry.name)
        put(row, wanted, source=entry.source, subject=_subject(row), report=report)


def _project(tenant: Tenant, name: Value | None) -> Project | None:
    return None if name is None else find(Project.objects.filter(tenant=tenant), name, what="project of this tenant")


def _subject(row: HookBinding) -> str:
    return f"hook {row.tenant.name}/{row.name}"


def prune_hooks(tenant: Tenant, named: Sequence[HookEntry], *, report: Report) -> None:
    """Delete the tenant's hooks that the file does not name: nothing refers to them."""
    kept = {entry.name for entry in named}
    for row in HookBinding.objects.filter(tenant=tenant).select_related("tenant").order_by("pk"):
        if row.name not in kept:
            report.pruned(_subject(row), "deleted")
            row.delete()


def export_hooks(tenant: Tenant) -> list[dict[str, Any]]:
    """The tenant's hooks in the form that `read_hooks` reads."""
    rows = HookBinding.objects.filter(tenant=tenant).select_related("project").order_by("position", "pk")
    return [_form(row) for row in rows]


def _form(row: HookBinding) -> dict[str, Any]:
    form: dict[str, Any] = {"name": row.name, "hook": row.hook}
    if row.project is not None:
        form["project"] = row.project.name
    if row.model:
        form["model"] = row.model
    form["order"] = row.position
    if row.settings:
        form["settings"] = row.settings
    if row.timeout_ms != TIMEOUT_MS:
        form["timeout_ms"] = row.timeout_ms
    if row.on_failure != OnFailure.CLOSED:
        form["on_failure"] = row.on_failure
    if not row.enabled:
        form["enabled"] = False
    return form
