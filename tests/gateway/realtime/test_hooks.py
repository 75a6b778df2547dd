"""Hooks on voice sessions, and what stays of a session: what is blocked, what is changed, what is told of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.audit.kept_texts import read
from gateway.hooks.models import HookBinding
from gateway.models import KeptText, RequestRecord
from tenants.models import AuditEvent
from tests import factories
from tests.fakes.realtime_openai import FakeRealtime, Turn, usage
from tests.gateway.conftest import wait_for_models
from tests.gateway.money import books_balance
from tests.gateway.realtime.conftest import Speaker, event, make_speaker, say, until_event
from tests.live import LiveServer, until

EMAIL = "canary.person@secret.example"
SWORD = {"blocked_terms": ["sword"]}


@pytest.fixture
def nobody(committed: None, voice: FakeRealtime) -> Speaker:
    """A tenant that no process has seen yet: what is bound before its first call holds from that on."""
    voice.reset()
    return make_speaker(voice.base_url, secret=voice.api_key)


def governed(speaker: Speaker, server: LiveServer, hook: str, settings: dict[str, Any]) -> Speaker:
    row = HookBinding(tenant=speaker.tenant, name=hook, hook=hook, settings=settings)
    row.full_clean()
    row.save()
    return seen_by(server, speaker)


def seen_by(server: LiveServer, speaker: Speaker) -> Speaker:
    """Once the server knows all that was changed before this."""
    newest = factories.make_model(speaker.provider, capabilities=("transcription",), prices={"seconds": "1"})
    factories.approve(speaker.tenant, newest)
    wait_for_models(server, speaker.key, newest.name)
    return speaker


def item(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def record_of(speaker: Speaker) -> RequestRecord:
    record: RequestRecord = until(RequestRecord.objects.filter(tenant=speaker.tenant).first, what="the session's row")
    return record


async def told_until_closed(socket: Any) -> list[dict[str, Any]]:
    """End the session; all that came meanwhile."""
    await say(socket, type="session.close")
    told = []
    while not told or told[-1]["type"] != "session.closed":
        told.append(await event(socket))
    return told


def test_what_a_client_writes_is_judged_before_the_model_reads_it(
    nobody: Speaker, voice: FakeRealtime, uvicorn: LiveServer
) -> None:
    speaker = governed(nobody, uvicorn, "word_lists", SWORD)

    async def talk() -> list[dict[str, Any]]:
        async with speaker.session(uvicorn) as socket:
            session = {"type": "realtime", "instructions": "Speak of the sword."}
            await say(socket, type="session.update", event_id="e1", session=session)
            await say(socket, type="conversation.item.create", event_id="e2", item=item("A sword, please."))
            await say(socket, type="response.create", event_id="e3", response={"instructions": "Say sword."})
            refused = [await event(socket) for _ in range(3)]
            await say(socket, type="conversation.item.create", item=item("A swordfish, please."))
            await until_event(socket, "conversation.item.added")
            await told_until_closed(socket)
            return refused

    refused = asyncio.run(talk())
    errors = [(told["type"], told["error"]["code"], told["error"]["event_id"]) for told in refused]
    assert errors == [("error", "request_blocked", number) for number in ("e1", "e2", "e3")]
    assert [told["item"]["content"][0]["text"] for told in voice.connections[-1].received] == ["A swordfish, please."]
    (note,) = record_of(speaker).hooks
    assert (note["binding"], note["stage"], note["verdict"]) == ("word_lists", "before_call", "block")


def test_what_a_client_secret_prescribes_is_judged_too(
    nobody: Speaker, voice: FakeRealtime, uvicorn: LiveServer
) -> None:
    speaker = governed(nobody, uvicorn, "word_lists", SWORD)
    session = {"type": "realtime", "model": speaker.model.name, "instructions": "Speak of the sword."}
    with uvicorn.client(speaker.key) as client:
        secret = client.post("/realtime/client_secrets", json={"session": session}).json()["value"]

    async def talk() -> list[dict[str, Any]]:
        async with speaker.session(uvicorn, key=secret, query="?") as socket:
            return [await event(socket), await event(socket)]

    error, closed = asyncio.run(talk())
    assert (error["error"]["code"], closed["reason"]) == ("request_blocked", "policy")
    assert voice.connections[-1].received == []


def test_redacted_data_comes_back_to_its_client_alone(
    nobody: Speaker, voice: FakeRealtime, uvicorn: LiveServer
) -> None:
    """The placeholder comes in pieces, and once more wherever the vendor tells the whole text."""
    speaker = governed(nobody, uvicorn, "pii_redaction", {})
    voice.turns = [Turn(usage=usage(), deltas=4, pieces=("I write to [EMA", "IL_1", "] now", "."))]

    async def talk() -> list[dict[str, Any]]:
        async with speaker.session(uvicorn) as socket:
            await say(socket, type="conversation.item.create", item=item(f"Write to {EMAIL}."))
            await say(socket, type="response.create")
            told = []
            while not told or told[-1]["type"] != "response.done":
                told.append(await event(socket))
            return told

    told = asyncio.run(talk())
    written = voice.connections[-1].received[0]["item"]["content"][0]["text"]
    assert written == "Write to [EMAIL_1]."
    pieces = [one["delta"] for one in told if one["type"] == "response.output_audio_transcript.delta"]
    assert "".join(pieces) == f"I write to {EMAIL} now."
    places = [
        next(one for one in told if one["type"] == "response.output_audio_transcript.done")["transcript"],
        next(one for one in told if one["type"] == "response.output_item.done")["item"]["content"][0]["transcript"],
        told[-1]["response"]["output"][0]["content"][0]["transcript"],
    ]
    assert set(places) == {f"I write to {EMAIL} now."}
    assert len([one for one in told if one["type"] == "response.output_audio.delta"]) == 4


@pytest.mark.parametrize("still_speaking", [True, False], ids=["cancelled", "at its end"])
def test_an_answer_that_is_blocked_ends_and_is_paid(
    nobody: Speaker, voice: FakeRealtime, uvicorn: LiveServer, still_speaking: bool
) -> None:
    """The word comes in two pieces. What was heard of the voice by then cannot be taken back, the rest is not sent."""
    speaker = governed(nobody, uvicorn, "word_lists", SWORD)
    pieces = ("The ", "swo", "rd ", *["and so on "] * 20) if still_speaking else ("The ", "swo", "rd")
    deltas = 400 if still_speaking else 3
    voice.turns = [Turn(usage=usage(), deltas=deltas, pieces=pieces, pace_seconds=0.01, cancelled_usage=usage())]

    async def talk() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        async with speaker.session(uvicorn) as socket:
            await say(socket, type="response.create")
            told = []
            while not told or told[-1]["type"] != "response.done":
                told.append(await event(socket))
            return told, await told_until_closed(socket)

    told, after = asyncio.run(talk())
    (error,) = [one["error"] for one in told if one["type"] == "error"]
    assert error["code"] == "response_blocked"
    response = told[-1]["response"]
    assert (response["status"], response["status_details"]["reason"]) == ("incomplete", "content_filter")
    assert response["output"] == [] and "sword" not in json.dumps([told, after])
    assert "swo" not in "".join(one.get("delta", "") for one in told if "transcript" in one["type"])
    heard = len([one for one in told if one["type"] == "response.output_audio.delta"])
    assert heard < 100 and ("response.cancel" in voice.connections[-1].types() or not still_speaking)
    (charge,) = speaker.charges()
    assert charge.usage_source == "provider_final" and after[-1]["reason"] == "client_close"
    note = record_of(speaker).hooks[-1]
    assert (note["stage"], note["verdict"]) == ("on_chunk", "block")
    books_balance()


def test_what_is_understood_of_a_voice_is_judged(nobody: Speaker, voice: FakeRealtime, uvicorn: LiveServer) -> None:
    """The model has heard it already, so it is taken out of the conversation."""
    scribe = factories.make_model(
        nobody.provider, capabilities=("transcription",), prices={"seconds": "1"}, upstream_model="scribe"
    )
    factories.approve(nobody.tenant, scribe)
    speaker = governed(nobody, uvicorn, "word_lists", SWORD)
    voice.transcription_usage, voice.transcript = {"type": "duration", "seconds": 1}, "Give me the sword"

    async def talk() -> list[dict[str, Any]]:
        async with speaker.session(uvicorn) as socket:
            heard = {"input": {"transcription": {"model": scribe.name}}}
            await say(socket, type="session.update", session={"type": "realtime", "audio": heard})
            await say(socket, type="input_audio_buffer.append", audio="AAAA" * 4000)
            await say(socket, type="input_audio_buffer.commit")
            kind = "conversation.item.input_audio_transcription.completed"
            told = [await until_event(socket, "error"), await until_event(socket, kind)]
            await told_until_closed(socket)
            return told

    error, transcribed = asyncio.run(talk())
    assert (error["error"]["code"], transcribed["transcript"]) == ("request_blocked", "")
    deleted = voice.connections[-1].received[-1]
    assert (deleted["type"], deleted["item_id"]) == ("conversation.item.delete", transcribed["item_id"])


def test_a_session_is_on_the_audit_log_and_its_texts_are_kept(
    nobody: Speaker, voice: FakeRealtime, uvicorn: LiveServer
) -> None:
    nobody.tenant.keep_text_days = 7
    nobody.tenant.save()
    speaker = seen_by(uvicorn, nobody)
    voice.turns = [Turn(usage=usage(), deltas=1, pieces=("An answer",))]

    async def talk() -> str:
        async with speaker.session(uvicorn) as socket:
            await say(socket, type="conversation.item.create", item=item("A question"))
            await say(socket, type="input_audio_buffer.append", audio="AAAA")
            await say(socket, type="response.create")
            await until_event(socket, "response.done")
            return str((await told_until_closed(socket))[-1]["session"]["id"])

    session_id = asyncio.run(talk())
    events = AuditEvent.objects.filter(object_id=session_id).order_by("sequence")
    until(lambda: events.count() == 2, what="its events")
    begun, ended = events
    assert (begun.event, ended.event) == ("request.started", "request.completed")
    assert (begun.details["operation"], begun.actor_kind) == ("realtime", "key")
    (charge,) = speaker.charges()
    assert (ended.details["status"], ended.details["cost_nano_usd"]) == (101, charge.cost_nano_usd)
    assert ended.details["input_tokens"] == charge.input_tokens > 0
    kept: KeptText = until(KeptText.objects.filter(request_id=session_id).first, what="its texts")
    opened = read(kept)
    assert "A question" in opened.request and "AAAA" not in opened.request and "An answer" in opened.answer
    assert ended.details["text_sha256"] == opened.digest
    (line,) = until(
        lambda: [line for line in uvicorn.call_lines() if line["request_id"] == session_id], what="its line"
    )
    assert (line["operation"], line["status"], line["input_tokens"]) == ("realtime", 101, charge.input_tokens)


def test_a_session_that_is_cut_off_is_blocked_on_the_audit_log(
    speaker: Speaker, voice: FakeRealtime, uvicorn: LiveServer
) -> None:
    async def talk() -> None:
        async with speaker.session(uvicorn) as socket:
            await say(socket, type="session.update", session={"type": "realtime", "model": "gpt-dearest"})
            await until_event(socket, "session.closed")

    asyncio.run(talk())
    ended = AuditEvent.objects.filter(tenant=speaker.tenant, object_type="request", event="request.blocked")
    assert until(ended.first, what="its end").details["error_code"] == "policy"
    assert record_of(speaker).error_code == "policy"
