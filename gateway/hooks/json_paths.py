"""A small part of JSONPath (RFC 9535): names, indices and `*`, for saying which places of a document are meant."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from gateway.hooks.base import SettingsError

STEP = re.compile(r"\.(?P<name>[A-Za-z_][\w-]*)|\['(?P<quoted>[^']+)'\]|\[(?P<index>-?\d{1,6})\]|(?P<all>\[\*\]|\.\*)")
LONGEST_PATH = 200
EVERY = object()


class JsonPath(NamedTuple):
    """A path that has been read: names, indices, and `EVERY` for a star."""

    steps: tuple[Any, ...]

    @property
    def root(self) -> str:
        """The member of the document that it is about."""
        return str(self.steps[0])

    def places(self, document: Any) -> list[tuple[Any, Any]]:
        """The holder and key of every place it names, in the document's order. The last step needs not be there."""
        holders = [document]
        for step in self.steps[:-1]:
            holders = [holder[key] for holder in holders for key in _keys(holder, step, must_be_there=True)]
        last = self.steps[-1]
        return [(holder, key) for holder in holders for key in _keys(holder, last, must_be_there=False)]


def read_path(text: str, *, field: str = "") -> JsonPath:
    """Read a path such as `$.messages[0].content`. Raises `SettingsError`."""
    steps: list[Any] = []
    at = 1
    while text[:1] == "$" and len(text) <= LONGEST_PATH and (found := STEP.match(text, at)):
        index = found["index"]
        steps.append(EVERY if found["all"] else int(index) if index else found["name"] or found["quoted"])
        at = found.end()
    if at != len(text) or not steps or not isinstance(steps[0], str):
        raise SettingsError(
            f"{text[:LONGEST_PATH]!r} is no path: write $, then .name, ['name'], [0], [-1] or [*], "
            "such as $.messages[0].content.",
            field,
        )
    return JsonPath(tuple(steps))


def _keys(holder: Any, step: Any, *, must_be_there: bool) -> list[Any]:
    if isinstance(holder, list):
        if step is EVERY:
            return list(range(len(holder)))
        if isinstance(step, int) and -len(holder) <= step < len(holder):
            return [step % len(holder)]
        return [step] if step == len(holder) and isinstance(step, int) and not must_be_there else []
    if isinstance(holder, dict):
        if step is EVERY:
            return list(holder)
        return [step] if isinstance(step, str) and (step in holder or not must_be_there) else []
    return []
