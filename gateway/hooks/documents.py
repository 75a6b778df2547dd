"""The texts of a JSON document, wherever they stand, and putting them back changed.

Every string is a text but for names, ids and media. So a member that nobody here has heard of is looked at, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from gateway.hooks.base import Edit, HookError, Text

NO_TEXT = frozenset(
    {
        "id", "object", "model", "role", "type", "finish_reason", "system_fingerprint", "service_tier", "tool_call_id",
        "call_id", "file_id", "encoding_format", "detail", "format", "voice", "reasoning_effort", "tool_choice",
        "embedding", "b64_json", "data", "file_data", "size", "quality",
    }
)  # fmt: skip
"""Members that are a name, an id or media where their value is a string."""

NO_TEXT_AT_TOP = frozenset(
    {
        "response_format", "output_format", "stream_format", "background", "moderation", "style", "input_fidelity",
        "language", "languages", "task", "chunking_strategy", "timestamp_granularities", "include",
    }
)  # fmt: skip
"""Members that choose something where they are the document's own. Deeper in it they are anybody's words."""

FREE_FORM = "metadata"
"""A member with names of the client's choice: all of it is text."""

NO_TEXTS = frozenset({"required", "embedding"})
"""The same where it is a list: names of properties, vectors."""

NAMED = frozenset({"function", "json_schema", "custom"})
"""Members whose own `name` is an identifier that must stay."""

FREE_MEMBERS = frozenset(
    {
        "messages", "input", "metadata", "user", "temperature", "top_p", "top_k", "stop", "seed", "presence_penalty",
        "frequency_penalty", "logit_bias", "reasoning_effort", "verbosity", "safety_identifier", "prompt_cache_key",
        "store", "prediction", "dimensions", "prompt", "instructions",
    }
)  # fmt: skip
"""Members of a request that a hook may replace as a whole. On the others (the model, limits, tools, the form of the
answer) routing, limits and budgets have been decided; of those it may change texts."""

JSON_TEXT = "arguments"
"""What a tool is called with: JSON in a string."""


class RubbishError(HookError):
    """A verdict that cannot be acted on. Its text quotes nothing of the call."""


class Place(NamedTuple):
    """A text and where it stands: `holder[key]` is the text, `way` leads there from the document."""

    text: Text
    holder: Any
    key: Any
    way: tuple[str | int, ...]


class Document:
    """A request or an answer as hooks see it, read when the first of them looks."""

    def __init__(self, read: Callable[[], Any]) -> None:
        self._read = read
        self._body: Any = None
        self._is_read = False
        self._places: list[Place] | None = None
        self.changed: set[str] = set()
        """Members of the document that are not as they were."""

    @property
    def body(self) -> Any:
        """The whole document."""
        if not self._is_read:
            self._body, self._is_read = self._read(), True
        return self._body

    @property
    def texts(self) -> Sequence[Text]:
        """Every text, in order."""
        return [place.text for place in self._found()]

    def edit(self, edits: Sequence[Edit]) -> list[str]:
        """Change texts; returns the paths of those that changed. Raises `RubbishError` and changes nothing."""
        places = self._found()
        by_text: dict[int, list[Edit]] = {}
        for edit in edits:
            if not 0 <= edit.text < len(places):
                raise RubbishError(f"It changes text {edit.text} of {len(places)}.")
            by_text.setdefault(edit.text, []).append(edit)
        changes = {index: apply_edits(places[index].text.value, own) for index, own in by_text.items()}
        for index, value in changes.items():
            place = places[index]
            place.holder[place.key] = value
            places[index] = place._replace(text=Text(place.text.path, value, place.text.is_json))
            self.changed.add(str(place.way[0]))
        return [places[index].text.path for index in changes]

    def replace(self, body: dict[str, Any]) -> list[str]:
        """Put another document in its place; returns the members that differ."""
        before = self.body
        names = list(dict.fromkeys([*before, *body]))
        differing = [name for name in names if name not in body or name not in before or before[name] != body[name]]
        self._body, self._places = body, None
        self.changed.update(differing)
        return differing

    def forget_spelling(self) -> None:
        """Take out what says a changed answer as it was: the likelihood of each of its pieces."""
        for choice in self.body.get("choices") or ():
            if isinstance(choice, dict):
                choice.pop("logprobs", None)

    def _found(self) -> list[Place]:
        if self._places is None:
            self._places = self._look()
        return self._places

    def _look(self) -> list[Place]:
        return places_of(self.body)


def places_of(body: Any) -> list[Place]:
    """All texts in the order of the document. Without recursion: a client chooses how deep it is."""
    found: list[Place] = []
    waiting: list[tuple[Any, Any, tuple[str | int, ...]]] = [([body], 0, ())]
    while waiting:
        holder, key, way = waiting.pop()
        value = holder[key]
        if isinstance(value, str):
            if _is_text(way, value):
                found.append(Place(Text(path_of(way), value, key == JSON_TEXT), holder, key, way))
        elif isinstance(value, dict):
            names = [name for name in value if not (name == "name" and key in NAMED)]
            waiting += [(value, name, (*way, name)) for name in reversed(names)]
        elif isinstance(value, list) and key not in NO_TEXTS and not (len(way) == 1 and key in NO_TEXT_AT_TOP):
            waiting += [(value, at, (*way, at)) for at in reversed(range(len(value)))]
    return found


def _is_text(way: tuple[str | int, ...], value: str) -> bool:
    key = way[-1] if way else ""
    if way and way[0] == FREE_FORM:
        return True
    if key in NO_TEXT or (len(way) == 1 and key in NO_TEXT_AT_TOP):
        return False
    return not (key == "url" and (value.startswith("data:") or way[0] == "data"))


def path_of(way: tuple[str | int, ...]) -> str:
    """A way as people write it: `messages[0].content`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in way)
    return "".join(steps).removeprefix(".")


def apply_edits(text: str, edits: Iterable[Edit], *, begin: int = 0, end: int | None = None) -> str:
    """The characters from `begin` to before `end`, edited. Raises `RubbishError` for edits that do not fit them."""
    stop = len(text) if end is None else end
    pieces = []
    at = begin
    for edit in edits:
        if not at <= edit.start <= edit.end <= stop:
            raise RubbishError("Its edits overlap, or reach beyond the text.")
        pieces += [text[at : edit.start], edit.replacement]
        at = edit.end
    pieces.append(text[at:stop])
    return "".join(pieces)
