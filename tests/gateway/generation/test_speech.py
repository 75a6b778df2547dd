"""Text to speech, by the official SDK (S1.7)."""

from __future__ import annotations

import base64
import io
import wave
from typing import Any

import httpx
import openai
import orjson
import pytest

from tests.fakes.openai.media import WORD_PCM, spoken
from tests.fakes.openai.scripts import Script
from tests.gateway.generation.studio import Studio, content_of, file_of
from tests.live import LiveServer, until

SAY: Any = {"voice": "alloy", "input": "one two three"}
PCM = b"".join(spoken({"input": SAY["input"], "response_format": "pcm"}))


def test_bytes_as_they_come_with_an_exact_bill(studio: Studio, gallery: LiveServer) -> None:
    sdk = studio.sdk(gallery)
    with sdk.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", response_format="pcm", **SAY
    ) as answer:
        assert answer.headers["content-type"] == "audio/pcm"
        file_id = answer.headers["x-gateway-file-id"]
        assert b"".join(answer.iter_bytes()) == PCM
    charge = studio.charge("gpt-4o-mini-tts")
    assert charge.units == {"input": 3, "audio_output": 30, "characters": 13}
    assert (charge.usage_source, charge.cost_nano_usd) == ("provider_final", 3 * 600 + 30 * 12_000)
    assert studio.held("gpt-4o-mini-tts") >= charge.cost_nano_usd
    assert studio.openai.records[0].body["stream_format"] == "sse"
    assert until(lambda: content_of(file_id), what="the kept sound") == PCM


def test_the_first_byte_does_not_wait_for_the_last(studio: Studio, gallery: LiveServer) -> None:
    sdk = studio.sdk(gallery)
    studio.openai.script(Script(fault="hold", fault_after_events=1), path="/v1/audio/speech")
    with sdk.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", response_format="pcm", **SAY
    ) as answer:
        pieces = answer.iter_bytes()
        first = next(pieces)
        assert studio.openai.counters.held == 1
        studio.openai.release()
        assert first + b"".join(pieces) == PCM


@pytest.mark.parametrize(
    ("model", "units", "cost"),
    [("tts-1", {"characters": 13}, 13 * 15_000), ("tts-by-seconds", {"characters": 13, "seconds": 1}, 200_000)],
)
def test_prices_by_character_and_second(
    studio: Studio, gallery: LiveServer, model: str, units: dict[str, int], cost: int
) -> None:
    sound = studio.sdk(gallery).audio.speech.create(model=model, response_format="wav", **SAY)
    assert len(sound.content) == 44 + 3 * WORD_PCM
    charge = studio.charge(model)
    assert {name: charge.units.get(name) for name in units} == units
    assert (charge.usage_source, charge.cost_nano_usd) == ("local_count", cost)
    assert "stream_format" not in studio.openai.records[0].body


def test_a_url_when_asked(studio: Studio, gallery: LiveServer) -> None:
    sdk = studio.sdk(gallery)
    answer: Any = orjson.loads(
        sdk.audio.speech.create(
            model="gpt-4o-mini-tts", response_format="wav", extra_body={"stream_format": "url"}, **SAY
        ).content
    )
    assert answer["object"] == "audio.speech" and answer["duration_seconds"] == 1
    with wave.open(io.BytesIO(file_of(answer["url"]))) as sound:  # its length is in its head by now
        assert sound.getnframes() * 2 == len(PCM)
    assert answer["usage"]["output_tokens"] == 30


@pytest.mark.parametrize("model", ["gpt-4o-mini-tts", "gemini-3-tts", "mock-speech"])
def test_events(studio: Studio, gallery: LiveServer, model: str) -> None:
    sdk = studio.sdk(gallery)
    text = sdk.audio.speech.create(model=model, response_format="pcm", stream_format="sse", **SAY).text
    events = [orjson.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]
    assert [event["type"] for event in events[-2:]] == ["speech.audio.delta", "speech.audio.done"]
    sound = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert file_of(events[-1]["url"]) == sound and len(sound) == 3 * WORD_PCM
    assert events[-1]["usage"]["input_tokens"] > 0


def test_gemini_speaks_wav(studio: Studio, gallery: LiveServer) -> None:
    sdk = studio.sdk(gallery)
    sound = sdk.audio.speech.create(model="gemini-3-tts", instructions="Whisper.", **SAY).content
    assert sound[:4] == b"RIFF" and len(sound) == 44 + 4 * WORD_PCM  # the instructions are read with the text
    charge = studio.charge("gemini-3-tts")
    assert charge.units == {"input": 4, "audio_output": 20, "characters": 13, "seconds": 1}
    assert studio.google.records[0].body["generationConfig"]["speechConfig"]["voiceConfig"] == {
        "prebuiltVoiceConfig": {"voiceName": "Kore"}
    }
    with pytest.raises(openai.BadRequestError, match="wav and pcm"):
        sdk.audio.speech.create(model="gemini-3-tts", response_format="mp3", **SAY)
    assert len(studio.google.records) == 1


def test_sound_that_breaks_off_does_not_look_whole(studio: Studio, gallery: LiveServer) -> None:
    studio.sdk(gallery)
    studio.openai.script(Script(fault="close", fault_after_events=2), path="/v1/audio/speech", times=2)
    ask = {"model": "gpt-4o-mini-tts", "response_format": "pcm", **SAY}
    with gallery.client(studio.key) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            client.post("/audio/speech", json=ask)
        assert studio.charge("gpt-4o-mini-tts").ending == "failed"
        assert client.post("/audio/speech", json={**ask, "stream_format": "url"}).status_code == 502


def test_without_storage_the_sound_comes_inline(studio: Studio, without_storage: LiveServer) -> None:
    sdk = studio.sdk(without_storage)
    body: Any = {"model": "gpt-4o-mini-tts", "response_format": "pcm", **SAY}
    assert sdk.audio.speech.create(**body).content == PCM
    answer = orjson.loads(sdk.audio.speech.create(**body, extra_body={"stream_format": "url"}).content)
    assert base64.b64decode(answer["audio"]) == PCM and "url" not in answer
