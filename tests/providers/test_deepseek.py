"""DeepSeek's adapter: what becomes of a request, of thoughts, of usage."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from providers.adapters.deepseek import ADAPTER, PARAMETERS
from providers.errors import Failure, ProviderError, UnsupportedError
from providers.types import Target, WireRequest
from tests.fakes.deepseek.validation import check_deepseek, check_thoughts
from tests.providers.contract.captured import DEEPSEEK

HELLO = [{"role": "user", "content": "hi"}]
NOW = {"type": "function", "function": {"name": "now", "strict": True}}
CALL = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
LOOP = [*HELLO, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c1", "content": "noon"}]
TARGET = Target(
    deployment_id=1, model_id=1, model_name="m", provider_name="p", kind="deepseek", allow_private_network=False,
    base_url="https://api.deepseek.com", secret="sk-1", upstream_model="deepseek-flash",
)  # fmt: skip


def wire(body: dict[str, Any], **more: Any) -> WireRequest:
    members = msgspec.json.decode(json.dumps({"model": "m", "messages": HELLO} | body), type=dict[str, msgspec.Raw])
    return WireRequest(operation="chat", members=members, **more)


def sent(body: dict[str, Any], **more: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body that goes out, checked as the vendor checks it, and the members that were dropped."""
    request = ADAPTER.build_request(wire(body, **more), TARGET)
    form = json.loads(request.body)
    check_deepseek(form)
    check_thoughts(form, {})
    return form, request.dropped_parameters


def test_where_it_goes() -> None:
    request = ADAPTER.build_request(wire({}, stream=True), TARGET)
    assert request.url == "https://api.deepseek.com/chat/completions"
    assert request.headers["authorization"] == "Bearer sk-1"
    assert json.loads(request.body)["stream_options"] == {"include_usage": True}
    assert ADAPTER.check_health(TARGET).url == "https://api.deepseek.com/models"


def test_parameters() -> None:
    asked = {
        "max_completion_tokens": 9, "temperature": 0.5, "top_p": 0.9, "seed": 3, "stop": "END", "user": "u",
        "parallel_tool_calls": False, "tools": [NOW], "logprobs": True, "reasoning_effort": "xhigh", "verbosity": "low",
    }  # fmt: skip
    body, dropped = sent(asked)
    assert body == {
        "model": "deepseek-flash", "messages": HELLO, "max_tokens": 9, "stop": "END", "logprobs": True,
        "reasoning_effort": "high", "tools": [{"type": "function", "function": {"name": "now"}}],
    }  # fmt: skip
    assert set(dropped) == {"temperature", "top_p", "seed", "verbosity", "parallel_tool_calls"}
    assert sent({"max_tokens": 9}, max_output_tokens=5)[0]["max_tokens"] == 5
    assert set(CompletionCreateParamsBase.__annotations__) <= set(PARAMETERS)
    with pytest.raises(UnsupportedError):
        sent({"n": 2})


