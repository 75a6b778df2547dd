"""The hooks of a session, event by event and in this process: at every split, and wherever a text is told again."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.errors import RequestBlockedError
from gateway.hooks.base import Hook, HookError, NoSettings, Resources, Streams, Subject, Verdict, blocked
from gateway.hooks.selectors import BoundHook
from gateway.realtime import screening
from gateway.realtime.screening import Heard, Screen
from providers.realtime.types import ServerEvent
from tests.gateway.hooks.asking import Asked, bound, built

MASKS = {"blocked_terms": ["zebra crossing", "secret"], "action": "mask"}
TEXT = "A secret at the zebra crossing, secretly."
MASKED = "A *** at the ***, secretly."
PLACE = {"response_id": "r", "item_id": "i", "output_index": 0, "content_index": 0}
TRANSCRIPT = "response.output_audio_transcript"
ARGUMENTS = "response.function_call_arguments"


class Ear:
    """A screen with hooks, and what a client of it has heard."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *hooks: BoundHook) -> None:
        self.asked = Asked(*hooks)
        monkeypatch.setattr(screening, "hooks_of", lambda *_call, **_more: self.asked.hooks)
        call: Any = SimpleNamespace(caller=SimpleNamespace(hooks=hooks))
        nothing: Any = None
        self.screen = Screen(nothing, call, trace=self.asked.trace, target=nothing)
        self.told: list[dict[str, Any]] = []
        self.heard: list[Heard] = []

    async def hear(self, kind: str, **members: Any) -> None:
        event = {"type": kind, **members}
        heard = await self.screen.heard(ServerEvent(text=json.dumps(event), event=event))
        self.heard.append(heard)
        for told in heard.events:
            assert json.loads(told.text) == told.event
            self.told.append(told.event)

    async def speak(self, *pieces: str, is_told_again: bool = True, response: str = "r") -> None:
        place = {**PLACE, "response_id": response}
        whole = "".join(pieces)
        part = {"type": "output_audio", "transcript": whole}
        item = {"id": "i", "type": "message", "role": "assistant", "content": [part]}
        await self.hear("response.created", response={"id": response})
        for piece in pieces:
            await self.hear(f"{TRANSCRIPT}.delta", delta=piece, **place)
        await self.hear("response.output_audio.delta", delta="AAAA", **place)
        if is_told_again:
            await self.hear(f"{TRANSCRIPT}.done", transcript=whole, **place)
            await self.hear("response.content_part.done", part=dict(part), **place)
            await self.hear("conversation.item.done", item=json.loads(json.dumps(item)))
            await self.hear("response.output_item.done", response_id=response, item=json.loads(json.dumps(item)))
        await self.hear("response.done", response={"id": response, "status": "completed", "output": [item]})

    def said(self, kind: str = TRANSCRIPT) -> str:
        return "".join(event["delta"] for event in self.told if event["type"] == f"{kind}.delta")

    @property
    def refusals(self) -> list[str]:
        return [heard.refusal.code for heard in self.heard if heard.refusal is not None]


@pytest.mark.parametrize("is_told_again", [True, False], ids=["openai", "google"])
async def test_every_telling_of_a_text_is_the_judged_one(monkeypatch: pytest.MonkeyPatch, is_told_again: bool) -> None:
    for cut in range(1, len(TEXT)):
        ear = Ear(monkeypatch, built("word_lists", MASKS))
        await ear.speak(TEXT[:cut], TEXT[cut:], is_told_again=is_told_again)
        assert ear.said() == MASKED
        assert "secret " not in json.dumps(ear.told) and "zebra" not in json.dumps(ear.told)
        assert ear.told[-1]["response"]["output"][0]["content"][0]["transcript"] == MASKED
        assert len(ear.told) >= (7 if is_told_again else 4) and not ear.refusals


class Holding(Hook[NoSettings]):
    """Has a word for whole answers only."""

    name = "holding"
    streams = Streams.HOLD

    async def after_call(self, answer: Subject) -> Verdict:
        if "broken" in answer.texts[0].value:
            raise HookError("It is broken.")
        return blocked("no") if "bad" in answer.texts[0].value else await super().after_call(answer)


def holding(**options: Any) -> BoundHook:
    return bound(Holding(NoSettings(), Resources()), **options)


async def test_what_is_held_comes_at_the_end_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    good = Ear(monkeypatch, holding())
    await good.speak("All ", "is ", "well.")
    kinds = [event["type"] for event in good.told]
    assert good.said() == "All is well." and kinds.count(f"{TRANSCRIPT}.delta") == 1
    bad = Ear(monkeypatch, holding())
    await bad.speak("All ", "is ", "bad.")
    assert bad.refusals == ["response_blocked"] and bad.said() == ""
    done = bad.told[-1]["response"]
    assert (done["status"], done["output"]) == ("incomplete", []) and "bad" not in json.dumps(bad.told)


