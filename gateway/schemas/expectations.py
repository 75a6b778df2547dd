"""What the answer to a call is held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.schemas.validators import Validator


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """A schema for the text of an answer, schemas for the arguments of tool calls, or both."""

    answer: Validator | None = None
    schema: bytes = b""
    """The answer's, as JSON that stands alone; for models that have to be told. Empty where none has to be."""
    arguments: Mapping[str, Validator] = field(default_factory=dict)
    """By the name of the tool. Calls of other tools are not looked at."""
    held: bool = False
    """Whether a stream begins only when its answer is valid."""
