"""Holding JSON values to a schema, by jsonschema-rs: 2 µs where jsonschema takes 460. Nothing is ever fetched."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import jsonschema_rs
import msgspec

from gateway.schemas.documents import SchemaError

PATTERNS = jsonschema_rs.FancyRegexOptions(backtrack_limit=100_000, size_limit=1 << 20, dfa_size_limit=1 << 20)
"""A client's own pattern may be as bad as it likes: it costs milliseconds, and the answer then does not match."""

MOST_VIOLATIONS = 10
LONGEST_MESSAGE = 300
KEPT_BYTES = 4 * 1024 * 1024
"""Of schemas, as text: their validators take a small multiple of it."""

DIALECTS = ("draft-04", "draft-06", "draft-07", "2019-09", "2020-12")


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """Where a value does not match, as a JSON pointer, by which word of the schema, and why.

    `message` may quote the model's answer: it is for the client and for the model, never for a log.
    """

    path: str
    word: str
    message: str


class Validator:
    """A compiled schema."""

    __slots__ = ("_compiled",)

    def __init__(self, schema: Any) -> None:
        """Raises `SchemaError` for what is no schema."""
        declared = schema.get("$schema", "") if isinstance(schema, dict) else ""
        compile_by: Any = jsonschema_rs.Draft202012Validator
        if isinstance(declared, str) and any(dialect in declared for dialect in DIALECTS):
            compile_by = jsonschema_rs.validator_for
        try:
            self._compiled = compile_by(schema, offline=True, pattern_options=PATTERNS)
        except jsonschema_rs.ValidationError as error:
            place = pointer(error.instance_path)
            raise SchemaError(f"{f'at {place}: ' if place else ''}{error.message[:LONGEST_MESSAGE]}") from error
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            raise SchemaError(str(error)[:LONGEST_MESSAGE]) from error

    def violations(self, value: Any) -> list[Violation]:
        """What is wrong with a value, the first few; none for a valid one."""
        try:
            if self._compiled.is_valid(value):
                return []
            found = []
            for error in self._compiled.iter_errors(value):
                word = str(error.schema_path[-1]) if error.schema_path else ""
                message = error.message[:LONGEST_MESSAGE]
                found.append(Violation(path=pointer(error.instance_path), word=word, message=message))
                if len(found) == MOST_VIOLATIONS:
                    break
            return found
        except ValueError as error:  # nested beyond what is followed
            return [Violation(path="", word="depth", message=str(error)[:LONGEST_MESSAGE])]


def pointer(path: list[str | int]) -> str:
    """A path as a JSON pointer; empty for the whole."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)[:LONGEST_MESSAGE]


class Validators:
    """Compiled schemas by their text, the latest used; bounded, since texts come from clients."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Validator] = OrderedDict()
        self._bytes = 0

    def of(self, text: bytes) -> Validator:
        """The validator of a schema that stands alone. Raises `SchemaError`."""
        found = self._kept.get(text)
        if found is not None:
            self._kept.move_to_end(text)
            return found
        made = Validator(msgspec.json.decode(text))
        self._kept[text] = made
        self._bytes += len(text)
        while self._bytes > KEPT_BYTES:
            oldest, _ = self._kept.popitem(last=False)
            self._bytes -= len(oldest)
        return made
