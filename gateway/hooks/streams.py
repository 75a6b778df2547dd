"""Hooks on a chat's answer that is still coming: a window over each of its texts (`gateway.hooks.windows`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.hooks.documents import Place, path_of, places_of
from gateway.hooks.windows import TextWindow, Windows
from providers.types import Chunk

if TYPE_CHECKING:
    from gateway.hooks.runner import CallHooks

HEAD = ("id", "object", "created", "model", "system_fingerprint")
"""What every chunk of a stream has in common."""


class _Lane:
    """One text of one choice, and how a delta of it is written."""

    def __init__(self, choice: int, way: tuple[str | int, ...], *, window: TextWindow) -> None:
        self.choice = choice
        self.feed = window.feed
        self._way = way

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
        self._windows = Windows(hooks)
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
            window = self._windows.of(f"choices[{choice}].{path_of(way)}")
            lane = self._lanes[choice, way] = _Lane(choice, way, window=window)
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