@pytest.mark.parametrize("off", [{"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}])
def test_sampling_has_an_effect_without_thoughts(off: dict[str, Any]) -> None:
    body, dropped = sent({"temperature": 0.5, "presence_penalty": 1, **off})
    assert body["thinking"] == {"type": "disabled"}
    assert (body["temperature"], body["presence_penalty"], dropped) == (0.5, 1, ())


@pytest.mark.parametrize("thinking", ["yes", 1, []])
def test_thinking_is_an_object(thinking: Any) -> None:
    with pytest.raises(ProviderError) as refused:
        sent({"thinking": thinking, "temperature": 1})
    assert (refused.value.failure, refused.value.param) == (Failure.REFUSED_INPUT, "thinking")


def test_a_schema_is_told() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    body, dropped = sent({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}})
    assert body["response_format"] == {"type": "json_object"} and dropped == ()
    assert json.dumps(schema) in body["messages"][0]["content"]
    body, _ = sent({"response_format": {"type": "json_object"}})
    assert "JSON" in body["messages"][0]["content"]
    said = [{"role": "user", "content": "as json"}]
    assert sent({"messages": said, "response_format": {"type": "json_object"}})[0]["messages"] == said


def test_messages() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}
    told = [
        {"role": "developer", "content": [{"type": "text", "text": "be"}, {"type": "text", "text": "kind"}]},
        {"role": "user", "name": "ada", "content": [{"type": "text", "text": "what"}, picture]},
        {"role": "assistant", "content": None, "refusal": "No."},
    ]
    assert sent({"messages": told})[0]["messages"] == [
        {"role": "system", "content": "be\nkind"},
        {"role": "user", "name": "ada", "content": [
            {"type": "text", "text": "what"},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]},
        {"role": "assistant", "content": "No."},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "capability"),
    [
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}]},
            "audio",
        ),
        ({"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}, "documents"),
        ({"role": "assistant", "function_call": {"name": "f", "arguments": ""}}, "functions"),
        ({"role": "assistant", "tool_calls": [{"id": "c", "type": "custom"}]}, "custom_tools"),
    ],
)
def test_what_it_cannot_be_told(message: dict[str, Any], capability: str) -> None:
    with pytest.raises(UnsupportedError) as refused:
        sent({"messages": [message]})
    assert refused.value.capability == capability


def test_thoughts_go_back() -> None:
    kept, _ = sent({"messages": LOOP}, tool_turns=("c1",), continuations={"c1": b'"h\\u00fcm"'})
    assert kept["messages"][1]["reasoning_content"] == "hüm"
    assert sent({"messages": LOOP})[0]["messages"][1]["reasoning_content"] == ""
    own = [LOOP[0], {**LOOP[1], "reasoning_content": "mine"}, LOOP[2]]
    assert sent({"messages": own})[0]["messages"][1]["reasoning_content"] == "mine"


def test_thoughts_are_kept_from_a_stream() -> None:
    decoder = ADAPTER.decoder()
    chunks = decoder.feed(DEEPSEEK)
    (continuation,) = [chunk.continuation for chunk in chunks if chunk.continuation is not None]
    assert (continuation.call_id, json.loads(continuation.data)) == ("call_00_a", "Hm, ü 🌍")
    usage = chunks[-1].usage
    assert usage is not None and usage.units == {"input": 15, "cache_read": 5, "output": 30, "reasoning": 12}
    assert json.loads(chunks[-1].data)["usage"]["prompt_tokens_details"] == {"cached_tokens": 5}


def test_a_whole_answer() -> None:
    message = {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [CALL]}
    told = {"prompt_tokens": 3, "completion_tokens": 4, "prompt_cache_hit_tokens": 1}
    body = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}], "usage": told}
    answer = ADAPTER.parse_response(wire({}), b"\n\n\n" + json.dumps(body).encode())
    assert answer.body.startswith(b"{") and answer.continuation is not None
    assert (answer.continuation.call_id, answer.continuation.data) == ("c1", b'"hm"')
    assert answer.usage is not None and answer.usage.cache_read_tokens == 1
    del message["tool_calls"]
    assert ADAPTER.parse_response(wire({}), json.dumps(body).encode()).continuation is None


def test_no_room_is_a_failure() -> None:
    choice = {"index": 0, "delta": {}, "message": {"content": ""}, "finish_reason": "insufficient_system_resource"}
    body = json.dumps({"id": "c", "choices": [choice]}).encode()
    with pytest.raises(ProviderError) as broken:
        ADAPTER.parse_response(wire({}), body)
    assert broken.value.failure is Failure.BROKEN
    decoder = ADAPTER.decoder()
    decoder.feed(b"data: %b\n\n" % body)
    assert decoder.failure is not None and not decoder.finished


@pytest.mark.parametrize(
    ("status", "failure"), [(402, Failure.REFUSED_CREDENTIAL), (422, Failure.REFUSED_INPUT), (429, Failure.THROTTLED)]
)
def test_errors(status: int, failure: Failure) -> None:
    error = ADAPTER.parse_error(status, headers={}, body=b'{"error": {"message": "Insufficient Balance"}}')
    assert (error.failure, error.message) == (failure, "Insufficient Balance")
