"""Anthropic's adapter: what becomes of a request, of usage, of errors."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from providers.adapters.anthropic import ADAPTER, NO_TEXT, PARAMETERS, model_version
from providers.adapters.anthropic_answers import read_usage
from providers.errors import Failure, ProviderError, UnsupportedError
from providers.types import Target, WireRequest
from tests.fakes.anthropic.validation import check_messages
from tests.providers.contract.captured import ANTHROPIC

NEW, OLD = "claude-opus-4-7", "claude-sonnet-4-5-20250929"
HELLO = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}


def target(model: str = NEW, **more: Any) -> Target:
    return Target(
        deployment_id=1, model_id=1, model_name="m", provider_name="p", kind="anthropic", allow_private_network=False,
        base_url="https://api.anthropic.com", secret="sk-ant-1", upstream_model=model, **more,
    )  # fmt: skip


def wire(body: dict[str, Any], **more: Any) -> WireRequest:
    members = msgspec.json.decode(json.dumps({"model": "m", "messages": HELLO} | body), type=dict[str, msgspec.Raw])
    return WireRequest(operation="chat", members=members, **more)


def sent(body: dict[str, Any], *, model: str = NEW, **more: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body that goes out, checked as the vendor checks it, and the members that were dropped."""
    request = ADAPTER.build_request(wire(body, **more), target(model))
    form = json.loads(request.body)
    check_messages(form, version=request.headers["anthropic-version"])
    return form, request.dropped_parameters


def shown(part: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [part]}]}


def test_where_it_goes() -> None:
    request = ADAPTER.build_request(wire({}), target())
    assert request.url == "https://api.anthropic.com/v1/messages"
    assert request.headers["x-api-key"] == "sk-ant-1" and request.headers["anthropic-version"] == "2026-10-21"
    assert ADAPTER.list_models(target()).url.startswith("https://api.anthropic.com/v1/models?")
    assert ADAPTER.check_health(target()).method == "GET"


@pytest.mark.parametrize(
    ("body", "limits", "expected"),
    [
        ({}, {}, 4096),
        ({"max_tokens": 7}, {}, 7),
        ({"max_tokens": 7, "max_completion_tokens": 9}, {}, 9),
        ({"max_tokens": 7}, {"max_output_tokens": 5}, 5),
    ],
)
def test_a_limit_is_always_sent(body: dict[str, Any], limits: dict[str, Any], expected: int) -> None:
    assert sent(body, **limits)[0]["max_tokens"] == expected


def test_the_models_own_limit_stands_in() -> None:
    request = ADAPTER.build_request(wire({}), target(max_output_tokens=64_000))
    assert json.loads(request.body)["max_tokens"] == 64_000


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("claude-opus-4-7", (4, 7)),
        ("claude-sonnet-4-20250514", (4, 0)),
        ("claude-3-5-sonnet-20241022", (3, 5)),
        ("claude-3-haiku-20240307", (3, 0)),
        ("claude-sonnet-5", (5, 0)),
        ("anthropic/claude-haiku-4.5", (4, 5)),
        ("claude-opus-4-10", (4, 10)),
        ("my-tuned-model", None),
    ],
)
def test_versions(name: str, version: tuple[int, int] | None) -> None:
    assert model_version(name) == version


def test_sampling_goes_where_it_is_taken() -> None:
    body, dropped = sent({"temperature": 1.5, "top_p": 0.9}, model=OLD)
    assert body["temperature"] == 1.0 and "top_p" not in body and dropped == ("top_p",)
    for model in (NEW, "my-tuned-model"):
        body, dropped = sent({"temperature": 0.5, "top_p": 0.9, "top_k": 3}, model=model)
        assert dropped == ("temperature", "top_p", "top_k") and not {"temperature", "top_p", "top_k"} & set(body)


def test_what_is_dropped_is_named_and_what_says_nothing_is_not() -> None:
    body, dropped = sent({"seed": 1, "logit_bias": {}, "presence_penalty": 0, "verbosity": "low", "x_new": 1, "n": 1})
    assert dropped == ("seed", "verbosity", "x_new") and "seed" not in body


