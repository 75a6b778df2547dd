"""Writing one row as the file wants it, only where it differs, with the model's own rules as line-named errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from django.core.exceptions import ValidationError
from django.db import models

from gateway.configuration.errors import ConfigurationError, suggest
from gateway.configuration.report import Report
from gateway.configuration.source import Source, Value

_Row = TypeVar("_Row", bound=models.Model)


def fill(row: models.Model, wanted: Mapping[str, object], *, source: Source) -> list[str]:
    """Set fields on a row, unsaved, and return those that differ from what it had.

    A row that differs or is new is validated; raises `ConfigurationError` at the key that is to blame.
    """
    before = {field: getattr(row, field) for field in wanted}
    for field, value in wanted.items():
        setattr(row, field, value)
    if row.pk is None or _differing(row, before):
        validate(row, source)
    return _differing(row, before)  # validation puts some values into their proper form


def put(row: models.Model, wanted: Mapping[str, object], *, source: Source, subject: str, report: Report) -> None:
    """Create or change a row and report it; nothing is written when it already is as wanted."""
    differing = fill(row, wanted, source=source)
    if row.pk is None:
        row.save()
        report.created(subject)
    elif differing:
        row.save(update_fields=differing)
        report.changed(subject, differing)


def validate(row: models.Model, source: Source) -> None:
    """Hold a row to its model's rules. Raises `ConfigurationError` at the key that breaks one."""
    try:
        row.full_clean()
    except ValidationError as error:
        raise blame(error, source) from error


def blame(error: ValidationError, source: Source) -> ConfigurationError:
    """What a model refused, at the key it refused."""
    field, messages = next(iter(error.message_dict.items()))
    return ConfigurationError(messages[0], source.place_of(field))


def find(rows: models.QuerySet[_Row], value: Value, *, what: str) -> _Row:
    """The row that a value names. Raises `ConfigurationError` with the nearest name when there is none."""
    name = value.text()
    row = rows.filter(name=name).first()
    if row is None:
        names = rows.values_list("name", flat=True)
        raise value.refuse(f"no {what} is called {name!r}{suggest(name, names)}")
    return row


def _differing(row: models.Model, before: Mapping[str, object]) -> list[str]:
    return [field for field, value in before.items() if not _same(getattr(row, field), value)]


def _same(one: object, other: object) -> bool:
    """Lists in one field (capabilities, scopes, networks) are sets: their order says nothing."""
    if isinstance(one, list) and isinstance(other, list):
        return sorted(one) == sorted(other)
    return one == other
