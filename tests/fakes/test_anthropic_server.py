"""The vendor's own SDK talks to the fake: what it understands, the vendor would have said."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from tests.fakes.anthropic.app import VENDOR_ORGANIZATION
from tests.fakes.anthropic_server import FakeAnthropic
from tests.fakes.openai.scripts import Script, ToolCall

MODEL = "claude-opus-4-7"
HELLO: list[Any] = [{"role": "user", "content": "good morning to you"}]
WEATHER: Any = {
    "name": "weather",
    "description": "d",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture
def fake() -> Iterator[FakeAnthropic]:
    with FakeAnthropic() as server:
        yield server


@pytest.fixture
def sdk(fake: FakeAnthropic) -> Iterator[Anthropic]:
    with Anthropic(base_url=fake.base_url, api_key=fake.api_key, max_retries=0) as client:
        yield client


def ask(sdk: Anthropic, **more: Any) -> Any:
    return sdk.messages.create(**({"model": MODEL, "max_tokens": 100, "messages": HELLO} | more))


def test_a_text(sdk: Anthropic) -> None:
    message = ask(sdk, system="be kind")
    assert message.content[0].text == "You said: good morning to you"
    assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == ("end_turn", 6, 6)
    cut = ask(sdk, max_tokens=2)
    assert (cut.content[0].text, cut.stop_reason) == ("You said:", "max_tokens")


def test_a_stream_says_the_same(fake: FakeAnthropic, sdk: Anthropic) -> None:
    fake.script(Script(reasoning="let me think", text="Grüße 🌍 all", cached_tokens=2))
    with sdk.messages.stream(model=MODEL, max_tokens=100, messages=HELLO) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
    thinking, text = final.content
    assert thinking.type == "thinking" and thinking.thinking == "let me think" and thinking.signature
    assert text.type == "text" and text.text == "Grüße 🌍 all"
    assert (final.usage.input_tokens, final.usage.cache_read_input_tokens, final.usage.output_tokens) == (2, 2, 6)
    assert final.usage.output_tokens_details is not None and final.usage.output_tokens_details.thinking_tokens == 3


@pytest.mark.parametrize("arguments", ["{}", '{"city":"Rome"}', '{"text": "a \\"b\\" \\u00e9 c, and quite long"}'])
def test_tools(fake: FakeAnthropic, sdk: Anthropic, arguments: str) -> None:
    calls = (ToolCall(name="weather", arguments=arguments), ToolCall(name="weather", arguments='{"city":"Oslo"}'))
    fake.script(Script(text="Looking.", tool_calls=calls), times=2)
    whole = ask(sdk, tools=[WEATHER])
    with sdk.messages.stream(model=MODEL, max_tokens=100, messages=HELLO, tools=[WEATHER]) as stream:
        streamed = stream.get_final_message()
    assert [block.type for block in whole.content] == ["text", "tool_use", "tool_use"]
    assert [getattr(block, "input", None) for block in whole.content] == [
        getattr(block, "input", None) for block in streamed.content
    ]
    assert whole.stop_reason == streamed.stop_reason == "tool_use"
    result = {"type": "tool_result", "tool_use_id": whole.content[1].id, "content": "sunny"}
    other = {"type": "tool_result", "tool_use_id": whole.content[2].id, "content": [{"type": "text", "text": "rain"}]}
    spoken = [block.to_dict(mode="json") for block in whole.content]
    for block in spoken:
        block.pop("citations", None)
    turns = [*HELLO, {"role": "assistant", "content": spoken}, {"role": "user", "content": [result, other]}]
    assert ask(sdk, messages=turns, tools=[WEATHER]).usage.input_tokens == 7


def test_forced_tools_and_schemas(sdk: Anthropic) -> None:
    forced = ask(sdk, tools=[WEATHER], tool_choice={"type": "tool", "name": "weather"})
    assert forced.content[0].input == {"city": "text"}
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    assert ask(sdk, output_config={"format": {"type": "json_schema", "schema": schema}}).content[0].text == '{"n":1}'


def test_counting_and_models(sdk: Anthropic) -> None:
    assert sdk.messages.count_tokens(model=MODEL, messages=HELLO, system="be kind").input_tokens == 6
    listed = {model.id: model.lifecycle for model in sdk.models.list()}
    assert listed[MODEL] == "active" and "retired" in listed.values()
    with pytest.raises(anthropic.NotFoundError):
        sdk.models.retrieve("claude-0")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, anthropic.AuthenticationError),
        (403, anthropic.PermissionDeniedError),
        (413, anthropic.RequestTooLargeError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (529, anthropic.OverloadedError),
    ],
)
def test_errors(fake: FakeAnthropic, sdk: Anthropic, status: int, error: type[anthropic.APIStatusError]) -> None:
    fake.script(Script(status=status, headers={"retry-after": "7"}))
    with pytest.raises(error) as refused:
        ask(sdk)
    assert refused.value.response.headers["retry-after"] == "7"
    assert refused.value.response.headers["anthropic-organization-id"] == VENDOR_ORGANIZATION


def test_an_error_in_a_stream(fake: FakeAnthropic, sdk: Anthropic) -> None:
    fake.script(Script(fault="error", fault_after_events=4))
    with (
        pytest.raises(anthropic.APIStatusError, match="Overloaded"),
        sdk.messages.stream(model=MODEL, max_tokens=9, messages=HELLO) as stream,
    ):
        stream.get_final_message()


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": []},
        {"messages": [{"role": "assistant", "content": "x"}]},
        {"messages": [{"role": "user", "content": " "}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}]},
        {"extra_body": {"temperature": 0.5}},
        {"extra_body": {"seed": 1}},
        {"tool_choice": {"type": "auto"}},
        {"stop_sequences": ["\n"]},
        {"thinking": {"type": "enabled", "budget_tokens": 100}},
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
    ],
)
def test_what_the_vendor_refuses(sdk: Anthropic, wrong: dict[str, Any]) -> None:
    with pytest.raises(anthropic.BadRequestError):
        ask(sdk, **wrong)


def test_a_thought_must_come_back_as_it_was(fake: FakeAnthropic, sdk: Anthropic) -> None:
    fake.script(Script(reasoning="hm", tool_calls=(ToolCall(name="weather", arguments='{"city":"Rome"}'),)))
    spoken = [block.to_dict(mode="json") for block in ask(sdk, tools=[WEATHER]).content]
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": spoken[1]["id"], "content": "sun"}]}
    budget: Any = {"type": "enabled", "budget_tokens": 1024}
    asked = {"tools": [WEATHER], "max_tokens": 2000, "thinking": budget, "model": "claude-haiku-4-5"}
    assert ask(sdk, messages=[*HELLO, {"role": "assistant", "content": spoken}, result], **asked).content
    for changed in ([{**spoken[0], "thinking": "other"}, spoken[1]], spoken[1:]):
        with pytest.raises(anthropic.BadRequestError):
            ask(sdk, messages=[*HELLO, {"role": "assistant", "content": changed}, result], **asked)
