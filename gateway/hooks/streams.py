"""Hooks on an answer that is still coming: windows over each of its texts, with an overlap.

The client gets a character once every hook has seen it together with as much of what follows as the hook asks for. So a
pattern is found however the provider cut the answer into chunks, and nothing of what is blocked has been sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.hooks.base import Action, Stage, Streams, Verdict, Window
from gateway.hooks.documents import JSON_TEXT, Place, RubbishError, apply_edits, path_of, places_of
from gateway.hooks.selectors import BoundHook
from providers.types import Chunk

if TYPE_CHECKING:
    from gateway.context import HookNote
    from gateway.hooks.runner import CallHooks

HELD_CHARACTERS = 4_000_000
"""A hook that holds answers back until their end fails with a longer one."""

HEAD = ("id", "object", "created", "model", "system_fingerprint")
"""What every chunk of a stream has in common."""


class _Gate:
    """One hook on one text: what it has not let through yet."""

    def __init__(self, hooks: CallHooks, one: BoundHook, *, memory: dict[str, Any], note: HookNote, path: str) -> None:
        self._hooks = hooks
        self._one = one
        self._memory = memory
        self._note = note
        self._path = path
        self._before = ""
        self._held = ""

    async def feed(self, text: str, *, is_last: bool) -> str:
        """Take what comes next, and give what may go on. Raises `ResponseBlockedError`."""
        if not text and not is_last:
            return ""
        self._held += text
        if self._note.verdict == "failed":
            released, self._held = self._held, ""
            return released
        hook = self._one.hook
        holds = hook.streams is Streams.HOLD
        overlap = len(self._held) if holds else hook.overlap_characters
        if not self._held or (not is_last and len(self._held) <= min(overlap, HELD_CHARACTERS)):
            return ""
        text = self._before + self._held
        begin = len(self._before)
        window = Window(
            call=self._hooks.facts,
            memory=self._memory,
            transport=self._hooks.transport,
            text=text,
            begin=begin,
            settled=len(text) if is_last else max(begin, len(text) - hook.overlap_characters),
            is_last=is_last,
            path=self._path,
            is_json=self._path.endswith(JSON_TEXT),
        )
        gone_on: list[str] = []

        def accept(verdict: Verdict) -> None:
            gone_on.append(self._edited(window, verdict))

        went = await self._hooks.ask(
            self._one, self._note, question=lambda: self._asked(window, too_long=holds and not is_last), accept=accept
        )
        if not went:
            rest, self._held = self._held, ""
            return rest
        if not gone_on:
            accept(Verdict(action=Action.ALLOW))
        return gone_on[0]

    async def _asked(self, window: Window, *, too_long: bool) -> Verdict:
        if too_long:
            raise RubbishError(f"The answer is longer than the {HELD_CHARACTERS} characters that are held back.")
        return await self._one.hook.on_chunk(window)

    def _edited(self, window: Window, verdict: Verdict) -> str:
        """What of a window may go on, edited; the rest is held. An edit that reaches beyond that is made when it is
        found again, with more of what follows it. Raises `RubbishError`."""
        text = window.text
        if verdict.body is not None or any(edit.text for edit in verdict.edits):
            raise RubbishError("A window has one text and no body.")
        whole = apply_edits(text, verdict.edits, begin=window.begin)  # all must hold, also those for later
        if window.is_last:
            self._held, self._before = "", ""
            self._noted(bool(verdict.edits))
            return whole
        settled = window.settled
        cut = min([settled, *(edit.start for edit in verdict.edits if edit.start < settled < edit.end)])
        now = [edit for edit in verdict.edits if edit.end <= cut and edit.start < cut]
        self._noted(bool(now))
        released = apply_edits(text, now, begin=window.begin, end=cut)
        self._before = text[max(0, cut - self._one.hook.overlap_characters) : cut]
        self._held = text[cut:]
        return released

    def _noted(self, is_edited: bool) -> None:
        if is_edited:
            self._note.add_fields([self._path])


class _Lane:
    """One text of the answer on its way through all the hooks."""

    def __init__(self, choice: int, way: tuple[str | int, ...], *, gates: list[_Gate]) -> None:
        self.choice = choice
        self._way = way
        self._gates = gates

    async def feed(self, text: str, *, is_last: bool = False) -> str:
        """What may go on after all hooks. Raises `ResponseBlockedError`."""
        for gate in self._gates:
            text = await gate.feed(text, is_last=is_last)
        return text

    def delta(self, text: str) -> dict[str, Any]:
        """A delta that adds to this text and no other."""
        built: Any = text
        for step in reversed(self._way):
            built = [{"index": step, **built}] if isinstance(step, int) else {step: built}
        delta: dict[str, Any] = built
        return delta


class StreamHooks:
    """The hooks of one stream. Feed it chunks in order; it gives those that the client may have."""

    def __init__(self, hooks: CallHooks) -> None:
        self._hooks = hooks
        self._watching = [(one, memory, hooks.note(one, Stage.CHUNK)) for one, memory in hooks.watching()]
        self._lanes: dict[tuple[int, tuple[str | int, ...]], _Lane] = {}
        self._head: dict[str, Any] = {}

    async def pass_on(self, chunks: Iterable[Chunk]) -> list[Chunk]:
        """What may be sent now. Raises `ResponseBlockedError`."""
        passed: list[Chunk] = []
        for chunk in chunks:
            document = msgspec.json.decode(chunk.data)
            if document.get("choices"):
                passed += await self._judged(chunk, document)
            else:
                passed.append(chunk)
        return passed

    async def finish(self) -> list[Chunk]:
        """What is held of texts that the provider did not end. Raises `ResponseBlockedError`."""
        return [
            chunk
            for choice in sorted({lane.choice for lane in self._lanes.values()})
            for chunk in await self._rest(choice)
        ]

    async def _judged(self, chunk: Chunk, document: dict[str, Any]) -> list[Chunk]:
        """The chunk as it may be sent, before it what was held of texts that end with it."""
        self._head = {name: document[name] for name in HEAD if name in document}
        ended, going_on, rest = [], [], []
        for choice in document["choices"]:
            choice.pop("logprobs", None)  # they spell the answer as it was
            reason = choice.get("finish_reason")
            if await self._feed(choice) or (reason is None and not choice.get("delta")):
                going_on.append({**choice, "finish_reason": None})
            if reason is not None:
                rest += await self._rest(choice.get("index", 0))
                ended.append({**choice, "delta": {}})
        passed = []
        if going_on:
            passed.append(Chunk(data=msgspec.json.encode({**self._head, "choices": going_on})))
        passed += rest
        if ended or chunk.usage is not None or chunk.continuation is not None:
            data = msgspec.json.encode({**document, "choices": ended or [_nothing(document)]})
            passed.append(Chunk(data=data, usage=chunk.usage, continuation=chunk.continuation))
        return passed

    async def _feed(self, choice: dict[str, Any]) -> bool:
        """Put into a choice's delta what may be sent of it; whether that leaves anything to say."""
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return False
        places = places_of(delta)
        for place in places:
            lane = self._lane(choice.get("index", 0), _named_by_index(delta, place.way))
            place.holder[place.key] = await lane.feed(place.text.value)
        return any(place.holder[place.key] for place in places) or not _is_only(delta, places)

    async def _rest(self, choice: int) -> list[Chunk]:
        """What is held of a choice's texts, which end here."""
        chunks = []
        for key in [key for key, lane in self._lanes.items() if lane.choice == choice]:
            lane = self._lanes.pop(key)
            if text := await lane.feed("", is_last=True):
                told = {"index": choice, "delta": lane.delta(text), "finish_reason": None}
                chunks.append(Chunk(data=msgspec.json.encode({**self._head, "choices": [told]})))
        return chunks

    def _lane(self, choice: int, way: tuple[str | int, ...]) -> _Lane:
        lane = self._lanes.get((choice, way))
        if lane is None:
            path = f"choices[{choice}].{path_of(way)}"
            gates = [
                _Gate(self._hooks, one, memory=memory, note=note, path=path) for one, memory, note in self._watching
            ]
            lane = self._lanes[choice, way] = _Lane(choice, way, gates=gates)
        return lane


