"""The official SDK's realtime client, unmodified: against the gateway and, to prove the fake, straight at that."""

from __future__ import annotations

import asyncio

import pytest
from openai import AsyncOpenAI

from tests.fakes.realtime_openai import FakeRealtime, Turn, usage
from tests.gateway.conftest import wait_for_models
from tests.gateway.realtime.conftest import PCM_SECOND, Speaker, event, make_speaker, say, until_event
from tests.live import LiveServer


async def converse(base_url: str, key: str, model: str) -> tuple[list[str], int | None]:
    """One spoken turn; the types of what came, and the tokens said."""
    async with (
        AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0) as client,
        client.realtime.connect(model=model) as connection,
    ):
        kinds: list[str] = []
        await connection.session.update(
            session={"type": "realtime", "instructions": "Be brief.", "output_modalities": ["audio"]}
        )
        await connection.input_audio_buffer.append(audio=PCM_SECOND)
        await connection.input_audio_buffer.commit()
        await connection.response.create()
        async for told in connection:
            kinds.append(told.type)
            if told.type == "response.done":
                assert told.response.usage is not None
                return kinds, told.response.usage.output_tokens
    raise AssertionError("The session ended early.")


@pytest.mark.parametrize("through", ["fake", "gateway"])
def test_the_python_sdk_converses(speaker: Speaker, voice: FakeRealtime, uvicorn: LiveServer, through: str) -> None:
    voice.turns = [Turn(usage=usage(text_out=5, audio_out=40))]
    if through == "fake":
        kinds, said = asyncio.run(converse(voice.base_url, voice.api_key, "gpt-realtime-2"))
    else:
        kinds, said = asyncio.run(converse(uvicorn.base_url, speaker.key, speaker.model.name))
        assert len(speaker.charges()) == 1
    assert said == 45
    assert kinds[:3] == ["session.created", "session.updated", "input_audio_buffer.committed"]
    assert "response.output_audio.delta" in kinds


def test_the_python_sdk_talks_to_the_mock(committed: None, uvicorn: LiveServer) -> None:
    speaker = make_speaker("mock://local", kind="mock").known_to(uvicorn)
    kinds, said = asyncio.run(converse(uvicorn.base_url, speaker.key, speaker.model.name))
    assert said and "response.output_audio_transcript.delta" in kinds and len(speaker.charges()) == 1


def test_under_daphne_too(
    speaker: Speaker, voice: FakeRealtime, servers: dict[str, LiveServer], uvicorn: LiveServer
) -> None:
    """A conversation and its summary; a refusal is a 403 whatever the reason, which is all that daphne can."""
    daphne = servers["daphne"]
    wait_for_models(daphne, speaker.key, speaker.model.name)
    voice.turns = [Turn(usage=usage())]

    async def talk() -> int | None:
        async with speaker.session(daphne) as socket:
            await say(socket, type="response.create")
            await until_event(socket, "response.done")
            await say(socket, type="session.close")
            assert (await until_event(socket, "session.closed"))["usage"]["responses"] == 1
            await socket.wait_closed()
            return socket.close_code

    async def knock() -> str:
        offered = ["realtime", "openai-insecure-api-key.bsr_live_nonsense"]
        knocking = speaker.connect(daphne, subprotocols=offered)
        knocking.additional_headers = {}
        async with knocking as socket:
            return str((await event(socket))["error"]["code"])

    assert asyncio.run(talk()) == 1000
    assert asyncio.run(knock()) == "invalid_api_key"
    (row,) = speaker.closed()
    assert row.cost_nano_usd == speaker.cost()
