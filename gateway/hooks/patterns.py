r"""Regular expressions that operators write: only those that are done in bounded time, and searched for in pieces.

Python's expressions backtrack, hold every other thread while they do, and cannot be stopped. So a pattern is taken only
if the number of ways in which it can match at one place is small, whatever the text: `(a+)+$` has no bound, nor has
`\d+`, and `\d{1,20}` has 20. That also bounds how long a match can be, which is what a stream must be held back by.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

from gateway.hooks.base import SettingsError

LONGEST_PATTERN = 500
WIDEST_MATCH = 400
"""Characters. The client of a stream is that far behind."""

MOST_WAYS = 2000
PIECE_CHARACTERS = 1024
"""After so many, other calls get their turn, and the hook's time is looked at."""


class Match(NamedTuple):
    """Where something was found, and what kind of thing it is."""

    start: int
    end: int
    kind: str


class Finder:
    """Looks for one kind of thing. `width`: no match is longer."""

    width: int

    def find(self, text: str, begin: int, *, end: int) -> Iterator[Match]:
        """Matches that begin in this stretch of a text, in order; they may reach beyond it."""
        raise NotImplementedError


class PatternFinder(Finder):
    """Looks for a pattern. Raises `SettingsError` for one that is none, or might take too long."""

    def __init__(self, pattern: str, *, kind: str, field: str = "") -> None:
        self.width = check_pattern(pattern, field=field)
        self._compiled = re.compile(pattern)
        self._kind = kind

    def find(self, text: str, begin: int, *, end: int) -> Iterator[Match]:
        """See `Finder`."""
        at = begin
        while at < end and (found := self._compiled.search(text, at, min(len(text), end + self.width + 1))):
            if found.start() >= end:
                return
            if found.end() > found.start():
                yield Match(found.start(), found.end(), self._kind)
            at = max(found.end(), found.start() + 1)


async def find_all(finders: Sequence[Finder], text: str, *, begin: int = 0) -> AsyncIterator[Match]:
    """What any of them finds, from `begin` on. Matches of different finders may overlap."""
    reached = [begin] * len(finders)
    for start in range(begin, len(text), PIECE_CHARACTERS):
        for number, finder in enumerate(finders):
            end = start + PIECE_CHARACTERS
            for match in finder.find(text, max(start, reached[number]), end=min(end, len(text))):
                reached[number] = match.end
                yield match
        if start + PIECE_CHARACTERS < len(text):
            await asyncio.sleep(0)


def joined(matches: Iterable[Match]) -> list[Match]:
    """In order, those that overlap made one, of the kind that begins first: nothing of any of them is left out."""
    kept: list[Match] = []
    for match in sorted(matches, key=lambda one: (one.start, -one.end)):
        if not kept or match.start >= kept[-1].end:
            kept.append(match)
        elif match.end > kept[-1].end:
            kept[-1] = kept[-1]._replace(end=match.end)
    return kept


def check_pattern(pattern: str, *, field: str = "") -> int:
    """How long a match can be. Raises `SettingsError` for a pattern that is none, or whose search may take too long."""
    if len(pattern) > LONGEST_PATTERN:
        raise SettingsError(f"A pattern has at most {LONGEST_PATTERN} characters.", field)
    try:
        parsed = parser.parse(pattern)
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise SettingsError(f"{pattern!r} is no regular expression: {error}.", field) from error
    least, widest = parsed.getwidth()
    if widest > WIDEST_MATCH:
        raise SettingsError(
            rf"{pattern!r} matches more than {WIDEST_MATCH} characters: say how many, such as \d{{1,20}} for \d+.",
            field,
        )
    if least == 0:
        raise SettingsError(f"{pattern!r} matches nothing at all, which is everywhere.", field)
    ways = _ways(parsed, pattern, field=field)
    if ways > MOST_WAYS:
        raise SettingsError(
            f"{pattern!r} can match in too many ways at one place: there are texts for which its search takes "
            "very long. Make its repetitions shorter, or split it into several patterns.",
            field,
        )
    return int(widest)


def _ways(parsed: Any, pattern: str, *, field: str) -> int:
    """In how many ways a sequence can match at one place, at most."""
    ways = 1
    for code, value in parsed:
        ways *= _ways_of(code, value, pattern=pattern, field=field)
        if ways > MOST_WAYS:
            return ways
    return ways


def _ways_of(code: Any, value: Any, *, pattern: str, field: str) -> int:
    if code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
        least, most, inner = value
        once = _ways(inner, pattern, field=field)
        if once == 1:
            return int(most) - int(least) + 1
        return int(min(MOST_WAYS + 1, sum(once**times for times in range(least, min(most, least + 12) + 1))))
    if code is codes.BRANCH:
        return sum(_ways(branch, pattern, field=field) for branch in value[1])
    if code is codes.SUBPATTERN:
        return _ways(value[-1], pattern, field=field)
    if code is codes.ATOMIC_GROUP:
        return _ways(value, pattern, field=field)
    if code in (codes.ASSERT, codes.ASSERT_NOT):
        return 1 + _ways(value[1], pattern, field=field)
    if code in (codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN, codes.AT):
        return 1
    raise SettingsError(f"{pattern!r} refers back to what it has matched, which may take too long.", field)
