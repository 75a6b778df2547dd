"""The vendor's own SDK talks to the fake: what it understands, the vendor would have said."""

from collections.abc import Iterator
from typing import Any

import pytest
from google import genai
from google.genai import errors, types

from tests.fakes.google_server import FakeGoogle
from tests.fakes.openai.scripts import Script, ToolCall

MODEL = "gemini-3-pro"
HELLO = "good morning to you"
WEATHER: Any = {"function_declarations": [{"name": "weather", "parameters_json_schema": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}]}  # fmt: skip


@pytest.fixture
def fake() -> Iterator[FakeGoogle]:
    with FakeGoogle() as server:
        yield server


@pytest.fixture
def sdk(fake: FakeGoogle) -> Iterator[genai.Client]:
    client = genai.Client(api_key=fake.api_key, http_options=types.HttpOptions(base_url=fake.base_url))
    yield client
    client.close()


def ask(sdk: genai.Client, contents: Any = HELLO, **config: Any) -> types.GenerateContentResponse:
    return sdk.models.generate_content(model=MODEL, contents=contents, config=types.GenerateContentConfig(**config))


def test_a_text(sdk: genai.Client) -> None:
    answer = ask(sdk, system_instruction="be kind")
    assert answer.text == "You said: good morning to you"
    usage = answer.usage_metadata
    assert usage is not None and (usage.prompt_token_count, usage.candidates_token_count) == (6, 6)
    cut = ask(sdk, max_output_tokens=2)
    assert cut.candidates is not None
    assert (cut.text, cut.candidates[0].finish_reason) == ("You said:", types.FinishReason.MAX_TOKENS)


def test_a_stream_says_the_same(fake: FakeGoogle, sdk: genai.Client) -> None:
    fake.script(Script(reasoning="let me think", text="Grüße 🌍 all", cached_tokens=2))
    chunks = list(sdk.models.generate_content_stream(model=MODEL, contents=HELLO))
    assert "".join(chunk.text or "" for chunk in chunks) == "Grüße 🌍 all"
    usage = chunks[-1].usage_metadata
    assert usage is not None and (usage.thoughts_token_count, usage.candidates_token_count) == (3, 3)
    assert usage.cached_content_token_count == 2


def test_tools_and_their_signatures(fake: FakeGoogle, sdk: genai.Client) -> None:
    calls = (ToolCall(name="weather", arguments='{"city":"Rome"}'), ToolCall(name="weather", arguments="{}"))
    fake.script(Script(tool_calls=calls), times=2)
    whole = ask(sdk, tools=[WEATHER])
    assert [call.args for call in whole.function_calls or ()] == [{"city": "Rome"}, {}]
    streamed = [
        call.args
        for chunk in sdk.models.generate_content_stream(model=MODEL, contents=HELLO, config={"tools": [WEATHER]})
        for call in chunk.function_calls or ()
    ]
    assert streamed == [{"city": "Rome"}, {}]
    assert whole.candidates is not None and whole.candidates[0].content is not None
    results = [types.Part.from_function_response(name="weather", response={"result": "sun"})] * 2
    asked = types.Content(role="user", parts=[types.Part(text=HELLO)])
    turns = [asked, whole.candidates[0].content, types.Content(role="user", parts=results)]
    assert ask(sdk, turns, tools=[WEATHER]).text
    parts = whole.candidates[0].content.parts or []
    signed, parts[0].thought_signature = parts[0].thought_signature, None
    with pytest.raises(errors.ClientError, match="thought_signature"):
        ask(sdk, turns, tools=[WEATHER])
    parts[0].thought_signature = signed
    with pytest.raises(errors.ClientError, match="number of function response"):
        ask(sdk, [*turns[:2], types.Content(role="user", parts=results[:1])], tools=[WEATHER])


def test_forced_tools_and_schemas(sdk: genai.Client) -> None:
    forced: Any = {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["weather"]}}
    calls = ask(sdk, tools=[WEATHER], tool_config=forced).function_calls or []
    assert [call.args for call in calls] == [{"city": "text"}]
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert ask(sdk, response_mime_type="application/json", response_json_schema=schema).text == '{"n":1}'


def test_counting_and_models(sdk: genai.Client) -> None:
    assert sdk.models.count_tokens(model=MODEL, contents=HELLO).total_tokens == 4
    assert f"models/{MODEL}" in [model.name for model in sdk.models.list()]
    with pytest.raises(errors.ClientError):
        sdk.models.get(model="gemini-0")


@pytest.mark.parametrize(
    ("status", "name"), [(403, "PERMISSION_DENIED"), (429, "RESOURCE_EXHAUSTED"), (503, "UNAVAILABLE")]
)
def test_errors(fake: FakeGoogle, sdk: genai.Client, status: int, name: str) -> None:
    fake.script(Script(status=status), times=None)
    with pytest.raises(errors.APIError) as refused:
        ask(sdk)
    assert (refused.value.code, refused.value.status) == (status, name)


def test_a_wrong_key(fake: FakeGoogle) -> None:
    client = genai.Client(api_key="wrong", http_options=types.HttpOptions(base_url=fake.base_url))
    with pytest.raises(errors.ClientError, match="API key not valid"):
        ask(client)
    client.close()


def test_embeddings(fake: FakeGoogle, sdk: genai.Client) -> None:
    config = types.EmbedContentConfig(output_dimensionality=8)
    answer = sdk.models.embed_content(model="gemini-embedding-001", contents=["one two", "three"], config=config)
    vectors = [embedding.values or [] for embedding in answer.embeddings or ()]
    assert [len(vector) for vector in vectors] == [8, 8] and vectors[0] != vectors[1]
    assert len(fake.all_ended()[-1].body["requests"]) == 2
    with pytest.raises(errors.ClientError, match="in one batch"):
        sdk.models.embed_content(model="gemini-embedding-001", contents=["x"] * 101)


def test_pictures(sdk: genai.Client) -> None:
    asked = types.GenerateContentConfig(response_modalities=["TEXT", "IMAGE"])
    answer = sdk.models.generate_content(model="gemini-3-pro-image", contents="a red square", config=asked)
    said, painted = answer.candidates[0].content.parts
    assert said.text == "Here it is." and painted.inline_data.mime_type == "image/png"
    details = {detail.modality.value: detail.token_count for detail in answer.usage_metadata.candidates_tokens_details}
    assert details == {"IMAGE": 100}
    with pytest.raises(errors.ClientError):
        sdk.models.generate_content(model=MODEL, contents="a red square", config=asked)


def test_speech(sdk: genai.Client) -> None:
    voice = types.VoiceConfig(prebuilt_voice_config=types.PrebuiltVoiceConfig(voice_name="Kore"))
    asked = types.GenerateContentConfig(
        response_modalities=["AUDIO"], speech_config=types.SpeechConfig(voice_config=voice)
    )
    chunks = list(sdk.models.generate_content_stream(model="gemini-3-tts", contents="one two three", config=asked))
    sound = [part.inline_data for chunk in chunks for part in chunk.candidates[0].content.parts if part.inline_data]
    assert [len(piece.data) for piece in sound] == [9600] * 3 and sound[0].mime_type.endswith("rate=24000")
    assert chunks[-1].usage_metadata.candidates_token_count == 15
