"""A text that matches a regular expression, for the plain expressions that schemas use.

Literals, classes, groups, alternatives and counts are understood; assertions and back-references are not.
"""

from __future__ import annotations

import itertools

LENGTH_LIMIT = 10_000
NESTING_LIMIT = 50
GROWTH_STEPS = 32

_CLASSES = {
    "d": [("0", "9")],
    "w": [("a", "z"), ("A", "Z"), ("0", "9"), ("_", "_")],
    "s": [(" ", " ")],
    "D": [("a", "z")],
    "W": [("-", "-")],
    "S": [("a", "z")],
}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r"}
_ALPHABET = "aA0 -_.,:;/\\!?'\"()[]{}<>@#$%&*+=^|~`" + "bB1"


class PatternUnsupportedError(ValueError):
    """The expression uses something this small reader does not know."""


def text_matching(pattern: str, shortest: int = 0) -> str:
    """A text that matches `pattern`, of at least `shortest` characters where the expression's counts allow it.

    Raises `PatternUnsupportedError`.
    """
    text = ""
    for more in (*range(min(shortest, GROWTH_STEPS)), shortest):
        text = _Reader(pattern, more).read()
        if len(text) >= shortest:
            break
    return text


class _Reader:
    """Reads the expression once and writes the shortest match, with every open count `more` above its least."""

    def __init__(self, pattern: str, more: int) -> None:
        self._pattern = pattern
        self._at = 0
        self._more = more
        self._nesting = 0

    def read(self) -> str:
        text = self._alternatives()
        if self._at < len(self._pattern):
            raise PatternUnsupportedError("unbalanced )")
        return text

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self) -> str:
        if self._at >= len(self._pattern):
            raise PatternUnsupportedError("the expression ends too early")
        self._at += 1
        return self._pattern[self._at - 1]

    def _alternatives(self) -> str:
        self._nesting += 1
        if self._nesting > NESTING_LIMIT:
            raise PatternUnsupportedError("nested too deeply")
        first = self._sequence()
        while self._peek() == "|":
            self._take()
            self._sequence()
        self._nesting -= 1
        return first

    def _sequence(self) -> str:
        text = ""
        while self._peek() not in ("", "|", ")"):
            atom = self._atom()
            times = self._count()
            if len(text) + len(atom) * times > LENGTH_LIMIT:
                raise PatternUnsupportedError("the text would be too long")
            text += atom * times
        return text

    def _atom(self) -> str:
        char = self._take()
        if char in "^$":
            return ""
        if char == ".":
            return "a"
        if char == "[":
            return self._class()
        if char == "(":
            return self._group()
        if char == "\\":
            return self._escape()[0][0]
        if char in "*+?{":
            raise PatternUnsupportedError("a count without anything to count")
        return char

    def _group(self) -> str:
        if self._peek() == "?":
            self._take()
            if self._take() != ":":
                raise PatternUnsupportedError("an assertion or a named group")
        text = self._alternatives()
        if self._take() != ")":
            raise PatternUnsupportedError("unbalanced (")
        return text

    def _escape(self) -> list[tuple[str, str]]:
        char = self._take()
        if char in _CLASSES:
            return _CLASSES[char]
        if char in "bBAZzkpPux" or char.isdigit():
            raise PatternUnsupportedError(f"\\{char}")
        char = _CONTROLS.get(char, char)
        return [(char, char)]

    def _class(self) -> str:
        negated = self._peek() == "^"
        if negated:
            self._take()
        ranges: list[tuple[str, str]] = []
        while not ranges or self._peek() != "]":
            char = self._take()
            if char == "\\":
                ranges += self._escape()
            elif self._peek() == "-" and self._pattern[self._at + 1 : self._at + 2] not in ("]", "\\"):
                self._take()
                ranges.append((char, self._take()))
            else:
                ranges.append((char, char))
        self._take()
        if not negated:
            return ranges[0][0]
        for char in _ALPHABET:
            if not any(low <= char <= high for low, high in ranges):
                return char
        raise PatternUnsupportedError("a class that leaves nothing")

    def _count(self) -> int:
        char = self._peek()
        if char not in ("*", "+", "?", "{") or char == "":
            return 1
        self._take()
        least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(char) or self._braces()
        if self._peek() == "?":
            self._take()
        return least + self._more if most is None else min(least + self._more, most)

    def _braces(self) -> tuple[int, int | None]:
        inside = "".join(itertools.takewhile(lambda char: char != "}", self._pattern[self._at :]))
        self._at += len(inside) + 1
        least, comma, most = inside.partition(",")
        if not least.isdecimal() or (most and not most.isdecimal()) or len(inside) > 11:
            raise PatternUnsupportedError("a count that is no number")
        return int(least), int(most) if most else (None if comma else int(least))
