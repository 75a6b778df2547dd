"""The fake OpenAI server byte by byte: the stream's form, what it refuses, what a script makes it say."""

from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.fakes.asking import HELLO, raw_stream, say
from tests.fakes.openai_server import FakeOpenAI, Script


def test_usage_key_is_in_the_chunks_only_when_asked(fake_openai: FakeOpenAI) -> None:
    unasked = raw_stream(fake_openai)
    assert unasked[-1] == "data: [DONE]"
    assert not any('"usage"' in line for line in unasked)
    asked = raw_stream(fake_openai, stream_options={"include_usage": True})
    assert all('"usage":null' in line for line in asked[:-2])
    assert '"choices":[]' in asked[-2]
    assert '"usage":{"prompt_tokens":4' in asked[-2]
    assert all('"obfuscation"' in line for line in asked[:-2])
    plain = raw_stream(fake_openai, stream_options={"include_obfuscation": False})
    assert not any('"obfuscation"' in line for line in plain)


def test_wrong_and_missing_key(fake_openai: FakeOpenAI, vendor_sdk: OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        say(vendor_sdk.with_options(api_key="sk-wrong-0123456789"))
    assert refused.value.code == "invalid_api_key"
    assert "sk-wrong" in refused.value.message
    answer = httpx.post(f"{fake_openai.base_url}/chat/completions", json={}, trust_env=False)
    assert answer.status_code == 401
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type"),
        ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "messages[0].content[0].type", "invalid_value"),
        ({"messages": [*HELLO, {"role": "tool", "content": "a", "tool_call_id": "b"}]}, "messages[1].role", None),
        ({"temperature": 3}, "temperature", "decimal_above_max_value"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens", "invalid_parameter_combination"),
        ({"stream_options": {"include_usage": True}}, "stream_options", None),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "array_above_max_length"),
        ({"tool_choice": "auto"}, "tool_choice", None),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name", "missing_required_parameter"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "invalid_value"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"response_format": {"type": "json_object"}}, "messages", None),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            "response_format.json_schema.name",
            "missing_required_parameter",
        ),
    ],
)
def test_bad_chat_requests(vendor_sdk: OpenAI, more: dict[str, Any], param: str, code: str | None) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        say(vendor_sdk, **more)
    assert (refused.value.param, refused.value.code) == (param, code)
    assert refused.value.type == "invalid_request_error"


def test_unanswered_tool_calls_are_refused(vendor_sdk: OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    with pytest.raises(openai.BadRequestError, match="call_1"):
        say(vendor_sdk, messages=[*HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}, *HELLO])


def test_missing_fields_and_broken_json(fake_openai: FakeOpenAI) -> None:
    def post(content: bytes, path: str = "chat/completions") -> Any:
        headers = {"authorization": f"Bearer {fake_openai.api_key}"}
        answer = httpx.post(f"{fake_openai.base_url}/{path}", content=content, headers=headers, trust_env=False)
        return answer.status_code, answer.json()["error"]["param"], answer.json()["error"]["code"]

    assert post(b'{"model": "m"}') == (400, "messages", "missing_required_parameter")
    assert post(b'{"messages": []}') == (400, None, None)
    assert post(b'{"model": ') == (400, None, None)
    assert post(b"[]") == (400, None, None)
    assert post(b"{}", "nothing") == (404, None, "unknown_url")
    assert post(b'{"model": "m"}', "embeddings") == (400, "input", "missing_required_parameter")
    assert post(b'{"model": "m", "input": []}', "embeddings") == (400, "input", None)
    assert post(b'{"model": "m", "input": [[1], "a"]}', "embeddings") == (400, "input", None)
    assert post(b'{"model": "m", "input": "a", "dimensions": 0}', "embeddings") == (400, "dimensions", None)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
def test_scripted_statuses(
    fake_openai: FakeOpenAI, vendor_sdk: OpenAI, status: int, kind: type[openai.APIStatusError]
) -> None:
    fake_openai.script(Script(status=status))
    with pytest.raises(kind) as refused:
        say(vendor_sdk)
    assert refused.value.status_code == status
    assert say(vendor_sdk).choices[0].finish_reason == "stop"


