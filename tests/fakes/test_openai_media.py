"""The vendor's own SDK asks the fake for pictures and sound: what it understands, the vendor would have said."""

import base64
import io
import wave
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.fakes.openai.media import PNG, TRANSCRIPT, WORD_PCM


def wav(seconds: float) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(int(seconds * 8000) * 2))
    return file.getvalue()


def test_pictures(vendor_sdk: OpenAI) -> None:
    made = vendor_sdk.images.generate(model="gpt-image-1", prompt="a red square", n=2)
    assert made.data is not None and [base64.b64decode(one.b64_json or "") for one in made.data] == [PNG, PNG]
    assert made.usage is not None and (made.usage.input_tokens, made.usage.output_tokens) == (3, 200)
    edited = vendor_sdk.images.edit(model="gpt-image-1", prompt="bluer", image=[("a.png", PNG), ("b.png", PNG)])
    assert edited.usage is not None and edited.usage.input_tokens_details.image_tokens == 200
    with pytest.raises(openai.BadRequestError):
        vendor_sdk.images.generate(model="gpt-image-1", prompt="x", response_format="url")
    with pytest.raises(openai.BadRequestError):
        vendor_sdk.images.edit(model="gpt-image-1", prompt="x", image=("a.png", b"no picture"))


def test_a_stream_of_pictures(vendor_sdk: OpenAI) -> None:
    stream = vendor_sdk.images.generate(model="gpt-image-1", prompt="a red square", stream=True, partial_images=1)
    events: list[Any] = list(stream)
    assert [event.type for event in events] == ["image_generation.partial_image", "image_generation.completed"]
    assert events[-1].usage.output_tokens == 100 and base64.b64decode(events[-1].b64_json) == PNG


def test_transcripts(vendor_sdk: OpenAI) -> None:
    create = vendor_sdk.audio.transcriptions.create
    plain = create(model="whisper-1", file=("a.wav", wav(1.5)))
    assert plain.text == TRANSCRIPT and plain.usage is not None and plain.usage.type == "duration"
    assert plain.usage.seconds == 2
    told = create(model="whisper-1", file=("a.wav", wav(2)), response_format="verbose_json")
    assert told.segments is not None and told.segments[1].end == 2.0
    counted = create(model="gpt-4o-transcribe", file=("a.wav", wav(2)))
    assert counted.usage is not None and counted.usage.type == "tokens" and counted.usage.input_tokens == 20
    events = list(create(model="gpt-4o-transcribe", file=("a.wav", wav(2)), stream=True))
    assert events[-1].type == "transcript.text.done" and events[-1].text == TRANSCRIPT
    with pytest.warns(DeprecationWarning):  # of the SDK, not of the API
        assert vendor_sdk.audio.translations.create(model="whisper-1", file=("a.wav", wav(1))).text == TRANSCRIPT
    with pytest.raises(openai.BadRequestError):
        create(model="gpt-4o-transcribe", file=("a.wav", wav(1)), response_format="verbose_json")


def test_speech(vendor_sdk: OpenAI) -> None:
    create = vendor_sdk.audio.speech.create
    sound = create(model="tts-1", voice="alloy", input="one two three", response_format="pcm")
    assert len(sound.content) == 3 * WORD_PCM
    events = create(model="gpt-4o-mini-tts", voice="alloy", input="one two", stream_format="sse").text
    assert events.count("speech.audio.delta") == 2 * 2 and '"output_tokens":20' in events
    with pytest.raises(openai.BadRequestError):
        create(model="tts-1", voice="alloy", input="one", stream_format="sse")
