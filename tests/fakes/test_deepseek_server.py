"""OpenAI's SDK talks to the fake, as DeepSeek's own documentation tells its users to."""

from collections.abc import Iterator
from typing import Any

import pytest
from openai import APIStatusError, OpenAI

from tests.fakes.deepseek_server import FakeDeepSeek
from tests.fakes.openai.scripts import Script, ToolCall

MODEL = "deepseek-flash"
HELLO: Any = {"role": "user", "content": "good morning to you"}
NOW: Any = {"type": "function", "function": {"name": "now"}}


@pytest.fixture
def fake() -> Iterator[FakeDeepSeek]:
    with FakeDeepSeek() as server:
        yield server


@pytest.fixture
def sdk(fake: FakeDeepSeek) -> Iterator[OpenAI]:
    with OpenAI(base_url=fake.base_url, api_key=fake.api_key, max_retries=0) as client:
        yield client


def ask(sdk: OpenAI, *messages: Any, **more: Any) -> Any:
    return sdk.chat.completions.create(model=MODEL, messages=list(messages) or [HELLO], **more)


def test_a_text_and_its_usage(fake: FakeDeepSeek, sdk: OpenAI) -> None:
    fake.script(Script(reasoning="let me think", text="yes", cached_tokens=1))
    answer = ask(sdk)
    assert answer.choices[0].message.content == "yes"
    assert answer.choices[0].message.reasoning_content == "let me think"
    usage = answer.usage.model_dump()
    assert (usage["prompt_cache_hit_tokens"], usage["prompt_cache_miss_tokens"]) == (1, 3)
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 3
    assert MODEL in [model.id for model in sdk.models.list()]


def test_a_stream_is_kept_open(fake: FakeDeepSeek, sdk: OpenAI) -> None:
    stream = ask(sdk, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(said) == "You said: good morning to you"
    assert chunks[-1].usage.prompt_cache_hit_tokens == 0


def test_thoughts_must_come_back(fake: FakeDeepSeek, sdk: OpenAI) -> None:
    fake.script(Script(reasoning="which hour", tool_calls=(ToolCall(name="now"),)))
    said = ask(sdk, tools=[NOW]).choices[0].message
    call = said.tool_calls[0]
    spoken = {"role": "assistant", "content": None, "tool_calls": [call.model_dump(include={"id", "type", "function"})]}
    answered = {"role": "tool", "tool_call_id": call.id, "content": "noon"}
    for thoughts in ({}, {"reasoning_content": "something else"}):
        with pytest.raises(APIStatusError, match="must be passed back"):
            ask(sdk, HELLO, spoken | thoughts, answered, tools=[NOW])
    assert ask(sdk, HELLO, spoken | {"reasoning_content": "which hour"}, answered, tools=[NOW])
    assert ask(sdk, HELLO, spoken, answered, extra_body={"thinking": {"type": "disabled"}})


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}}, 400),
        ({"response_format": {"type": "json_object"}}, 400),
        ({"seed": 1}, 422),
        ({"n": 2}, 422),
    ],
)
def test_what_it_refuses(sdk: OpenAI, more: dict[str, Any], status: int) -> None:
    with pytest.raises(APIStatusError) as refused:
        ask(sdk, **more)
    assert refused.value.status_code == status


def test_a_wrong_key_and_no_money(fake: FakeDeepSeek, sdk: OpenAI) -> None:
    fake.script(Script(status=402, error={"message": "Insufficient Balance"}))
    with pytest.raises(APIStatusError, match="Insufficient Balance"):
        ask(sdk)
    with OpenAI(base_url=fake.base_url, api_key="wrong", max_retries=0) as stranger, pytest.raises(APIStatusError):
        ask(stranger)
