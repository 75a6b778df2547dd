"""A tenant's rate limits in the file: reading them, making the database match, and writing them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.configuration.document import LimitEntry
from gateway.configuration.errors import Place
from gateway.configuration.report import Report
from gateway.configuration.rows import put
from gateway.configuration.source import Entry, Value
from tenants.models import LimitScope, RateLimit, Tenant

FIELDS = {
    "rpm": "requests_per_minute",
    "rpd": "requests_per_day",
    "tpm": "tokens_per_minute",
    "tpd": "tokens_per_day",
    "concurrency": "concurrency",
}


def read_limits(value: Value | None) -> tuple[LimitEntry, ...] | None:
    """A tenant's `limits`: a mapping is the whole tenant's, a list has one for each scope and subject."""
    if value is None:
        return None
    if value.is_mapping:
        return (_limit(value, ()),)
    seen: dict[tuple[str, str], LimitEntry] = {}
    for item in value.items():
        entry = _limit(item, ("scope", "subject", "enabled"))
        identity = (entry.scope, entry.subject)
        if identity in seen:
            first = seen[identity].value.place.line
            raise item.refuse(f"this scope and subject stand here twice, first in line {first}.")
        seen[identity] = entry
    return tuple(seen.values())


def _limit(value: Value, more: tuple[str, ...]) -> LimitEntry:
    entry = Entry(value, (*FIELDS, *more))
    limits = {field: entry.whole_number(key) for key, field in FIELDS.items()}
    if not any(limit is not None for limit in limits.values()):
        raise value.refuse(f"set at least one of {', '.join(FIELDS)}.")
    return LimitEntry(
        source=_Keys(entry),
        value=value,
        scope=entry.choice("scope", LimitScope.values, default=LimitScope.TENANT.value),
        subject=entry.text("subject"),
        limits=limits,
        enabled=entry.boolean("enabled", default=True),
    )


class _Keys:
    """Points an error about a field of the row at the file's short name for it."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._names = {field: key for key, field in FIELDS.items()}

    def place_of(self, key: str) -> Place:
        return self._entry.place_of(self._names.get(key, key))


def apply_limits(tenant: Tenant, entries: Sequence[LimitEntry], *, report: Report) -> None:
    """Create or change rate limits."""
    for entry in entries:
        identity = {"tenant": tenant, "scope": entry.scope, "subject": entry.subject}
        row = RateLimit.objects.filter(**identity).first() or RateLimit(**identity)
        put(row, {**entry.limits, "enabled": entry.enabled}, source=entry.source, subject=_subject(row), report=report)


def _subject(row: RateLimit) -> str:
    """How a report names a rate limit."""
    subject = f" {row.subject}" if row.subject else ""
    return f"limits of {row.tenant.name}, {row.scope}{subject}"


def prune_limits(tenant: Tenant, named: Sequence[LimitEntry], *, report: Report) -> None:
    """Delete the tenant's rate limits that the file does not name."""
    kept = {(entry.scope, entry.subject) for entry in named}
    for row in RateLimit.objects.filter(tenant=tenant).select_related("tenant").order_by("pk"):
        if (row.scope, row.subject) not in kept:
            row.delete()
            report.pruned(_subject(row), "deleted")


def export_limits(tenant: Tenant) -> list[dict[str, Any]]:
    """The tenant's rate limits in the list form that `read_limits` reads."""
    return [_form(row) for row in RateLimit.objects.filter(tenant=tenant).order_by("pk")]


def _form(row: RateLimit) -> dict[str, Any]:
    form: dict[str, Any] = {"scope": row.scope}
    if row.subject:
        form["subject"] = row.subject
    form |= {key: limit for key, field in FIELDS.items() if (limit := getattr(row, field)) is not None}
    if not row.enabled:
        form["enabled"] = False
    return form
