"""A hook that hangs, throws or answers rubbish about a whole request or answer, with either way of failing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.errors import RequestBlockedError, ResponseBlockedError
from gateway.hooks.base import Action, Edit, Hook, NoSettings, Resources, Subject, Verdict, edited, replaced
from tests.gateway.hooks.asking import Asked, bound

TEXT = "the canary sings"
ANSWERS: dict[str, Any] = {
    "no verdict": None,
    "a text": "allow",
    "no action": Verdict(action="allow"),  # type: ignore[arg-type]
    "no reason": Verdict(action=Action.BLOCK, reason=b"bytes"),  # type: ignore[arg-type]
    "nothing to change": Verdict(action=Action.MODIFY),
    "edits and a body": Verdict(action=Action.MODIFY, edits=(Edit(0, 0, 1, ""),), body={}),
    "edits that are none": Verdict(action=Action.MODIFY, edits=("x",)),  # type: ignore[arg-type]
    "edits that overlap": edited([Edit(0, 0, 5, ""), Edit(0, 3, 8, "")]),
    "edits beyond the text": edited([Edit(0, 0, 10_000, "")]),
    "another text": edited([Edit(7, 0, 1, "")]),
    "half a character": edited([Edit(0, 0, 1, "\ud83d")]),
    "a body that is a list": replaced([1]),
    "a body that is no JSON": replaced({"texts": object()}),
    "numbers for texts": replaced({"texts": [1]}),
    "more texts": replaced({"texts": ["the canary", "sings"]}),
}
ITSELF: dict[str, Any] = {}
ITSELF["self"] = ITSELF
ANSWERS["a body with itself in it"] = replaced(ITSELF)


class Bad(Hook[NoSettings]):
    """Does what hooks must not."""

    name = "bad"
    description = "For tests."

    def __init__(self, how: str) -> None:
        super().__init__(NoSettings(), Resources())
        self._how = how

    async def before_call(self, request: Subject) -> Verdict:
        return await self._misbehave(request)

    async def after_call(self, answer: Subject) -> Verdict:
        return await self._misbehave(answer)

    async def _misbehave(self, subject: Subject) -> Verdict:
        if self._how == "hangs":
            await asyncio.Event().wait()
        if self._how == "throws":
            raise ValueError(f"I do not like {subject.texts[0].value}")
        if self._how == "throws a group":
            raise ExceptionGroup(subject.texts[0].value, [KeyError(1)])
        found: Verdict = ANSWERS[self._how]
        return found


@pytest.mark.parametrize("stage", ["before", "after"])
@pytest.mark.parametrize("how", ["hangs", "throws", "throws a group", *ANSWERS])
async def test_a_hook_that_fails(how: str, stage: str, caplog: pytest.LogCaptureFixture) -> None:
    asked = Asked(bound(Bad(how), fail_open=True, timeout_seconds=0.05))
    ask = asked.hooks.texts_before if stage == "before" else asked.hooks.texts_after
    assert await ask([TEXT]) == [TEXT], "as if it had not been asked"
    closed = Asked(bound(Bad(how), timeout_seconds=0.05))
    ask = closed.hooks.texts_before if stage == "before" else closed.hooks.texts_after
    with pytest.raises(RequestBlockedError if stage == "before" else ResponseBlockedError) as refused:
        await ask([TEXT])
    assert refused.value.details["hook_failed"] is True
    for one in (asked, closed):
        assert [note.verdict for note in one.notes] == ["failed"] and one.notes[0].problem and not one.notes[0].fields
    quoted = caplog.text + str([vars(record) for record in caplog.records]) + str(asked.notes) + refused.value.message
    assert "canary" not in quoted
