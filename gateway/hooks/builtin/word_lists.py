"""Words and patterns that stop a call, those that are exceptions, and those of which a request must have one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from gateway.hooks.base import (
    ALLOWED,
    Edit,
    Hook,
    Resources,
    SettingsError,
    Stage,
    Streams,
    Subject,
    Text,
    Verdict,
    Window,
    blocked,
    edited,
)
from gateway.hooks.patterns import Finder, Match, PatternFinder, find_all, joined
from gateway.hooks.terms import TermFinder

MOST_PATTERNS = 50
MASK = "***"
PROMPTS = ("messages", "input", "prompt", "texts")
"""Members with what a request asks."""


class WordListSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    blocked_terms: Annotated[
        list[str],
        msgspec.Meta(description="Words and phrases, one in a line; found whole, their case does not matter."),
    ] = []
    blocked_patterns: Annotated[
        list[str], msgspec.Meta(description="Regular expressions of bounded length, one in a line.")
    ] = []
    allowed_terms: Annotated[
        list[str], msgspec.Meta(description="Exceptions: what is found inside one of these is let through.")
    ] = []
    required_patterns: Annotated[
        list[str],
        msgspec.Meta(description="If any are given, a request passes only if one of them is found in its newest text."),
    ] = []
    action: Annotated[
        Literal["block", "mask"], msgspec.Meta(description="Block the call, or put *** in place of what is found.")
    ] = "block"
    requests: Annotated[bool, msgspec.Meta(description="Look at requests.")] = True
    answers: Annotated[bool, msgspec.Meta(description="Look at answers.")] = True


class WordLists(Hook[WordListSettings]):
    name = "word_lists"
    description = (
        "Blocks or masks words and patterns in requests and answers, with exceptions; or lets only some requests pass."
    )
    settings_type = WordListSettings
    streams = Streams.WINDOW

    def __init__(self, settings: WordListSettings, resources: Resources) -> None:
        super().__init__(settings, resources)
        if len(settings.blocked_patterns) + len(settings.required_patterns) > MOST_PATTERNS:
            raise SettingsError(f"There are at most {MOST_PATTERNS} patterns.", "blocked_patterns")
        self._finders: list[Finder] = [
            PatternFinder(pattern, kind=f"pattern {number}", field="blocked_patterns")
            for number, pattern in enumerate(settings.blocked_patterns, 1)
        ]
        if settings.blocked_terms:
            self._finders.append(TermFinder(settings.blocked_terms, kind="a term", field="blocked_terms"))
        self._exceptions: list[Finder] = []
        if settings.allowed_terms:
            self._exceptions.append(TermFinder(settings.allowed_terms, kind="an exception", field="allowed_terms"))
        self._required = [
            PatternFinder(pattern, kind="required", field="required_patterns") for pattern in settings.required_patterns
        ]
        if not settings.blocked_terms and not settings.blocked_patterns and not self._required:
            raise SettingsError("There is nothing to look for: give blocked terms or patterns, or required patterns.")
        wanted: set[Stage] = {Stage.BEFORE} if settings.requests or self._required else set()
        if settings.answers and self._finders:
            wanted |= {Stage.CHUNK, Stage.AFTER}
        if not wanted:
            raise SettingsError("It looks at neither requests nor answers.", "requests")
        self.stages = frozenset(wanted)
        self.streams = Streams.WINDOW if Stage.CHUNK in self.stages else Streams.PASS
        self.overlap_characters = (
            2 * max([finder.width for finder in [*self._finders, *self._exceptions]], default=0) + 1
        )

    async def before_call(self, request: Subject) -> Verdict:
        if self._required and not await self._has_required(request.texts):
            return blocked("it has none of what requests must have")
        return await self._judged(request.texts) if self.settings.requests else ALLOWED

    async def on_chunk(self, window: Window) -> Verdict:
        text = Text(window.path, window.text, window.is_json)
        return await self._judged([text], begin=window.begin, settled=window.settled)

    async def after_call(self, answer: Subject) -> Verdict:
        return await self._judged(answer.texts)

    async def _has_required(self, texts: Sequence[Text]) -> bool:
        prompts = [text.value for text in texts if text.path.startswith(PROMPTS)]
        if not prompts:
            return False
        return bool([match async for match in find_all(self._required, prompts[-1])])

    async def _judged(self, texts: Sequence[Text], *, begin: int = 0, settled: int | None = None) -> Verdict:
        edits = []
        for number, text in enumerate(texts):
            hits = [match async for match in find_all(self._finders, text.value, begin=begin)]
            if hits and self._exceptions:
                hits = await self._without_exceptions(hits, text.value, begin=begin)
            for match in joined(hits):
                if self.settings.action == "mask":
                    edits.append(Edit(number, match.start, match.end, MASK))
                elif settled is None or match.start < settled:
                    return blocked(f"it has {match.kind} of the list")
        return edited(edits)

    async def _without_exceptions(self, hits: list[Match], text: str, *, begin: int) -> list[Match]:
        """An exception may have begun before what is looked at now."""
        earliest = max(0, begin - max(finder.width for finder in self._exceptions))
        allowed = [match async for match in find_all(self._exceptions, text, begin=earliest)]
        return [hit for hit in hits if not any(one.start <= hit.start and hit.end <= one.end for one in allowed)]


HOOK = WordLists