@pytest.mark.parametrize(
    "body",
    [
        {"n": 2},
        {"logprobs": True},
        {"modalities": ["text", "audio"]},
        {"functions": [{"name": "f"}]},
        {"tools": [{"type": "custom", "custom": {"name": "shell"}}]},
        shown({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}),
        shown({"type": "file", "file": {"file_id": "file-1"}}),
        shown({"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AA"}}),
        shown({"type": "hologram"}),
    ],
)
def test_what_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError) as refused:
        ADAPTER.build_request(wire(body), target())
    assert refused.value.param and refused.value.capability and refused.value.may_try_another


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (shown({"type": "image_url"}), "messages[0].content[0].image_url"),
        (shown({"type": "file", "file": {"file_data": "data:text/plain;base64,A"}}), "messages[0].content[0].file"),
        (shown({"type": "image_url", "image_url": {"url": "data:x"}}), "messages[0].content[0].image_url"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"temperature": "hot"}, "temperature"),
        ({"tools": [{"function": {}}]}, "tools[0].function"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.schema"),
    ],
)
def test_a_request_that_is_wrong_in_itself(body: dict[str, Any], param: str) -> None:
    with pytest.raises(ProviderError) as refused:
        ADAPTER.build_request(wire(body), target())
    assert refused.value.failure is Failure.REFUSED_INPUT and refused.value.param == param


def test_instructions_documents_and_caching() -> None:
    cache = {"type": "ephemeral", "ttl": "1h"}
    pdf = "data:application/pdf;base64,JVBERi0xLjQ="
    parts = [
        {"type": "text", "text": "a", "cache_control": cache},
        {
            "type": "file",
            "file": {"file_data": pdf, "filename": "a.pdf"},
            "prompt_cache_breakpoint": {"mode": "explicit"},
        },
        {"type": "file", "file": {"file_data": "data:text/plain;base64,R3LDvMOfZQ=="}},
    ]
    messages = [
        {"role": "system", "content": "one"},
        {"role": "user", "content": parts},
        {"role": "developer", "content": [{"type": "text", "text": "two", "cache_control": cache}]},
    ]
    body, _ = sent({"messages": messages, "tools": [TOOL | {"cache_control": cache}]})
    assert body["system"] == [{"type": "text", "text": "one"}, {"type": "text", "text": "two", "cache_control": cache}]
    text, document, plain = body["messages"][0]["content"]
    assert text["cache_control"] == cache and document["cache_control"] == {"type": "ephemeral"}
    assert document["source"]["media_type"] == "application/pdf" and document["title"] == "a.pdf"
    assert plain["source"] == {"type": "text", "media_type": "text/plain", "data": "Grüße"}
    assert body["tools"][0]["cache_control"] == cache


def test_where_openai_lets_a_message_be_empty() -> None:
    empty = {"type": "text", "text": NO_TEXT}
    for messages in ([{"role": "user", "content": ""}], [{"role": "system", "content": "x"}]):
        assert sent({"messages": messages})[0]["messages"] == [{"role": "user", "content": [empty]}]
    body, _ = sent({"messages": [{"role": "assistant", "content": "I begin. "}]})
    assert body["messages"][0]["content"] == [empty]
    assert body["messages"][1]["content"][0]["text"] == "I begin."


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "required", "parallel_tool_calls": False}, {"type": "any", "disable_parallel_tool_use": True}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"tool_choice": {"type": "function", "function": {"name": "now"}}}, {"type": "tool", "name": "now"}),
    ],
)
def test_tool_choice(ask: dict[str, Any], expected: dict[str, Any]) -> None:
    assert sent({"tools": [TOOL], **ask})[0]["tool_choice"] == expected


