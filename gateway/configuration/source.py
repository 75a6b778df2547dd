"""YAML (and JSON, which is YAML) as values that know the line they stand on.

Text is taken as it is written: YAML would read a country `no` as false and a price 0.10 as a binary fraction.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import yaml
from yaml.constructor import SafeConstructor

from gateway.configuration.errors import ConfigurationError, Place, suggest

_TAG = "tag:yaml.org,2002:"


class Source(Protocol):
    """Whatever an error message can point into."""

    def place_of(self, key: str) -> Place: ...


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the file."""

    node: yaml.Node
    path: str

    @property
    def place(self) -> Place:
        """Where the value begins."""
        return Place(self.node.start_mark.line + 1, self.path)

    @property
    def is_null(self) -> bool:
        """Whether nothing is written here, which is the same as leaving the key out."""
        return self.node.tag == f"{_TAG}null"

    @property
    def is_mapping(self) -> bool:
        """Whether keys and values are written here."""
        return isinstance(self.node, yaml.MappingNode)

    def place_of(self, key: str) -> Place:
        """A plain value has no keys: whatever is wrong with what it names, it stands here."""
        return self.place

    def refuse(self, message: str) -> ConfigurationError:
        """The error that says what is wrong with this value."""
        return ConfigurationError(message, self.place)

    def text(self) -> str:
        """A text, exactly as written; numbers and dates need no quotes."""
        if not isinstance(self.node, yaml.ScalarNode) or self.is_null:
            raise self.refuse(f"write a text here, not {self._kind()}.")
        if not self.node.tag.startswith(_TAG):
            raise self.refuse(f"the tag {self.node.tag} is not known here; put the text into quotes.")
        # JSON may write one character beyond U+FFFF as two escapes, which YAML reads as two halves.
        text = str(self.node.value).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        if not text.isprintable():
            raise self.refuse("this text has a character that cannot be printed, such as a line break; take it out.")
        return text

    def boolean(self) -> bool:
        """Write `true` or `false`."""
        if isinstance(self.node, yaml.ScalarNode) and self.node.tag == f"{_TAG}bool":
            return SafeConstructor.bool_values[self.node.value.lower()]
        raise self.refuse("write true or false here, without quotes.")

    def whole_number(self) -> int:
        """A whole number; which ones are allowed is for the model to say."""
        if isinstance(self.node, yaml.ScalarNode) and self.node.tag == f"{_TAG}int":
            try:
                return int(self.node.value)
            except ValueError:
                pass  # YAML also reads 0x1F and 1:30 as whole numbers
        raise self.refuse("write a whole number here, such as 128000.")

    def moment(self) -> dt.datetime:
        """A date and time with its time zone."""
        text = self.text()
        try:
            moment = dt.datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise self.refuse(f"{text!r} is not a moment; write one with its time zone, such as 2027-01-31T18:00:00Z.")
        return moment

    def choice(self, allowed: Collection[str]) -> str:
        """One of these words."""
        text = self.text()
        if text not in allowed:
            raise self.refuse(f"{text!r} is not known here{suggest(text, allowed)}")
        return text

    def items(self) -> list[Value]:
        """The values of a list."""
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.refuse(f"write a list here, not {self._kind()}.")
        return [Value(item, f"{self.path}[{index}]") for index, item in enumerate(self.node.value)]

    def members(self) -> dict[str, Value]:
        """The values of a mapping, by key."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.refuse(f"write a mapping (key: value) here, not {self._kind()}.")
        members: dict[str, Value] = {}
        for key_node, node in self.node.value:
            key = Value(key_node, self.path).text()
            path = f"{self.path}.{key}" if self.path else key
            if key in members:
                raise Value(key_node, path).refuse(
                    f"this key stands here twice, first in line {members[key].place.line}."
                )
            members[key] = Value(node, path)
        return members

    def _kind(self) -> str:
        if self.is_null:
            return "nothing"
        if isinstance(self.node, yaml.ScalarNode):
            return "a text"
        return "a list" if isinstance(self.node, yaml.SequenceNode) else "a mapping"


class Entry:
    """A mapping with the keys it may have, read key by key."""

    def __init__(self, value: Value, known: Collection[str], *, unsupported: Mapping[str, str] | None = None) -> None:
        """Raises `ConfigurationError` for a key that is not in `known`; `unsupported` has the reasons for some."""
        self.value = value
        self.members: dict[str, Value] = {}
        for key, member in value.members().items():
            if unsupported and key in unsupported:
                raise member.refuse(unsupported[key])
            if key not in known:
                raise member.refuse(f"the key {key!r} is not known here{suggest(key, known)}")
            if not member.is_null:
                self.members[key] = member

    def get(self, key: str) -> Value | None:
        """The value of a key; None when it is left out."""
        return self.members.get(key)

    def need(self, key: str) -> Value:
        """The value of a key that must be there."""
        member = self.get(key)
        if member is None:
            raise self.value.refuse(f"the key {key!r} is missing.")
        return member

    def text(self, key: str, default: str = "") -> str:
        member = self.get(key)
        return default if member is None else member.text()

    def boolean(self, key: str, *, default: bool) -> bool:
        member = self.get(key)
        return default if member is None else member.boolean()

    def whole_number(self, key: str, default: int | None = None) -> int | None:
        member = self.get(key)
        return default if member is None else member.whole_number()

    def choice(self, key: str, allowed: Collection[str], *, default: str) -> str:
        member = self.get(key)
        return default if member is None else member.choice(allowed)

    def place_of(self, key: str) -> Place:
        """Where a key stands, or the entry when it is left out."""
        member = self.get(key)
        return self.value.place if member is None else member.place


def read_source(text: str) -> Value:
    """The file's one document. Raises `ConfigurationError` with the line where the text stops being YAML."""
    if text.lstrip().startswith("{"):
        # JSON may be indented with tabs, which YAML may not; inside JSON's strings a tab is always escaped.
        text = text.replace("\t", " ")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(mark.line + 1, "") if mark else None
        raise ConfigurationError(f"this is not YAML or JSON: {error.problem}.", place) from error
    except yaml.reader.ReaderError as error:
        place = Place(text.count("\n", 0, error.position) + 1, "")
        raise ConfigurationError(f"this is not YAML or JSON: {error.reason}.", place) from error
    except RecursionError as error:
        raise ConfigurationError("this is nested far too deeply to be a configuration.") from error
    if node is None:
        raise ConfigurationError("there is nothing in it; write {} to say so on purpose.")
    return Value(node, "")
