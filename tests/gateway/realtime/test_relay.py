"""A conversation from end to end: what passes, what is summed up, what a client may not ask for."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests import factories
from tests.fakes.realtime_openai import FakeRealtime, Turn, usage
from tests.gateway.money import books_balance
from tests.gateway.realtime.conftest import PCM_SECOND, Speaker, event, make_speaker, say, until_event
from tests.live import LiveServer


def test_a_conversation_is_relayed_and_summed_up(speaker: Speaker, voice: FakeRealtime, uvicorn: LiveServer) -> None:
    voice.turns = [Turn(usage=usage(), deltas=3), Turn(usage=usage(text_in=100, cached=(90, 0, 0)))]

    async def talk() -> dict[str, Any]:
        async with speaker.session(uvicorn) as socket:
            for _ in range(2):
                await say(socket, type="input_audio_buffer.append", audio=PCM_SECOND)
                await say(socket, type="input_audio_buffer.commit")
                await say(socket, type="response.create")
                done = await until_event(socket, "response.done")
                assert done["response"]["status"] == "completed"
            await say(socket, type="session.close")
            closed = await until_event(socket, "session.closed")
            await socket.wait_closed()
            assert socket.close_code == 1000
            return closed

    closed = asyncio.run(talk())
    assert closed["reason"] == "client_close" and closed["usage"]["responses"] == 2
    (row,) = speaker.closed()
    assert (row.reason, row.close_code, row.usage) == ("client_close", 1000, closed["usage"])
    assert row.cost_nano_usd == speaker.cost() > 0
    (seen,) = voice.connections
    assert seen.headers["authorization"] == f"Bearer {voice.api_key}" and "model=gpt-realtime-2" in seen.path
    assert seen.types() == ["input_audio_buffer.append", "input_audio_buffer.commit", "response.create"] * 2
    books_balance()

    with uvicorn.client(speaker.key) as client:
        found = client.get(f"/realtime/sessions/{row.pk}").json()
        assert (found["status"], found["usage"], found["reason"]) == ("closed", closed["usage"], "client_close")
        assert [one["id"] for one in client.get("/realtime/sessions").json()["data"]] == [row.pk]
    outsider = factories.make_key(factories.make_tenant())[1]
    with uvicorn.client(outsider) as client:
        refused = client.get(f"/realtime/sessions/{row.pk}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "realtime_session_not_found")
        assert client.get("/realtime/sessions").json()["data"] == []


def test_the_mock_talks_offline(committed: None, uvicorn: LiveServer) -> None:
    speaker = make_speaker("mock://local", kind="mock").known_to(uvicorn)

    async def talk() -> list[dict[str, Any]]:
        async with speaker.session(uvicorn) as socket:
            loud, silence = "AHA/" * 16_000, "AAAA" * 16_000
            await say(socket, type="input_audio_buffer.append", audio=loud)
            await say(socket, type="input_audio_buffer.append", audio=silence)
            spoken = await until_event(socket, "response.done")
            tools = [{"type": "function", "name": "weather", "parameters": {"type": "object"}}]
            await say(socket, type="session.update", session={"type": "realtime", "tools": tools})
            asked = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "the weather?"}]}
            await say(socket, type="conversation.item.create", item=asked)
            await say(socket, type="response.create")
            called = await until_event(socket, "response.function_call_arguments.done")
            await until_event(socket, "response.done")
            await say(socket, type="session.close")
            return [spoken, called, await until_event(socket, "session.closed")]

    spoken, called, closed = asyncio.run(talk())
    assert spoken["response"]["usage"]["output_token_details"]["audio_tokens"] > 0
    assert called["arguments"] == "{}"
    assert closed["usage"]["responses"] == 2 and closed["usage"]["input"]["cached_audio"] > 0
    assert len(speaker.charges()) == 2


UPDATES: list[tuple[dict[str, Any], str]] = [
    ({"type": "realtime", "tools": [{"type": "mcp", "server_url": "http://evil"}]}, "session.tools[0]"),
    ({"type": "realtime", "prompt": {"id": "pmpt_1"}}, "session.prompt"),
    ({"type": "realtime", "tracing": "auto"}, "session.tracing"),
    ({"type": "translation"}, "session.type"),
    ({"type": "realtime", "max_output_tokens": -1}, "session.max_output_tokens"),
    (
        {"type": "realtime", "audio": {"input": {"transcription": {"model": "whisper"}}}},
        "session.audio.input.transcription.model",
    ),
]


def test_what_is_not_relayed_is_refused_and_the_session_goes_on(
    speaker: Speaker, voice: FakeRealtime, uvicorn: LiveServer
) -> None:
    async def talk() -> None:
        async with speaker.session(uvicorn) as socket:
            for number, (session, param) in enumerate(UPDATES):
                await say(socket, type="session.update", event_id=f"e{number}", session=session)
                told = await event(socket)
                assert (told["type"], told["error"]["param"], told["error"]["event_id"]) == (
                    "error",
                    param,
                    f"e{number}",
                )
            for text in ('{"type":"a","type":"b"}', "[]", "nonsense", '{"type":"x","a":{"b":1,"b":2}}', '{"type":1}'):
                await socket.send(text)
                assert (await event(socket))["error"]["code"] == "validation_error"
            await say(socket, type="session.update", session={"type": "realtime", "model": speaker.model.name})
            assert (await event(socket))["session"]["model"] == speaker.model.name

    asyncio.run(talk())
    (seen,) = voice.connections
    assert [told["session"]["model"] for told in seen.received] == ["gpt-realtime-2"]


def test_a_swap_of_the_model_ends_the_session(speaker: Speaker, voice: FakeRealtime, uvicorn: LiveServer) -> None:
    async def talk() -> int | None:
        async with speaker.session(uvicorn) as socket:
            await say(socket, type="session.update", session={"type": "realtime", "model": "gpt-dearest"})
            assert (await event(socket))["error"]["code"] == "model_not_approved"
            assert (await event(socket))["reason"] == "policy"
            await socket.wait_closed()
            return socket.close_code

    assert asyncio.run(talk()) == 1008
    assert voice.connections[0].received == []


def test_a_flood_ends_the_session(speaker: Speaker, uvicorn: LiveServer) -> None:
    async def talk() -> int | None:
        async with speaker.session(uvicorn) as socket:
            frame = json.dumps({"type": "input_audio_buffer.append", "audio": "AAAA"})
            with contextlib.suppress(ConnectionClosed):
                for _ in range(20_000):
                    await socket.send(frame)
            await socket.wait_closed()
            return socket.close_code

    assert asyncio.run(talk()) == 1008
    assert speaker.closed()[0].reason == "policy"


def test_a_frame_may_be_as_large_as_openai_takes_it_and_no_larger(
    speaker: Speaker, voice: FakeRealtime, uvicorn: LiveServer
) -> None:
    async def talk() -> int | None:
        async with speaker.session(uvicorn) as socket:
            await say(socket, type="input_audio_buffer.append", audio="A" * (15 * 1024 * 1024))
            await say(socket, type="input_audio_buffer.commit")
            await until_event(socket, "input_audio_buffer.committed")
            with contextlib.suppress(ConnectionClosed):
                await say(socket, type="input_audio_buffer.append", audio="A" * (17 * 1024 * 1024))
            await socket.wait_closed()
            return socket.close_code

    assert asyncio.run(talk()) == 1009
    appended, _committed = voice.connections[-1].received
    assert len(appended["audio"]) == 15 * 1024 * 1024
    assert len(speaker.closed()) == 1


@pytest.mark.parametrize("code", [4001, 1011, 0])
def test_a_provider_that_drops_the_session(
    speaker: Speaker, voice: FakeRealtime, uvicorn: LiveServer, code: int
) -> None:
    voice.turns = [Turn(usage=usage(), deltas=10, drop=code)]

    async def talk() -> tuple[list[dict[str, Any]], ClientConnection]:
        async with speaker.session(uvicorn) as socket:
            await say(socket, type="response.create")
            told = [await until_event(socket, "error"), await until_event(socket, "session.closed")]
            await socket.wait_closed()
            return told, socket

    (error, closed), socket = asyncio.run(talk())
    assert error["error"]["code"] == "provider_error" and closed["reason"] == "provider_closed"
    assert socket.close_code == (4001 if code == 4001 else 1011) and "secret" not in (socket.close_reason or "")
    (charge,) = speaker.charges()
    assert (charge.usage_source, charge.ending) == ("local_count", "failed")
    assert (
        closed["usage"]["usage_source"] == "local_count" and speaker.closed()[0].cost_nano_usd == charge.cost_nano_usd
    )
    books_balance()
