"""Hooks on transcripts: one text, however it is told; as segments with their times, or piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from gateway.hooks.base import Edit
from gateway.hooks.documents import Document, Place
from gateway.hooks.windows import Windows
from providers.types import Chunk

if TYPE_CHECKING:
    from gateway.hooks.runner import CallHooks

TEXT, SEGMENTS = "text", "segments"
SPELLED = ("words", "logprobs")
"""Members that say the text over again, in pieces that no hook could make sense of."""
SPELLED_BY_SEGMENT = ("tokens",)


class _Cut(NamedTuple):
    """Where a segment's words stand in the whole text."""

    segment: dict[str, Any]
    start: int
    end: int


class Transcript(Document):
    """A whole transcript. Hooks see its text once, and what they change in it is changed in its segments.

    So a term is found that begins in one segment and ends in the next. Segments that do not make up the text are texts
    of their own.
    """

    def __init__(self, read: Callable[[], Any]) -> None:
        super().__init__(read)
        self._cuts: list[_Cut] = []

    def edit(self, edits: Sequence[Edit]) -> list[str]:
        """See `Document`."""
        places = self._found()
        whole = next((number for number, place in enumerate(places) if place.way == (TEXT,)), None)
        own = sorted((edit for edit in edits if edit.text == whole), key=lambda edit: edit.start)
        before = places[whole].text.value if whole is not None else ""
        paths = super().edit(edits)
        if own and self._cuts:
            _cut_again(before, self._cuts, edits=[_least(before, edit) for edit in own])
            self._cuts = _cuts(self.body)
        return paths

    def forget_spelling(self) -> None:
        """Take out what says a changed text as it was."""
        for name in SPELLED:
            self.body.pop(name, None)
        for segment in self.body.get(SEGMENTS) or ():
            for name in (*SPELLED_BY_SEGMENT, *SPELLED) if isinstance(segment, dict) else ():
                segment.pop(name, None)

    def _look(self) -> list[Place]:
        self._cuts = _cuts(self.body)
        places = super()._look()
        if not self._cuts:
            return places
        return [place for place in places if not (place.way[0] == SEGMENTS and place.key == TEXT)]


def _cuts(body: dict[str, Any]) -> list[_Cut]:
    """Where each segment stands in the text; none where they do not make it up."""
    text, segments = body.get(TEXT), body.get(SEGMENTS)
    if not isinstance(text, str) or not isinstance(segments, list):
        return []
    cuts: list[_Cut] = []
    at = 0
    for segment in segments:
        said = segment.get(TEXT) if isinstance(segment, dict) else None
        if not isinstance(said, str):
            return []
        start = text.find(said.strip(), at)
        if start < 0 or text[at:start].strip():
            return []
        at = start + len(said.strip())
        cuts.append(_Cut(segment, start, at))
    return cuts if not text[at:].strip() else []


def _cut_again(text: str, cuts: Sequence[_Cut], *, edits: Sequence[Edit]) -> None:
    """Make edits of the whole text in its segments: what is put in goes where the edit begins."""
    ends = [cut.end for cut in cuts]
    owners = [next((number for number, end in enumerate(ends) if end > edit.start), len(cuts) - 1) for edit in edits]
    for number, cut in enumerate(cuts):
        pieces, at = [], cut.start
        for edit, owner in zip(edits, owners, strict=True):
            if owner != number and not (edit.start < cut.end and edit.end > cut.start):
                continue
            pieces.append(text[at : min(edit.start, cut.end)])
            if owner == number:
                pieces.append(edit.replacement)
            at = max(at, min(edit.end, cut.end))
        said = cut.segment[TEXT]
        space = said[: len(said) - len(said.lstrip())]
        cut.segment[TEXT] = space + "".join(pieces) + text[at : cut.end]


def _least(text: str, edit: Edit) -> Edit:
    """The edit without what it leaves as it is: a webhook gives back whole texts."""
    start, end, new = edit.start, edit.end, edit.replacement
    same = 0
    while same < min(end - start, len(new)) and text[start + same] == new[same]:
        same += 1
    start, new = start + same, new[same:]
    same = 0
    while same < min(end - start, len(new)) and text[end - 1 - same] == new[-1 - same]:
        same += 1
    return Edit(edit.text, start, end - same, new[: len(new) - same])


class TranscriptWindows:
    """The hooks of a transcript that comes piece by piece, in OpenAI's events. See `gateway.streaming.StreamJudge`."""

    def __init__(self, hooks: CallHooks) -> None:
        self._windows = Windows(hooks)
        self._said = self._windows.of(TEXT)
        self._given: list[str] = []
        self._passed: list[str] = []

    async def pass_on(self, chunks: Iterable[Chunk]) -> list[Chunk]:
        """What may be sent now. Raises `ResponseBlockedError`."""
        passed: list[Chunk] = []
        for chunk in chunks:
            event = msgspec.json.decode(chunk.data)
            kind = str(event.get("type", ""))
            for name in SPELLED:
                event.pop(name, None)
            if kind.endswith(".done"):
                passed += await self._done(chunk, event)
            elif kind.endswith(".delta"):
                passed += await self._delta(chunk, event)
            else:
                if isinstance(event.get(TEXT), str):  # a segment
                    event[TEXT] = await self._windows.whole(event[TEXT], path=TEXT)
                passed.append(_told(chunk, event))
        return passed

    async def finish(self) -> list[Chunk]:
        """A transcript ends with an event of its own, after which nothing is held."""
        return []

    async def _delta(self, chunk: Chunk, event: dict[str, Any]) -> list[Chunk]:
        given = event.get("delta")
        if not isinstance(given, str):
            return [_told(chunk, event)]
        self._given.append(given)
        event["delta"] = text = await self._said.feed(given)
        self._passed.append(text)
        return [_told(chunk, event)] if text or chunk.usage is not None else []

    async def _done(self, chunk: Chunk, event: dict[str, Any]) -> list[Chunk]:
        """The last event says the whole text again: as it was passed on, unless it is another one."""
        told: list[Chunk] = []
        if rest := await self._said.feed("", is_last=True):
            self._passed.append(rest)
            told.append(Chunk(data=msgspec.json.encode({"type": "transcript.text.delta", "delta": rest})))
        whole = event.get(TEXT)
        if isinstance(whole, str):
            is_same = whole.strip() == "".join(self._given).strip()
            passed = "".join(self._passed).strip()
            event[TEXT] = passed if is_same else await self._windows.whole(whole, path=TEXT)
        return [*told, _told(chunk, event)]


def _told(chunk: Chunk, event: dict[str, Any]) -> Chunk:
    return msgspec.structs.replace(chunk, data=msgspec.json.encode(event))