async def test_a_hook_that_fails_is_what_its_binding_says(monkeypatch: pytest.MonkeyPatch) -> None:
    shut = Ear(monkeypatch, holding())
    await shut.speak("It is ", "broken.")
    assert shut.refusals == ["response_blocked"] and shut.said() == ""
    open_ = Ear(monkeypatch, holding(fail_open=True))
    await open_.speak("It is ", "broken.")
    assert not open_.refusals and open_.said() == "It is broken."


async def test_arguments_of_tools_are_put_back_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    ear = Ear(monkeypatch, built("pii_redaction", {"names": ['Ann "Nan" Lee']}))
    content = [{"type": "input_text", "text": 'Ann "Nan" Lee'}]
    written = {"type": "conversation.item.create", "item": {"content": content}}
    assert await ear.screen.asked(written)
    placeholder = content[0]["text"]
    arguments = json.dumps({"name": placeholder})
    item = {"id": "i", "type": "function_call", "name": "find", "arguments": arguments}
    await ear.hear("response.created", response={"id": "r"})
    for at in range(0, len(arguments), 3):
        await ear.hear(f"{ARGUMENTS}.delta", delta=arguments[at : at + 3], **PLACE)
    await ear.hear(f"{ARGUMENTS}.done", arguments=arguments, **PLACE)
    await ear.hear("response.output_item.done", response_id="r", item=item)
    await ear.hear("response.done", response={"id": "r", "status": "completed", "output": []})
    assert json.loads(ear.said(ARGUMENTS)) == {"name": 'Ann "Nan" Lee'}
    found = next(event for event in ear.told if event["type"] == "response.output_item.done")["item"]
    assert json.loads(found["arguments"]) == {"name": 'Ann "Nan" Lee'}


async def test_arguments_that_come_at_once_are_judged_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gemini's."""
    ear = Ear(monkeypatch, built("word_lists", {"blocked_terms": ["secret"]}))
    await ear.hear("response.created", response={"id": "r"})
    await ear.hear(f"{ARGUMENTS}.done", arguments='{"a": "secret"}', **PLACE)
    item = {"id": "i", "type": "function_call", "arguments": '{"a": "secret"}'}
    await ear.hear("response.output_item.done", response_id="r", item=item)
    await ear.hear("response.done", response={"id": "r", "status": "completed", "output": [item]})
    assert ear.refusals == ["response_blocked"] and "secret" not in json.dumps(ear.told)


async def test_an_item_that_is_looked_up_is_judged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ear = Ear(monkeypatch, built("word_lists", MASKS))
    content = [{"type": "output_audio", "transcript": TEXT, "audio": "AAAA"}]
    await ear.hear("conversation.item.retrieved", item={"id": "x", "role": "assistant", "content": content})
    assert ear.told[0]["item"]["content"][0] == {"type": "output_audio", "transcript": MASKED, "audio": "AAAA"}
    strict = Ear(monkeypatch, built("word_lists", {"blocked_terms": ["secret"]}))
    content = [{"type": "output_audio", "transcript": TEXT}]
    await strict.hear("conversation.item.retrieved", item={"id": "x", "role": "assistant", "content": content})
    assert strict.refusals == ["response_blocked"] and strict.told[0]["item"]["content"] == []


async def test_names_media_and_what_the_gateway_decides_on_are_no_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    ear = Ear(monkeypatch, built("word_lists", {"blocked_terms": ["secret"]}))
    tool = {"type": "function", "name": "secret", "description": "d", "parameters": {"type": "object"}}
    session = {"type": "realtime", "model": "secret", "output_modalities": ["secret"], "tools": [tool]}
    assert not await ear.screen.asked({"type": "session.update", "event_id": "secret", "session": session})
    content = [{"type": "input_audio", "audio": "secret"}, {"type": "input_image", "image_url": "data:secret"}]
    assert not await ear.screen.asked(
        {"type": "conversation.item.create", "item": {"id": "secret", "content": content}}
    )
    tool["description"] = "a secret"
    with pytest.raises(RequestBlockedError):
        await ear.screen.asked({"type": "session.update", "session": session})


async def test_a_long_session_leaves_a_line_for_each_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    ear = Ear(monkeypatch, built("word_lists", MASKS))
    for number in range(50):
        await ear.screen.asked({"type": "response.create", "response": {"instructions": "a secret"}})
        await ear.speak("Nothing.", response=f"r{number}")
    notes = {(note.stage, note.verdict) for note in ear.asked.notes}
    assert notes == {("before_call", "modify"), ("on_chunk", "allow")} and len(ear.asked.notes) == 2
