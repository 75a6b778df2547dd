"""Google's adapter: what becomes of a request, of usage, of errors."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import msgspec
import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from providers.adapters.google import ADAPTER, NO_SIGNATURE, NO_TEXT, PARAMETERS
from providers.adapters.google_answers import read_usage
from providers.errors import Failure, ProviderError, UnsupportedError
from providers.types import Target, WireRequest
from tests.fakes.google.validation import check_batch, check_generate
from tests.providers.contract.captured import GOOGLE

NEW, OLD = "gemini-3-pro", "gemini-2.5-flash"
HELLO = [{"role": "user", "content": "hi"}]
NOW = {"type": "function", "function": {"name": "now"}}


def target(model: str = NEW, base_url: str = "https://generativelanguage.googleapis.com") -> Target:
    return Target(
        deployment_id=1, model_id=1, model_name="m", provider_name="p", kind="google", allow_private_network=False,
        base_url=base_url, secret="AIza-1", upstream_model=model,
    )  # fmt: skip


def wire(body: dict[str, Any], **more: Any) -> WireRequest:
    members = msgspec.json.decode(json.dumps({"model": "m", "messages": HELLO} | body), type=dict[str, msgspec.Raw])
    return WireRequest(operation="chat", members=members, **more)


def sent(body: dict[str, Any], *, model: str = NEW, **more: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body that goes out, checked as the vendor checks it, and the members that were dropped."""
    request = ADAPTER.build_request(wire(body, **more), target(model))
    form = json.loads(request.body)
    check_generate(form, model=model)
    return form, request.dropped_parameters


@pytest.mark.parametrize(
    ("model", "base_url", "url"),
    [
        ("gemini-3-pro", "https://g.example", "https://g.example/v1/models/gemini-3-pro:generateContent"),
        ("gemini-flash-latest", "https://g.example", "https://g.example/v1beta/models/gemini-flash-latest:generateContent"),
        ("gemini-3-pro", "https://g.example/v1beta", "https://g.example/v1beta/models/gemini-3-pro:generateContent"),
        ("tunedModels/a", "https://g.example/v1", "https://g.example/v1/tunedModels/a:generateContent"),
    ],
)  # fmt: skip
def test_where_it_goes(model: str, base_url: str, url: str) -> None:
    request = ADAPTER.build_request(wire({}), target(model, base_url))
    assert request.url == url and request.headers["x-goog-api-key"] == "AIza-1"
    streamed = ADAPTER.build_request(wire({}, stream=True), target(model, base_url))
    assert streamed.url.endswith(":streamGenerateContent?alt=sse")
    assert ADAPTER.check_health(target()).method == ADAPTER.list_models(target()).method == "GET"


def test_parameters() -> None:
    schema = {"type": "object", "properties": {"a_b": {"type": "string"}}}
    asked = {
        "max_completion_tokens": 9, "temperature": 0.5, "top_p": 0.9, "seed": 3, "presence_penalty": 0.1, "stop": "END",
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}, "verbosity": "low",
        "parallel_tool_calls": False,
    }  # fmt: skip
    body, dropped = sent(asked)
    assert body["generationConfig"] == {
        "maxOutputTokens": 9, "temperature": 0.5, "topP": 0.9, "seed": 3, "presencePenalty": 0.1,
        "stopSequences": ["END"], "responseMimeType": "application/json", "responseJsonSchema": schema,
    }  # fmt: skip
    assert dropped == ("verbosity", "parallel_tool_calls")
    assert sent({"max_tokens": 9}, max_output_tokens=5)[0]["generationConfig"]["maxOutputTokens"] == 5
    assert set(CompletionCreateParamsBase.__annotations__) <= set(PARAMETERS)
    with pytest.raises(UnsupportedError):
        sent({"n": 2})


@pytest.mark.parametrize(
    ("effort", "model", "config"),
    [
        ("low", NEW, {"thinkingLevel": "LOW", "includeThoughts": True}),
        ("none", NEW, {"thinkingLevel": "MINIMAL", "includeThoughts": False}),
        ("max", NEW, {"thinkingLevel": "XHIGH", "includeThoughts": True}),
        ("none", OLD, {"thinkingBudget": 0, "includeThoughts": False}),
        ("medium", OLD, {"thinkingBudget": 8192, "includeThoughts": True}),
        ("low", "gemini-1.5-pro", None),
        ("strange", NEW, None),
    ],
)
def test_reasoning_effort(effort: str, model: str, config: Any) -> None:
    body, dropped = sent({"reasoning_effort": effort}, model=model)
    assert body.get("generationConfig", {}).get("thinkingConfig") == config
    assert (dropped == ("reasoning_effort",)) is (config is None)


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "now"}}, {"mode": "ANY", "allowedFunctionNames": ["now"]}),
    ],
)
def test_tool_choice(choice: Any, config: Any) -> None:
    body, _ = sent({"tools": [NOW], "tool_choice": choice})
    assert body["toolConfig"] == {"functionCallingConfig": config}
    assert body["tools"] == [{"functionDeclarations": [{"name": "now"}]}]


