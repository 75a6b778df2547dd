"""Speech to text, by the official SDK (S1.6)."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests import factories
from tests.fakes.openai.media import TRANSCRIPT
from tests.fakes.openai.scripts import Script
from tests.fakes.test_openai_media import wav
from tests.gateway.generation.studio import Studio
from tests.live import LiveServer

SOUND = ("a.wav", wav(2.5))
SRT = "1\n00:00:00,000 --> 00:00:01,250\nthe quick\n\n2\n00:00:01,250 --> 00:00:02,500\nbrown fox\n"
VTT = "WEBVTT\n\n00:00:00.000 --> 00:00:01.250\nthe quick\n\n00:00:01.250 --> 00:00:02.500\nbrown fox\n"


@pytest.mark.parametrize(
    ("form", "answer"), [("text", f"{TRANSCRIPT}\n"), ("srt", SRT), ("vtt", VTT)], ids=["text", "srt", "vtt"]
)
def test_forms_without_usage_are_written_by_us(studio: Studio, gallery: LiveServer, form: Any, answer: str) -> None:
    create = studio.sdk(gallery).audio.transcriptions.create
    assert create(model="whisper-1", file=SOUND, response_format=form) == answer
    charge = studio.charge("whisper-1")
    assert (charge.units, charge.usage_source, charge.cost_nano_usd) == ({"seconds": 3}, "provider_final", 300_000)
    assert studio.openai.records[0].body["response_format"] in ("json", "verbose_json")


def test_json(studio: Studio, gallery: LiveServer) -> None:
    create = studio.sdk(gallery).audio.transcriptions.create
    told: Any = create(
        model="whisper-1", file=SOUND, response_format="verbose_json", timestamp_granularities=["segment"]
    )
    assert (told.text, told.segments[1].end) == (TRANSCRIPT, 2.5)
    assert studio.openai.records[0].body["timestamp_granularities"] == ["segment"]
    plain: Any = create(model="gpt-4o-transcribe", file=SOUND, prompt="some words", language="en")
    assert plain.text == TRANSCRIPT and plain.usage.input_tokens == 27
    charge = studio.charge("gpt-4o-transcribe")
    assert charge.units == {"input": 2, "audio_input": 25, "output": 4, "seconds": 3}
    assert charge.cost_nano_usd == 2 * 2_500 + 25 * 6_000 + 4 * 10_000 <= studio.held("gpt-4o-transcribe")
    with pytest.warns(DeprecationWarning):
        translated: Any = studio.sdk(gallery).audio.translations.create(model="whisper-1", file=SOUND)
    assert translated.text == TRANSCRIPT and studio.openai.records[-1].path == "/v1/audio/translations"


@pytest.mark.parametrize("model", ["gpt-4o-transcribe", "whisper-1", "gemini-3-pro", "mock-transcribe"])
def test_a_stream(studio: Studio, gallery: LiveServer, model: str) -> None:
    stream: Any = studio.sdk(gallery).audio.transcriptions.create(model=model, file=SOUND, stream=True)
    events = list(stream)
    said = "".join(event.delta for event in events[:-1])
    assert events[-1].type == "transcript.text.done" and said.strip() == events[-1].text.strip() != ""
    assert studio.charge(model).usage_source == "provider_final"


def test_length_is_measured_where_nobody_reports_it(studio: Studio, gallery: LiveServer) -> None:
    studio.openai.script(Script(omit_usage=True), path="/v1/audio/transcriptions")
    studio.sdk(gallery).audio.transcriptions.create(model="whisper-1", file=SOUND)
    charge = studio.charge("whisper-1")
    assert (charge.units["seconds"], charge.usage_source, charge.cost_nano_usd) == (3, "local_count", 300_000)


def test_a_length_that_cannot_be_is_not_believed(studio: Studio, gallery: LiveServer) -> None:
    usage = {"type": "duration", "seconds": 100_000}
    studio.openai.script(Script(extra={"usage": usage}), path="/v1/audio/transcriptions")
    studio.sdk(gallery).audio.transcriptions.create(model="whisper-1", file=SOUND)
    charge = studio.charge("whisper-1")
    assert (charge.usage_source, charge.units["seconds"]) == ("reserve_bound", 3)


def test_own_files_and_addresses(studio: Studio, gallery: LiveServer, web: str) -> None:
    studio.sdk(gallery)
    own = studio.keep(SOUND[1], mime="audio/wav")
    foreign = studio.keep(SOUND[1], mime="audio/wav", tenant=factories.make_tenant())
    with gallery.client(studio.key) as client:
        for reference in ({"file_id": own}, {"url": f"https://files.example.test/v1/files/{own}/content"},
                          {"url": f"{web}/a.wav"}):  # fmt: skip
            answer = client.post("/audio/transcriptions", json={"model": "whisper-1", **reference})
            assert answer.json()["text"] == TRANSCRIPT
        refused = [
            client.post("/audio/transcriptions", json={"model": "whisper-1", **reference}).json()["error"]["code"]
            for reference in (
                {"file_id": foreign},
                {"url": "https://10.0.0.1/a.wav"},
                {"url": "file:///etc/passwd"},
                {},
            )
        ]
    assert refused == ["file_not_found", "validation_error", "validation_error", "validation_error"]
    assert len(studio.openai.records) == 3 and studio.openai.records[0].body["file"][0][2] == SOUND[1]


def test_a_form_that_is_sent_again_is_the_same_call(studio: Studio, gallery: LiveServer) -> None:
    studio.sdk(gallery)
    with gallery.client(studio.key) as client:
        answers = [
            client.post(
                "/audio/transcriptions",
                data={"model": "whisper-1"},
                files={"file": SOUND},
                headers={"idempotency-key": "once"},
            )
            for _ in range(2)  # each with a boundary of its own
        ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[1].headers["x-gateway-idempotent-replay"] == "true" and len(studio.openai.records) == 1


def test_gemini_hears(studio: Studio, gallery: LiveServer) -> None:
    create = studio.sdk(gallery).audio.transcriptions.create
    heard: Any = create(model="gemini-3-pro", file=SOUND, language="en")
    assert heard.text and heard.usage.input_token_details.audio_tokens == 1
    assert studio.google.records[0].body["contents"][0]["parts"][0]["inlineData"]["mimeType"] == "audio/wav"
    with pytest.raises(openai.BadRequestError, match="no time stamps"):
        create(model="gemini-3-pro", file=SOUND, response_format="srt")
    assert len(studio.google.records) == 1


def test_no_sound(studio: Studio, gallery: LiveServer) -> None:
    create = studio.sdk(gallery).audio.transcriptions.create
    with pytest.raises(openai.APIStatusError) as refused:
        create(model="whisper-1", file=("a.wav", b"this is only text"))
    assert refused.value.status_code == 415
    assert studio.openai.records == []
