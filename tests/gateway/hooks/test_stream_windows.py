"""Hooks over streams: however an answer is cut into chunks, what leaves is what the whole answer would have come to."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from gateway.errors import ResponseBlockedError
from gateway.hooks.base import ALLOWED, Edit, Hook, NoSettings, Resources, Streams, Subject, Verdict, Window, edited
from gateway.hooks.streams import StreamHooks
from tests.gateway.hooks.asking import Asked, arguments, bound, built, chunk, deltas, said, usage_chunk

MASKS = {
    "blocked_terms": ["zebra crossing", "secret"],
    "blocked_patterns": [r"\bX-\d{2,6}\b"],
    "allowed_terms": ["secret santa"],
    "action": "mask",
}
TEXT = "A secret, no secret santa; X-12345 and X-1 at the zebra\n crossing, secretly and 99X-123."
MASKED = "A ***, no secret santa; *** and X-1 at the ***, secretly and 99X-123."


def pieces_of(text: str, *cuts: int) -> list[str]:
    edges = [0, *cuts, len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


def content(*pieces: str) -> list[Any]:
    begun = chunk({"role": "assistant", "content": ""})
    return [begun, *(chunk({"content": piece}) for piece in pieces), chunk({}, finish="stop"), usage_chunk()]


def check_form(chunks: list[Any]) -> None:
    """What every client relies on, hooks or not."""
    documents = [msgspec.json.decode(one.data) for one in chunks]
    assert all(document["id"] == "c-1" and document["object"] == "chat.completion.chunk" for document in documents)
    finishes = [choice["finish_reason"] for document in documents for choice in document["choices"]]
    assert finishes.count("stop") == 1 and finishes[-1] == "stop", "nothing is said after the finish"
    assert documents[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1].usage_only and [one.usage for one in chunks].count(None) == len(chunks) - 1


@pytest.mark.parametrize("cut", range(1, len(TEXT)))
async def test_masks_at_every_split(cut: int) -> None:
    chunks = await Asked(built("word_lists", MASKS)).stream(content(*pieces_of(TEXT, cut)))
    assert said(chunks) == MASKED
    check_form(chunks)


async def test_masks_letter_by_letter_and_whole_alike() -> None:
    for pieces in (list(TEXT), [TEXT]):
        for together in (True, False):
            chunks = await Asked(built("word_lists", MASKS)).stream(content(*pieces), together=together)
            assert said(chunks) == MASKED
            check_form(chunks)


@pytest.mark.parametrize("cut", range(1, 40))
async def test_nothing_of_what_is_blocked_is_sent(cut: int) -> None:
    asked = Asked(built("word_lists", {"blocked_terms": ["zebra crossing"]}))
    stream = StreamHooks(asked.hooks)
    passed = []
    with pytest.raises(ResponseBlockedError) as refused:
        for one in content(*pieces_of("Meet me at the far end of the zebra crossing, at noon.", cut)):
            passed += await stream.pass_on([one])
        passed += await stream.finish()
    assert "Meet me at the far end of the zebra".startswith(said(passed)) and "z" not in said(passed)
    assert refused.value.details == {"hook": "word_lists", "reason": "it has a term of the list", "hook_failed": False}
    assert [(note.stage, note.verdict) for note in asked.notes] == [("on_chunk", "block")]


async def test_choices_and_calls_of_tools_have_windows_of_their_own() -> None:
    chunks = [
        chunk({"role": "assistant", "content": "sec"}),
        chunk({"role": "assistant", "content": "sec"}, choice=1),
        chunk({"content": "ond"}),
        chunk({"content": "ret"}, choice=1),
        chunk(
            {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]}
        ),
        chunk(
            {
                "tool_calls": [
                    {"index": 1, "id": "b", "type": "function", "function": {"name": "secret", "arguments": '{"x"'}}
                ]
            }
        ),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a": "sec'}}]}),
        chunk({"tool_calls": [{"index": 1, "function": {"arguments": ': "secret"}'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": 'ret"}'}}]}),
        chunk({}, finish="tool_calls"),
        chunk({}, finish="stop", choice=1),
    ]
    passed = await Asked(built("word_lists", MASKS)).stream(chunks)
    assert said(passed) == "second" and said(passed, choice=1) == "***"
    assert arguments(passed, call=0) == '{"a": "***"}' and arguments(passed, call=1) == '{"x": "***"}'
    calls = [call for delta in deltas(passed) for call in delta.get("tool_calls", ()) if "id" in call]
    assert [(call["id"], call["function"]["name"]) for call in calls] == [("a", "f"), ("b", "secret")]


async def test_a_finish_with_content_comes_last() -> None:
    chunks = [chunk({"role": "assistant", "content": "a sec"}), chunk({"content": "ret"}, finish="stop"), usage_chunk()]
    passed = await Asked(built("word_lists", MASKS)).stream(chunks)
    assert said(passed) == "a ***"
    check_form(passed)


async def test_a_stream_that_the_provider_does_not_finish_is_given_whole() -> None:
    chunks = content("no sec", "ret here")[:-2]
    assert said(await Asked(built("word_lists", MASKS)).stream(chunks)) == "no *** here"


async def test_hooks_follow_one_another() -> None:
    first = built("word_lists", {"blocked_terms": ["one"], "action": "mask"}, name="first")
    second = built("word_lists", {"blocked_patterns": [r"\*\*\* two"], "action": "mask"}, name="second")
    for cut in range(1, 13):
        asked = Asked(first, second)
        assert said(await asked.stream(content(*pieces_of("so one two it", cut)))) == "so *** it"
        assert [(note.binding, note.verdict, note.fields) for note in asked.notes] == [
            ("first", "modify", ["choices[0].content"]),
            ("second", "modify", ["choices[0].content"]),
        ]


class Shouting(Hook[NoSettings]):
    """Knows whole answers only, as most hooks somebody writes will."""

    name = "shouting"
    description = "For tests."

    async def after_call(self, answer: Subject) -> Verdict:
        return edited(Edit(at, 0, len(text.value), text.value.upper()) for at, text in enumerate(answer.texts))


async def test_a_hook_for_whole_answers_holds_a_stream() -> None:
    asked = Asked(bound(Shouting(NoSettings(), Resources())))
    chunks = await asked.stream(content("hello", " there"))
    assert said(chunks) == "HELLO THERE"
    assert [delta["content"] for delta in deltas(chunks) if delta.get("content")] == ["HELLO THERE"]
    check_form(chunks)


class Bad(Hook[NoSettings]):
    """Does what hooks must not."""

    name = "bad"
    description = "For tests."
    streams = Streams.WINDOW
    overlap_characters = 3

    def __init__(self, how: str) -> None:
        super().__init__(NoSettings(), Resources())
        self.how = how
        self.asked = 0

    async def on_chunk(self, window: Window) -> Verdict:
        self.asked += 1
        if self.how == "throws":
            raise ValueError(f"I do not like {window.text}")
        if self.how == "hangs":
            await asyncio.Event().wait()
        answers: dict[str, Any] = {
            "no verdict": "yes",
            "beyond": edited([Edit(0, 0, 10_000, "")]),
            "overlapping": edited([Edit(0, 0, 2, ""), Edit(0, 1, 3, "")]),
            "another text": edited([Edit(1, 0, 1, "")]),
            "half a character": edited([Edit(0, 0, 1, "\ud800")]),
            "no text": edited([Edit(0, 0, 1, None)]),  # type: ignore[arg-type]
            "a body": Verdict(action=ALLOWED.action.MODIFY, body={}),
            "nothing to change": Verdict(action=ALLOWED.action.MODIFY),
        }
        return answers[self.how]


HOW = (
    "throws",
    "hangs",
    "no verdict",
    "beyond",
    "overlapping",
    "another text",
    "half a character",
    "no text",
    "a body",
)


@pytest.mark.parametrize("how", [*HOW, "nothing to change"])
async def test_a_hook_that_fails_on_a_stream(how: str, caplog: pytest.LogCaptureFixture) -> None:
    answer = content("The canary", " sings", " a song")
    hook = Bad(how)
    open_to_all = Asked(bound(hook, fail_open=True, timeout_seconds=0.05))
    chunks = await open_to_all.stream(answer)
    assert said(chunks) == "The canary sings a song" and hook.asked == 1, "it is not asked again in this stream"
    check_form(chunks)
    closed = Asked(bound(Bad(how), timeout_seconds=0.05))
    with pytest.raises(ResponseBlockedError) as refused:
        await closed.stream(answer)
    assert refused.value.details["hook_failed"] is True
    for asked in (open_to_all, closed):
        assert [note.verdict for note in asked.notes] == ["failed"] and asked.notes[0].problem
    assert "canary" not in caplog.text + str([vars(record) for record in caplog.records]) + str(open_to_all.notes)
    assert [record.message for record in caplog.records] == ["hook.failed", "hook.failed"]