def tool_loop() -> list[dict[str, Any]]:
    """Two calls, whose results come in the other order."""
    calls = [
        {"id": "call_r1_0", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Zürich"}'}},
        {"id": "fc_1", "type": "function", "function": {"name": "now", "arguments": ""}},
    ]
    results = [
        {"role": "tool", "tool_call_id": "fc_1", "content": '{"hour": 12}'},
        {"role": "tool", "tool_call_id": "call_r1_0", "content": "sun"},
    ]
    return [*HELLO, {"role": "assistant", "content": None, "tool_calls": calls}, *results]


def test_signatures_go_back_and_results_follow_the_calls() -> None:
    decoder = ADAPTER.decoder()
    kept = next(c.continuation for c in decoder.feed(GOOGLE) if c.continuation is not None)
    assert (kept.call_id, kept.kind) == ("call_r1_0", "google")
    request = wire({"messages": tool_loop()}, continuations={"call_r1_0": kept.data})
    said, answered = json.loads(ADAPTER.build_request(request, target()).body)["contents"][1:]
    assert said["role"] == "model" and said["parts"][0]["thoughtSignature"] == "c2ln"
    assert "thoughtSignature" not in said["parts"][1] and said["parts"][1]["functionCall"]["args"] == {}
    responses = [part["functionResponse"] for part in answered["parts"]]
    assert [(r["name"], r["response"]) for r in responses] == [("weather", {"result": "sun"}), ("now", {"hour": 12})]


def test_calls_without_their_signature() -> None:
    parts = sent({"messages": tool_loop()})[0]["contents"][1]["parts"]
    assert parts[0]["thoughtSignature"] == NO_SIGNATURE and "thoughtSignature" not in parts[1]
    assert "thoughtSignature" not in sent({"messages": tool_loop()}, model=OLD)[0]["contents"][1]["parts"][0]


def test_media_and_empty_messages() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg?x=1"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0xLjQ="}},
    ]
    body, _ = sent({"messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": parts}]})
    assert body["systemInstruction"] == {"parts": [{"text": "be kind"}]}
    assert body["contents"][0]["parts"] == [
        {"fileData": {"fileUri": "https://example.com/a.jpg?x=1", "mimeType": "image/jpeg"}},
        {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0xLjQ="}},
    ]
    body, _ = sent({"messages": [{"role": "user", "content": ""}]})
    assert body["contents"] == [{"role": "user", "parts": [{"text": NO_TEXT}]}]


def test_usage_in_disjoint_units() -> None:
    usage = next(c.usage for c in ADAPTER.decoder().feed(GOOGLE) if c.usage is not None)
    assert usage.units == {"input": 13, "cache_read": 5, "audio_input": 6, "output": 30, "reasoning": 12}
    assert (usage.input_tokens, usage.output_tokens) == (24, 42) and sum(usage.units.values()) == 66
    for raw in (b"null", b"{}"):
        assert read_usage(raw) is None
    for raw in (b"[]", b"\xff", b'{"promptTokenCount": 1, "cachedContentTokenCount": 2}'):
        doubtful = read_usage(raw)
        assert doubtful is not None and doubtful.problem and not doubtful.units


def test_a_blocked_prompt_and_a_model_that_failed() -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}, "responseId": "r"}
    answer = json.loads(
        ADAPTER.parse_response(WireRequest(operation="chat", members={}), json.dumps(blocked).encode()).body
    )
    assert answer["choices"][0]["finish_reason"] == "content_filter" and answer["usage"]["prompt_tokens"] == 3
    decoder = ADAPTER.decoder()
    decoder.feed(b"data: " + json.dumps(blocked).encode() + b"\r\n\r\n")
    assert decoder.finished and decoder.failure is None
    failed = json.dumps({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]}).encode()
    for body in (failed, b"{}", b"[]", b"\xff"):
        with pytest.raises(ProviderError):
            ADAPTER.parse_response(WireRequest(operation="chat", members={}), body)
    decoder = ADAPTER.decoder()
    decoder.feed(b"data: " + failed + b"\r\n\r\n")
    assert decoder.failure is not None and not decoder.finished


