"""Words and phrases from a list, found whole and whatever their case, in time that hardly depends on its length."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from gateway.hooks.base import SettingsError
from gateway.hooks.patterns import Finder, Match

MOST_TERMS = 5000
LONGEST_TERM = 100
LONGEST_GAP = 4
"""Between the words of a phrase: spaces, or a line break with its indentation."""

WORD = re.compile(r"\w+")


class TermFinder(Finder):
    """Looks for the terms of a list. Raises `SettingsError` for a list that is too long, or a term that is none."""

    def __init__(self, terms: Sequence[str], *, kind: str, field: str = "") -> None:
        if len(terms) > MOST_TERMS:
            raise SettingsError(f"A list has at most {MOST_TERMS} terms.", field)
        self._kind = kind
        self._by_first_word: dict[str, list[re.Pattern[str]]] = {}
        self.width = 1
        for term in sorted({" ".join(term.split()) for term in terms}, key=len, reverse=True):
            first = WORD.match(term)
            if first is None or len(term) > LONGEST_TERM:
                raise SettingsError(
                    f"A term begins with a letter or a digit and has at most {LONGEST_TERM} characters; "
                    "write a pattern for anything else.",
                    field,
                )
            words = [re.escape(word) for word in term.split()]
            end = r"(?!\w)" if term[-1].isalnum() or term[-1] == "_" else ""
            pattern = re.compile(rf"\s{{1,{LONGEST_GAP}}}".join(words) + end, re.IGNORECASE)
            self._by_first_word.setdefault(first[0].casefold(), []).append(pattern)
            self.width = max(self.width, len(term) + (LONGEST_GAP - 1) * (len(words) - 1) + 1)

    def find(self, text: str, begin: int, *, end: int) -> Iterator[Match]:
        """See `Finder`."""
        at = begin
        if at and WORD.match(text, at - 1, at) and (inside := WORD.match(text, at, end)):
            at = inside.end()  # no term begins in the middle of a word
        reached = at
        for word in WORD.finditer(text, at, min(len(text), end + LONGEST_TERM)):
            if word.start() >= end:
                return
            if word.start() < reached:
                continue
            for pattern in self._by_first_word.get(word[0].casefold(), ()):
                if found := pattern.match(text, word.start()):
                    yield Match(found.start(), found.end(), self._kind)
                    reached = found.end()
                    break
