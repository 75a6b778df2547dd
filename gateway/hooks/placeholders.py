"""Placeholders for what must stay inside: the provider gets them, the client gets its own words back.

A value has one placeholder throughout a call, so a model can tell two people apart. What stands for what is known to
this call alone and is gone with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from gateway.hooks.base import Edit, Hook, SettingsT, Stage, Streams, Subject, Text, Verdict, Window, edited
from gateway.hooks.patterns import Finder, Match, find_all, joined

PLACEHOLDER = re.compile(r"\[[A-Z_]{2,20}_[1-9][0-9]{0,5}\]")
PLACEHOLDER_WIDTH = 30


class _Vault:
    """Which placeholder stands for which value, in one call."""

    def __init__(self, taken: set[str]) -> None:
        self.values: dict[str, str] = {}
        self._placeholders: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}
        self._taken = taken
        """What looks like a placeholder in the client's own text stands for itself."""

    def placeholder(self, kind: str, value: str) -> str:
        known = self._placeholders.get((kind, value))
        while known is None:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            made = f"[{kind}_{self._counts[kind]}]"
            if made not in self._taken:
                known = self._placeholders[kind, value] = made
                self.values[made] = value
        return known


class _PlaceholderFinder(Finder):
    """Looks for the placeholders of one call."""

    width = PLACEHOLDER_WIDTH

    def __init__(self, vault: _Vault) -> None:
        self._vault = vault

    def find(self, text: str, begin: int, *, end: int) -> Iterator[Match]:
        for found in PLACEHOLDER.finditer(text, begin, min(len(text), end + self.width + 1)):
            if found.start() < end and found[0] in self._vault.values:
                yield Match(found.start(), found.end(), "")


class Placeholders(Hook[SettingsT]):
    """The base of hooks that redact: a subclass says what is found."""

    reinsert: bool = True
    """Whether values are put back into answers."""
    answer_finders: Sequence[Finder] = ()
    """What is looked for in answers, too, and replaced for good."""

    async def found(self, text: str) -> list[Match]:
        """What is to be replaced in a request's text, in order."""
        raise NotImplementedError

    def watch(self) -> None:
        """Choose when to be asked, by what is set: for the end of `__init__`."""
        looks_at_answers = self.reinsert or bool(self.answer_finders)
        self.stages = frozenset(Stage) if looks_at_answers else frozenset({Stage.BEFORE})
        self.streams = Streams.WINDOW if looks_at_answers else Streams.PASS
        self.overlap_characters = max([PLACEHOLDER_WIDTH, *(finder.width for finder in self.answer_finders)]) + 1

    async def before_call(self, request: Subject) -> Verdict:
        taken = {found[0] for text in request.texts for found in PLACEHOLDER.finditer(text.value)}
        vault = request.memory.setdefault("vault", _Vault(taken))
        edits = []
        for number, text in enumerate(request.texts):
            for match in await self.found(text.value):
                value = _plain(text.value[match.start : match.end], is_json=text.is_json)
                edits.append(Edit(number, match.start, match.end, vault.placeholder(match.kind, value)))
        return edited(edits)

    async def on_chunk(self, window: Window) -> Verdict:
        text = Text(window.path, window.text, window.is_json)
        return edited(await self._restored(0, text, begin=window.begin, memory=window.memory))

    async def after_call(self, answer: Subject) -> Verdict:
        edits: list[Edit] = []
        for number, text in enumerate(answer.texts):
            edits += await self._restored(number, text, begin=0, memory=answer.memory)
        return edited(edits)

    async def _restored(self, number: int, text: Text, *, begin: int, memory: dict[str, Any]) -> list[Edit]:
        """What was redacted is put back, and what else is found is replaced."""
        vault = memory.setdefault("vault", _Vault(set()))
        finders: list[Finder] = [_PlaceholderFinder(vault)] if self.reinsert and vault.values else []
        finders += self.answer_finders
        edits = []
        found = [match async for match in find_all(finders, text.value, begin=begin)]
        own = [match for match in found if not match.kind]
        others = [match for match in found if match.kind and not any(_overlap(match, one) for one in own)]
        for match in [*own, *joined(others)]:
            if match.kind:
                replacement = f"[{match.kind}]"
            else:
                value = vault.values[text.value[match.start : match.end]]
                replacement = _escaped(value) if text.is_json else value
            edits.append(Edit(number, match.start, match.end, replacement))
        return edits


def _overlap(one: Match, other: Match) -> bool:
    return one.start < other.end and other.start < one.end


def _plain(value: str, *, is_json: bool) -> str:
    """What a piece of a JSON string says."""
    if is_json and "\\" in value:
        try:
            return str(msgspec.json.decode(f'"{value}"', type=str))
        except msgspec.DecodeError:
            pass
    return value


def _escaped(value: str) -> str:
    return msgspec.json.encode(value).decode()[1:-1]
