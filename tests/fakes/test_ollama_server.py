"""The vendor's own SDK talks to the fake: what it understands, the vendor would have said."""

from collections.abc import Iterator
from typing import Any

import ollama
import pytest

from tests.fakes.ollama_server import FakeOllama
from tests.fakes.openai.scripts import Script, ToolCall

MODEL = "llama3.2"
HELLO = [{"role": "user", "content": "good morning to you"}]
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}  # fmt: skip
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture
def fake() -> Iterator[FakeOllama]:
    with FakeOllama() as server:
        yield server


@pytest.fixture
def sdk(fake: FakeOllama) -> Iterator[ollama.Client]:
    with ollama.Client(host=fake.base_url) as client:
        yield client


def test_a_text(sdk: ollama.Client) -> None:
    answer = sdk.chat(MODEL, HELLO)
    assert answer.message.content == "You said: good morning to you"
    assert (answer.done, answer.done_reason) == (True, "stop")
    assert (answer.prompt_eval_count, answer.eval_count) == (4, 6)
    cut = sdk.chat(MODEL, HELLO, options={"num_predict": 2})
    assert (cut.message.content, cut.done_reason) == ("You said:", "length")


def test_a_stream_says_the_same(fake: FakeOllama, sdk: ollama.Client) -> None:
    fake.script(Script(reasoning="let me think", text="Grüße 🌍 all"))
    parts = list(sdk.chat(MODEL, HELLO, think=True, stream=True))
    assert "".join(part.message.content or "" for part in parts) == "Grüße 🌍 all"
    assert "".join(part.message.thinking or "" for part in parts) == "let me think"
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].eval_count == 6


@pytest.mark.parametrize("stream", [False, True])
def test_tools(fake: FakeOllama, sdk: ollama.Client, stream: bool) -> None:
    fake.script(Script(tool_calls=(ToolCall(name="weather", arguments='{"city":"Rome"}'), ToolCall(name="weather"))))
    answer: Any = sdk.chat(MODEL, HELLO, tools=[WEATHER], stream=stream)
    parts = list(answer) if stream else [answer]
    calls = [call for part in parts for call in part.message.tool_calls or ()]
    assert [call.function.arguments for call in calls] == [{"city": "Rome"}, {}]
    turns = [
        *HELLO,
        {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "tool_name": "weather", "content": "sun"},
    ]
    assert sdk.chat(MODEL, turns).message.content


def test_schemas_and_pictures(sdk: ollama.Client) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert sdk.chat(MODEL, HELLO, format=schema).message.content == '{"n":1}'
    shown = [{"role": "user", "content": "what", "images": [PIXEL]}]
    assert sdk.chat(MODEL, shown).message.content == "You said: what [image_url]"


def test_embeddings_and_models(sdk: ollama.Client) -> None:
    answer = sdk.embed("nomic-embed-text", ["one two", "three"], dimensions=8)
    assert [len(vector) for vector in answer.embeddings] == [8, 8] and answer.prompt_eval_count == 3
    assert f"{MODEL}:latest" in [model.model for model in sdk.list().models]
    with pytest.raises(ollama.ResponseError, match="not found") as refused:
        sdk.chat("gone", HELLO)
    assert refused.value.status_code == 404


def test_an_error_in_the_middle(fake: FakeOllama, sdk: ollama.Client) -> None:
    fake.script(Script(text="one two three", fault="error", fault_after_events=1, error={"message": "out of memory"}))
    with pytest.raises(ollama.ResponseError, match="out of memory"):
        list(sdk.chat(MODEL, HELLO, stream=True))
    fake.script(Script(status=503))
    with pytest.raises(ollama.ResponseError, match="busy"):
        sdk.chat(MODEL, HELLO)