def _named_by_index(delta: dict[str, Any], way: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Where a text goes on from chunk to chunk: calls of tools stand in any place, and are told apart by `index`."""
    if way[0] != "tool_calls" or len(way) < 2:
        return way
    call = delta["tool_calls"][way[1]]
    index = call.get("index", way[1]) if isinstance(call, dict) else way[1]
    return ("tool_calls", index if isinstance(index, int) else way[1], *way[2:])


def _is_only(delta: dict[str, Any], places: Sequence[Place]) -> bool:
    """Whether a delta has nothing but these texts."""
    if not places:
        return False
    left = _without_texts(delta, {(id(place.holder), place.key) for place in places})
    return left is None


def _without_texts(value: Any, texts: set[tuple[int, Any]]) -> Any:
    """What a delta says besides its texts; None for nothing. Places in lists are nothing by themselves."""
    if isinstance(value, dict):
        left = {
            name: rest
            for name, member in value.items()
            if name not in ("index", "type") and (id(value), name) not in texts
            if (rest := _without_texts(member, texts)) is not None
        }
        return left or None
    if isinstance(value, list):
        return [rest for item in value if (rest := _without_texts(item, texts)) is not None] or None
    return value


def _nothing(document: dict[str, Any]) -> dict[str, Any]:
    return {"index": document["choices"][0].get("index", 0), "delta": {}, "finish_reason": None}