def test_rate_limit_carries_retry_after_and_the_sdk_retries(fake_openai: FakeOpenAI, vendor_sdk: OpenAI) -> None:
    limited = Script(status=429, headers={"Retry-After": "1", "retry-after-ms": "5"}, error={"message": "slow down"})
    fake_openai.script(limited)
    with pytest.raises(openai.RateLimitError, match="slow down") as refused:
        say(vendor_sdk)
    assert refused.value.response.headers["retry-after"] == "1"
    assert refused.value.code == "rate_limit_exceeded"
    fake_openai.script(limited, times=2)
    say(vendor_sdk.with_options(max_retries=2))
    assert [record.status for record in fake_openai.all_ended()] == [429, 429, 429, 200]


def test_scripts_are_chosen_by_model_marker_and_path(fake_openai: FakeOpenAI, vendor_sdk: OpenAI) -> None:
    fake_openai.script(Script(text="by model"), model="special", times=None)
    fake_openai.script(Script(text="by marker"), marker="good morning")
    fake_openai.script(Script(status=500), path="/v1/embeddings")
    answers = [say(vendor_sdk, model=model).choices[0].message.content for model in ("special", "special", "m", "m")]
    assert answers == ["by model", "by model", "by marker", "You said: good morning to you"]
    with pytest.raises(openai.InternalServerError):
        vendor_sdk.embeddings.create(model="m", input="a")
    fake_openai.reset()
    assert say(vendor_sdk, model="special").choices[0].message.content == "You said: good morning to you"


def test_given_content_of_every_kind(fake_openai: FakeOpenAI, vendor_sdk: OpenAI) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 8, "total_tokens": 17, "new_counter": 3}
    script = Script(
        pieces=("Hel", "lo ", "world"),
        reasoning="let me think",
        finish_reason="content_filter",
        usage=usage,
        extra={"vendor_field": {"a": 1}},
        message_extra={"annotations": []},
    )
    fake_openai.script(script, times=2)
    reply = say(vendor_sdk)
    assert reply.choices[0].message.content == "Hello world"
    assert reply.choices[0].message.reasoning_content == "let me think"
    assert reply.choices[0].finish_reason == "content_filter"
    assert reply.vendor_field == {"a": 1}
    assert reply.usage.new_counter == 3
    chunks = list(say(vendor_sdk, stream=True, stream_options={"include_usage": True}))
    deltas = [chunk.choices[0].delta.model_dump(exclude_none=True) for chunk in chunks[:-1]]
    assert [delta["content"] for delta in deltas if delta.get("content")] == ["Hel", "lo ", "world"]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "let me think"
    assert chunks[-1].usage.total_tokens == 17
    assert all(chunk.vendor_field == {"a": 1} for chunk in chunks)
    assert fake_openai.all_ended()[1].usage_sent == usage
    assert fake_openai.all_ended()[1].produced == {"prompt_tokens": 4, "completion_tokens": 5}


def test_refusal_left_out_usage_and_cached_tokens(fake_openai: FakeOpenAI, vendor_sdk: OpenAI) -> None:
    fake_openai.script(Script(refusal="I cannot", omit_usage=True), times=2)
    reply = say(vendor_sdk)
    assert (reply.choices[0].message.refusal, reply.choices[0].message.content) == ("I cannot", None)
    assert reply.usage is None
    chunks = list(say(vendor_sdk, stream=True, stream_options={"include_usage": True}))
    assert all(chunk.choices for chunk in chunks)
    fake_openai.script(Script(text="ok", cached_tokens=3, reasoning="hm hm"))
    usage = say(vendor_sdk).usage
    assert usage.prompt_tokens_details.cached_tokens == 3
    assert (usage.completion_tokens, usage.completion_tokens_details.reasoning_tokens) == (3, 2)


def test_raw_bodies(fake_openai: FakeOpenAI, vendor_sdk: OpenAI) -> None:
    fake_openai.script(Script(raw_body=b'{"half": ', headers={"content-type": "text/html"}))
    assert vendor_sdk.chat.completions.with_raw_response.create(model="m", messages=HELLO).text == '{"half": '
    fake_openai.script(Script(status=502, raw_body=b"<html>bad gateway</html>"))
    with pytest.raises(openai.InternalServerError) as refused:
        say(vendor_sdk)
    assert refused.value.response.text == "<html>bad gateway</html>"
    fake_openai.script(Script(body={"any": ["json", 1]}))
    assert say(vendor_sdk).any == ["json", 1]
    fake_openai.script(Script(gzip=True, text="small"))
    answer = vendor_sdk.chat.completions.with_raw_response.create(model="m", messages=HELLO)
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.parse().choices[0].message.content == "small"
