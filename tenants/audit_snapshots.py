"""Rows as an auditor may see them, before and after a change: every field, and no secret."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import models

Snapshot = dict[str, Any]

HIDDEN_FIELDS = frozenset({"password", "digest", "secret", "ciphertext", "previous_ciphertext"})
"""Whatever model they are of. A model's own `audit_hidden` names others that are secrets, such as a webhook's URL."""

HIDDEN = "[hidden]"
HIDDEN_AND_CHANGED = "[hidden, changed]"
LONGEST_TEXT = 2000


class _Secret:
    """Tells whether it is another one, and never what it is."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = bytes(value) if isinstance(value, memoryview | bytearray) else value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return HIDDEN


def snapshot(obj: models.Model) -> Snapshot:
    """Every column of a row by its field's name, references by their key. `changed` and `shown` make it storable."""
    hidden = HIDDEN_FIELDS | frozenset(getattr(obj, "audit_hidden", ()))
    taken: Snapshot = {}
    for field in obj._meta.concrete_fields:
        value = getattr(obj, field.attname)
        is_secret = field.name in hidden or isinstance(field, models.BinaryField)
        taken[field.name] = _Secret(value) if is_secret else plain(value)
    return taken


def changed(before: Snapshot, after: Snapshot) -> dict[str, Snapshot]:
    """What differs, as `before` and `after`."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return {
        "before": {name: _told(before.get(name), HIDDEN) for name in names},
        "after": {name: _told(after.get(name), HIDDEN_AND_CHANGED) for name in names},
    }


def shown(taken: Snapshot) -> Snapshot:
    """A whole row: of something that was made, or is gone."""
    return {name: _told(value, HIDDEN) for name, value in taken.items()}


def _told(value: Any, instead: str) -> Any:
    return instead if isinstance(value, _Secret) else value


def plain(value: Any) -> Any:
    """A column's value as JSON has it; what JSON has no form for as text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    text = value.isoformat() if isinstance(value, dt.datetime | dt.date) else str(value)
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text):,} characters)"
