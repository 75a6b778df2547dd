"""Gemini Live behind OpenAI's protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google import genai
from google.genai import types

from tests.fakes.certificates import make_certificate
from tests.fakes.realtime_google import FakeLive, LiveTurn, live_usage
from tests.gateway.money import books_balance
from tests.gateway.realtime.conftest import PCM_SECOND, Speaker, make_speaker, say, until_event
from tests.live import LiveServer


@pytest.fixture(scope="module")
def live() -> Iterator[FakeLive]:
    with FakeLive() as fake:
        yield fake


@pytest.fixture
def speaker(committed: None, live: FakeLive, uvicorn: LiveServer) -> Speaker:
    live.reset()
    return make_speaker(live.base_url, kind="google", secret=live.api_key).known_to(uvicorn)


def test_the_fake_is_what_the_vendors_sdk_takes_for_the_vendor(tmp_path: Path) -> None:
    server, trusting = make_certificate(tmp_path)

    async def talk(live: FakeLive) -> list[types.LiveServerMessage]:
        options = types.HttpOptions(base_url=live.base_url, async_client_args={"ssl": trusting})
        client = genai.Client(api_key=live.api_key, http_options=options, vertexai=False)
        async with client.aio.live.connect(model="gemini-live", config={"response_modalities": ["AUDIO"]}) as session:
            await session.send_client_content(
                turns=types.Content(role="user", parts=[types.Part(text="hello")]), turn_complete=True
            )
            return [message async for message in session.receive()]

    with FakeLive(server) as live:
        live.turns = [LiveTurn(live_usage(prompt={"TEXT": 3}, said={"AUDIO": 9}))]
        heard = asyncio.run(talk(live))
    assert any(message.data for message in heard)
    assert [message.usage_metadata.response_token_count for message in heard if message.usage_metadata] == [9]


def test_a_conversation_in_openais_words(speaker: Speaker, live: FakeLive, uvicorn: LiveServer) -> None:
    """Configured before it begins, a tool called, the connection's end announced: one session for its client."""
    live.turns = [
        LiveTurn(
            live_usage(prompt={"TEXT": 10, "AUDIO": 12}, said={"TEXT": 4}),
            call={"id": "fc-1", "name": "weather", "args": {"city": "Graz"}},
        ),
        LiveTurn(
            live_usage(prompt={"TEXT": 30}, said={"AUDIO": 40}, cached={"TEXT": 20}, loose=25, thoughts=6),
            goes_away=True,
        ),
        LiveTurn(live_usage(prompt={"AUDIO": 50}, said={"AUDIO": 7})),
    ]
    tools = [{"type": "function", "name": "weather", "parameters": {"type": "object"}}]
    hello = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}

    async def talk() -> list[dict[str, Any]]:
        async with speaker.session(uvicorn) as socket:
            wanted = {"type": "realtime", "instructions": "Be brief.", "tools": tools}
            await say(socket, type="session.update", session=wanted)
            told = [await until_event(socket, "session.updated")]
            await say(socket, type="conversation.item.create", item=hello)
            await say(socket, type="response.create")
            called = await until_event(socket, "response.output_item.done")
            told.append(called)
            await until_event(socket, "response.done")
            output = {"type": "function_call_output", "call_id": called["item"]["call_id"], "output": "sunny"}
            await say(socket, type="conversation.item.create", item=output)
            told.append(await until_event(socket, "response.output_audio_transcript.delta"))
            await until_event(socket, "response.done")
            await say(socket, type="input_audio_buffer.append", audio=PCM_SECOND)
            await say(socket, type="input_audio_buffer.commit")
            await until_event(socket, "response.done")
            await say(socket, type="session.update", session={"instructions": "Be long."})
            told.append(await until_event(socket, "error"))
            await say(socket, type="session.close")
            told.append(await until_event(socket, "session.closed"))
            return told

    updated, called, transcript, late, closed = asyncio.run(talk())
    assert updated["session"]["instructions"] == "Be brief."
    assert (called["item"]["name"], called["item"]["arguments"]) == ("weather", '{"city":"Graz"}')
    assert transcript["delta"] == "hello" and late["error"]["code"] == "session_has_begun"
    first, second, third = live.connections
    assert (
        "systemInstruction" not in first.setup and second.setup["systemInstruction"]["parts"][0]["text"] == "Be brief."
    )
    assert second.setup["tools"][0]["functionDeclarations"][0]["name"] == "weather"
    assert second.received[-1]["toolResponse"]["functionResponses"][0]["name"] == "weather"
    assert third.setup["sessionResumption"] == {"handle": "handle-2"}
    assert third.received[0]["realtimeInput"]["audio"]["mimeType"] == "audio/pcm;rate=24000"

    charges = speaker.charges()
    micro = [10 * 4 + 12 * 32 + 4 * 24, 35 * 4 + 20 * 0.4 + 6 * 24 + 40 * 64, 50 * 32 + 7 * 64]
    assert [charge.cost_nano_usd for charge in charges] == [int(cost * 1000) for cost in micro]
    assert {charge.usage_source for charge in charges} == {"provider_final"}
    assert closed["usage"]["responses"] == 3
    books_balance()
