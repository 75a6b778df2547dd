"""Windows over texts that are still coming, with an overlap.

The client gets a character once every hook has seen it together with as much of what follows as the hook asks for. So a
pattern is found however a text was cut into pieces, and nothing of what is blocked has been sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.hooks.base import Action, Stage, Streams, Verdict, Window
from gateway.hooks.documents import JSON_TEXT, RubbishError, apply_edits
from gateway.hooks.selectors import BoundHook

if TYPE_CHECKING:
    from gateway.context import HookNote
    from gateway.hooks.runner import CallHooks

HELD_CHARACTERS = 4_000_000
"""A hook that holds answers back until their end fails with a longer one."""


class Windows:
    """The hooks of a call that look at streams, for the texts of one stream. Each has one line in the trace."""

    def __init__(self, hooks: CallHooks) -> None:
        self._hooks = hooks
        self._watching = [(one, memory, hooks.note(one, Stage.CHUNK)) for one, memory in hooks.watching()]

    def of(self, path: str) -> TextWindow:
        """One text; `path` says where it is in the answer."""
        gates = [_Gate(self._hooks, one, memory=memory, note=note, path=path) for one, memory, note in self._watching]
        return TextWindow(gates)

    async def whole(self, text: str, *, path: str) -> str:
        """What is left of a text that comes at once. Raises `ResponseBlockedError`."""
        return await self.of(path).feed(text, is_last=True)


class TextWindow:
    """One text on its way through all the hooks."""

    def __init__(self, gates: list[_Gate]) -> None:
        self._gates = gates

    async def feed(self, text: str, *, is_last: bool = False) -> str:
        """Take the next piece, and give what may go on now; all that is left with the last. Raises
        `ResponseBlockedError`."""
        for gate in self._gates:
            text = await gate.feed(text, is_last=is_last)
        return text


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