@pytest.mark.parametrize(
    ("status", "error", "failure"),
    [
        (400, {"status": "INVALID_ARGUMENT"}, Failure.REFUSED_INPUT),
        (400, {"status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}, Failure.REFUSED_CREDENTIAL),
        (400, {"status": "FAILED_PRECONDITION"}, Failure.REFUSED_CREDENTIAL),
        (403, {"status": "PERMISSION_DENIED"}, Failure.REFUSED_CREDENTIAL),
        (404, {"status": "NOT_FOUND"}, Failure.BROKEN),
        (429, {"status": "RESOURCE_EXHAUSTED"}, Failure.THROTTLED),
        (499, {"status": "CANCELLED"}, Failure.BROKEN),
        (503, {"status": "UNAVAILABLE"}, Failure.BROKEN),
    ],
)
def test_errors(status: int, error: dict[str, Any], failure: Failure) -> None:
    body = {"error": {"code": status, "message": "m"} | error}
    for form in (body, [body]):
        assert ADAPTER.parse_error(status, headers={}, body=json.dumps(form).encode()).failure is failure


@pytest.mark.parametrize(("delay", "seconds"), [("46s", 46.0), ("1.5s", 1.5), ("soon", None), ("-3s", None)])
def test_how_long_to_wait(delay: str, seconds: float | None) -> None:
    body = json.dumps({"error": {"message": "m", "details": [{"@type": "x"}, {"retryDelay": delay}]}}).encode()
    assert ADAPTER.parse_error(429, headers={}, body=body).retry_after_seconds == seconds


@pytest.mark.parametrize("body", [b"", b"\xff", b"<html>", b"[]", b"[" * 10_000])
def test_error_bodies_of_any_kind(body: bytes) -> None:
    assert ADAPTER.parse_error(500, headers={}, body=body).message


def test_models() -> None:
    rows = [{"name": "models/a", "displayName": "A", "inputTokenLimit": 9, "outputTokenLimit": 3}]
    page = ADAPTER.parse_models(json.dumps({"models": rows, "nextPageToken": "t/2"}).encode())
    assert [(m.id, m.context_window, m.max_output_tokens) for m in page.models] == [("a", 9, 3)]
    assert page.next_page == "t/2" and "pageToken=t/2" in ADAPTER.list_models(target(), page="t/2").url


def embeddings(body: dict[str, Any]) -> WireRequest:
    members = msgspec.json.decode(json.dumps({"model": "m"} | body), type=dict[str, msgspec.Raw])
    return WireRequest(operation="embeddings", members=members)


def test_embeddings() -> None:
    asked = embeddings({"input": ["a", "b c"], "dimensions": 2, "encoding_format": "base64", "x_unknown": 1})
    request = ADAPTER.build_request(asked, target("gemini-embedding-001"))
    assert request.url.endswith("/v1/models/gemini-embedding-001:batchEmbedContents")
    assert request.dropped_parameters == ("x_unknown",)
    form = json.loads(request.body)
    check_batch(form, model="gemini-embedding-001")
    assert [entry["content"]["parts"] for entry in form["requests"]] == [[{"text": "a"}], [{"text": "b c"}]]
    assert {entry["outputDimensionality"] for entry in form["requests"]} == {2}
    told = {"embeddings": [{"values": [0.5, -1]}, {"values": [0, 0.25]}], "usageMetadata": {"promptTokenCount": 3}}
    answer = ADAPTER.parse_response(asked, json.dumps(told).encode())
    body = json.loads(answer.body)
    assert struct.unpack("<2f", base64.b64decode(body["data"][0]["embedding"])) == (0.5, -1)
    assert body["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert answer.usage is not None and answer.usage.units == {"input": 3}
    plain = ADAPTER.parse_response(embeddings({"input": "a"}), b'{"embeddings": [{"values": [1, 2]}]}')
    assert plain.usage is None and json.loads(plain.body)["data"][0]["embedding"] == [1, 2]
    for broken in (b"{}", b'{"embeddings": []}', b'{"embeddings": [{"values": ["x"]}]}', b"\xff"):
        with pytest.raises(ProviderError):
            ADAPTER.parse_response(embeddings({"input": "a"}), broken)
    with pytest.raises(UnsupportedError):
        ADAPTER.build_request(embeddings({"input": [1, 2]}), target())


def shown(*parts: dict[str, Any]) -> bytes:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": "STOP"}
    return json.dumps({"candidates": [candidate], "modelVersion": "m", "responseId": "r"}).encode()


def test_pictures_and_sound_are_not_lost() -> None:
    picture = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    sound = {"inlineData": {"mimeType": "audio/L16;rate=24000", "data": "BBBB"}}
    parts = ({"text": "Look:"}, picture, {**picture, "thought": True}, picture, sound)
    message = json.loads(ADAPTER.parse_response(wire({}), shown(*parts)).body)["choices"][0]["message"]
    assert message["content"] == "Look:"
    assert [entry["image_url"]["url"] for entry in message["images"]] == ["data:image/png;base64,AAAA"] * 2
    assert (message["audio"]["data"], message["audio"]["media_type"]) == ("BBBB", "audio/L16;rate=24000")
    chunks = ADAPTER.decoder().feed(b"data: %b\r\n\r\n" % shown(*parts))
    deltas = [json.loads(chunk.data)["choices"][0]["delta"] for chunk in chunks if chunk.has_content]
    assert [list(delta) for delta in deltas] == [["content"], ["images"], ["images"], ["audio"]]
    assert [delta["images"][0]["index"] for delta in deltas[1:3]] == [0, 1]


def test_what_a_chat_cannot_carry_is_said() -> None:
    film = shown({"inlineData": {"mimeType": "video/mp4", "data": "AAAA"}})
    with pytest.raises(ProviderError, match="video/mp4"):
        ADAPTER.parse_response(wire({}), film)
    decoder = ADAPTER.decoder()
    decoder.feed(b"data: %b\r\n\r\n" % film)
    assert decoder.failure is not None and not decoder.finished
