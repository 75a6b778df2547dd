"""What is wrong with a configuration file, and where."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

_SHOWN_NAMES = 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: the line, from 1, and the path, such as `models[2].prices.input`; empty for the file."""

    line: int
    path: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.path}" if self.path else f"line {self.line}"


class ConfigurationError(ValueError):
    """A file that cannot be applied: where and why, in words for the operator who wrote it."""

    def __init__(self, message: str, place: Place | None = None) -> None:
        super().__init__(f"{place}: {message}" if place else message)
        self.place = place


def suggest(wrong: str, known: Iterable[str]) -> str:
    """The end of a message about a wrong name: the nearest right one, or all of them when they are few."""
    names = sorted(known)
    nearest = difflib.get_close_matches(wrong, names, n=1)
    if nearest:
        return f"; did you mean {nearest[0]!r}?"
    if not names:
        return "."
    listed = ", ".join(names[:_SHOWN_NAMES])
    return f"; there is {listed}{' and more' if len(names) > _SHOWN_NAMES else ''}."