def test_allowed_tools_are_the_only_ones_offered() -> None:
    other = {"type": "function", "function": {"name": "other", "strict": True}}
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "other"}}]}
    body, _ = sent({"tools": [TOOL, other], "tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}})
    assert [tool["name"] for tool in body["tools"]] == ["other"] and body["tool_choice"] == {"type": "any"}
    assert body["tools"][0]["strict"] and body["tools"][0]["input_schema"]["additionalProperties"] is False


@pytest.mark.parametrize(
    ("effort", "model", "thinking", "config"),
    [
        ("low", NEW, {"type": "adaptive", "display": "summarized"}, {"effort": "low"}),
        ("minimal", NEW, {"type": "adaptive", "display": "summarized"}, {"effort": "low"}),
        ("none", NEW, {"type": "disabled"}, None),
        ("medium", OLD, {"type": "enabled", "budget_tokens": 8192}, None),
        ("high", OLD, {"type": "enabled", "budget_tokens": 9999}, None),
        ("none", OLD, {"type": "disabled"}, None),
        ("low", "claude-3-5-sonnet-20241022", None, None),
        ("strange", NEW, None, None),
    ],
)
def test_reasoning_effort(effort: str, model: str, thinking: Any, config: Any) -> None:
    body, dropped = sent({"reasoning_effort": effort, "max_tokens": 10_000}, model=model)
    assert (body.get("thinking"), body.get("output_config")) == (thinking, config)
    assert (dropped == ("reasoning_effort",)) is (thinking is None)


def test_thinking_gives_way_to_what_the_api_does_not_allow_beside_it() -> None:
    forced = {"tools": [TOOL], "tool_choice": "required", "reasoning_effort": "high"}
    assert "thinking" not in sent(forced)[0] and sent(forced)[0]["output_config"] == {"effort": "high"}
    body, dropped = sent(forced, model=OLD)
    assert "thinking" not in body and dropped == ("reasoning_effort",)
    body, dropped = sent({"reasoning_effort": "high", "max_tokens": 500}, model=OLD)
    assert "thinking" not in body and dropped == ("reasoning_effort",)
    body, dropped = sent({"reasoning_effort": "low", "temperature": 0.3, "max_tokens": 9000}, model=OLD)
    assert "temperature" not in body and dropped == ("temperature",)


def tool_loop(*calls: str) -> list[dict[str, Any]]:
    made = [{"id": call, "type": "function", "function": {"name": "now", "arguments": "{}"}} for call in calls]
    results = [{"role": "tool", "tool_call_id": call, "content": "noon"} for call in calls]
    return [*HELLO, {"role": "assistant", "content": "Let me look.", "tool_calls": made}, *results]


def test_thoughts_go_back_into_their_places() -> None:
    decoder = ADAPTER.decoder()
    kept = next(c.continuation for c in decoder.feed(ANTHROPIC) if c.continuation is not None)
    assert (kept.call_id, kept.kind) == ("toolu_1", "anthropic")
    request = wire({"messages": tool_loop("toolu_1", "toolu_2")}, continuations={"toolu_1": kept.data})
    turn = json.loads(ADAPTER.build_request(request, target()).body)["messages"][1]["content"]
    assert [block["type"] for block in turn] == ["thinking", "redacted_thinking", "text", "tool_use", "tool_use"]
    assert turn[0] == {"type": "thinking", "thinking": "Hm, ü 🌍", "signature": "c2ln"}
    assert turn[1]["data"] == "b3BhcXVl" and turn[2]["text"] == "Let me look."


def test_without_its_thoughts_a_budgeted_model_does_not_think() -> None:
    ask = {"messages": tool_loop("toolu_1"), "tools": [TOOL], "reasoning_effort": "low", "max_tokens": 5000}
    body, dropped = sent(ask, model=OLD)
    assert "thinking" not in body and dropped == ("reasoning_effort",)
    assert sent(ask, model=NEW)[0]["thinking"]["type"] == "adaptive"


def test_usage_in_disjoint_units() -> None:
    decoder = ADAPTER.decoder()
    usage = next(c.usage for c in decoder.feed(ANTHROPIC) if c.usage is not None)
    assert usage.units == {
        "input": 10, "cache_read": 5, "cache_write_5m": 2, "cache_write_1h": 7, "output": 30, "reasoning": 12,
    }  # fmt: skip
    assert (usage.input_tokens, usage.output_tokens, usage.cache_write_tokens) == (24, 42, 9)
    assert json.loads(usage.raw)["output_tokens"] == 42 and json.loads(usage.raw)["input_tokens"] == 10


@pytest.mark.parametrize(
    "raw",
    [
        b'{"input_tokens": -1, "output_tokens": 1}', b'{"input_tokens": "1", "output_tokens": 1}', b"[]", b"\xff",
        b'{"input_tokens": 1, "output_tokens": 1, "output_tokens_details": {"thinking_tokens": 2}}',
    ],
)  # fmt: skip
def test_usage_that_cannot_be_true(raw: bytes) -> None:
    usage = read_usage(raw)
    assert usage is not None and usage.problem and not usage.units
    for nothing in (b"null", b"{}", b'{"input_tokens": 1}'):
        assert read_usage(nothing) is None


@pytest.mark.parametrize(
    ("status", "error", "failure"),
    [
        (400, {"message": "bad"}, Failure.REFUSED_INPUT),
        (400, {"message": "Your credit balance is too low to access the API."}, Failure.REFUSED_CREDENTIAL),
        (401, {}, Failure.REFUSED_CREDENTIAL),
        (404, {}, Failure.BROKEN),
        (413, {}, Failure.REFUSED_INPUT),
        (429, {}, Failure.THROTTLED),
        (429, {"details": {"error_code": "enforced_spend_limit_reached"}}, Failure.REFUSED_CREDENTIAL),
        (500, {}, Failure.BROKEN),
        (529, {}, Failure.BROKEN),
    ],
)
def test_errors(status: int, error: dict[str, Any], failure: Failure) -> None:
    body = json.dumps({"type": "error", "error": {"type": "t", "message": "m"} | error}).encode()
    found = ADAPTER.parse_error(status, headers={"retry-after": "7"}, body=body)
    assert found.failure is failure and found.retry_after_seconds == 7 and found.message


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("overloaded_error", Failure.BROKEN),
        ("rate_limit_error", Failure.THROTTLED),
        ("invalid_request_error", Failure.REFUSED_INPUT),
        ("from_the_future", Failure.BROKEN),
    ],
)
def test_an_error_event_keeps_what_was_said_before(kind: str, failure: Failure) -> None:
    error = json.dumps({"type": "error", "error": {"type": kind, "message": "Sorry."}}).encode()
    decoder = ADAPTER.decoder()
    beginning = ANTHROPIC[: ANTHROPIC.index(b"event: content_block_stop")]
    chunks = decoder.feed(beginning + b"event: error\ndata: " + error + b"\n\n")
    assert [chunk.has_content for chunk in chunks] == [False, True, True]
    assert decoder.failure is not None and not decoder.finished
    assert (decoder.failure.failure, decoder.failure.message) == (failure, "Sorry.")
    assert decoder.feed(ANTHROPIC) == []


@pytest.mark.parametrize("body", [b"", b"\xff", b"<html>", b"[" * 10_000, b'{"error": 1}'])
def test_error_bodies_of_any_kind(body: bytes) -> None:
    assert ADAPTER.parse_error(500, headers={}, body=body).message


def test_models() -> None:
    rows = [{"id": "a", "display_name": "A", "max_input_tokens": 9, "max_tokens": 3, "lifecycle": "active"},
            {"id": "b", "lifecycle": "retired"}]  # fmt: skip
    page = ADAPTER.parse_models(json.dumps({"data": rows, "has_more": True, "last_id": "b"}).encode())
    assert [(m.id, m.context_window, m.max_output_tokens, m.retired) for m in page.models] == [
        ("a", 9, 3, False), ("b", None, None, True),
    ]  # fmt: skip
    assert page.next_page == "b" and "after_id=b" in ADAPTER.list_models(target(), page="b").url
    with pytest.raises(ProviderError):
        ADAPTER.parse_models(b"{}")


def test_the_table_names_every_member_of_openais_request() -> None:
    assert set(CompletionCreateParamsBase.__annotations__) <= set(PARAMETERS)
