"""Ollama's adapter: what becomes of a request, of counts, of errors."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import msgspec
import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from providers.adapters.ollama import ADAPTER, PARAMETERS
from providers.adapters.ollama_answers import read_usage
from providers.errors import Failure, ProviderError, UnsupportedError
from providers.types import Target, WireRequest
from tests.fakes.ollama.validation import check_chat, check_embed
from tests.providers.contract.captured import OLLAMA

HELLO = [{"role": "user", "content": "hi"}]
NOW = {"type": "function", "function": {"name": "now"}}
DONE: dict[str, Any] = {"model": "llama3.2", "message": {"content": "hi"}, "done": True, "done_reason": "stop"}


def target(base_url: str = "http://10.0.0.7:11434", **more: Any) -> Target:
    return Target(
        deployment_id=1, model_id=1, model_name="m", provider_name="p", kind="ollama", allow_private_network=True,
        base_url=base_url, secret=None, upstream_model="llama3.2", **more,
    )  # fmt: skip


def wire(body: dict[str, Any], *, operation: str = "chat", **more: Any) -> WireRequest:
    members = msgspec.json.decode(json.dumps({"model": "m"} | body), type=dict[str, msgspec.Raw])
    return WireRequest(operation=operation, members=members, **more)


def sent(body: dict[str, Any], *, window: int | None = None, **more: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body that goes out, checked as the server checks it, and the members that were dropped."""
    request = ADAPTER.build_request(wire({"messages": HELLO} | body, **more), target(context_window=window))
    form = json.loads(request.body)
    check_chat(form)
    return form, request.dropped_parameters


@pytest.mark.parametrize("base_url", ["http://10.0.0.7:11434", "http://10.0.0.7:11434/v1", "http://10.0.0.7:11434/api"])
def test_where_it_goes(base_url: str) -> None:
    request = ADAPTER.build_request(wire({"messages": HELLO}), target(base_url))
    assert request.url == "http://10.0.0.7:11434/api/chat" and "authorization" not in request.headers
    assert ADAPTER.check_health(target(base_url)).url == "http://10.0.0.7:11434/api/tags"
    cloud = msgspec.structs.replace(target(), secret="key-1")
    assert ADAPTER.list_models(cloud).headers == {"authorization": "Bearer key-1"}


def test_parameters() -> None:
    asked = {
        "max_completion_tokens": 9, "temperature": 0.5, "top_p": 0.9, "seed": 3, "presence_penalty": 0.1, "stop": "END",
        "parallel_tool_calls": False, "tools": [NOW], "verbosity": "low", "keep_alive": "24h", "logit_bias": {},
    }  # fmt: skip
    body, dropped = sent(asked, window=32_000)
    assert body["stream"] is False
    assert body["options"] == {
        "num_predict": 9, "temperature": 0.5, "top_p": 0.9, "seed": 3, "presence_penalty": 0.1, "stop": ["END"],
        "num_ctx": 32_000,
    }  # fmt: skip
    assert set(dropped) == {"verbosity", "keep_alive", "parallel_tool_calls"}
    assert sent({"max_tokens": 9}, max_output_tokens=5)[0]["options"] == {"num_predict": 5}
    assert set(CompletionCreateParamsBase.__annotations__) <= set(PARAMETERS)
    for refused in ({"n": 2}, {"tools": [NOW], "tool_choice": "required"}):
        with pytest.raises(UnsupportedError):
            sent(refused)


@pytest.mark.parametrize(
    ("effort", "think"), [("none", False), ("minimal", "low"), ("medium", "medium"), ("max", "high"), ("strange", None)]
)
def test_how_hard_to_think(effort: str, think: Any) -> None:
    body, dropped = sent({"reasoning_effort": effort})
    assert body.get("think") == think
    assert dropped == (("reasoning_effort",) if think is None else ())


def test_messages() -> None:
    calls = [
        {"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for number, (name, arguments) in enumerate([("weather", '{"city": "Rome"}'), ("now", "")])
    ]
    shown = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    text = "data:text/plain;base64," + base64.b64encode(b"read me").decode()
    told = [
        {"role": "system", "content": "be kind"},
        {"role": "developer", "content": "be brief"},
        *HELLO,
        {"role": "assistant", "content": "Well.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
        {"role": "tool", "tool_call_id": "c0", "content": "sun"},
        {"role": "user", "content": [
            {"type": "text", "text": "and?"}, shown, {"type": "file", "file": {"file_data": text}}]},
    ]  # fmt: skip
    assert sent({"messages": told})[0]["messages"] == [
        {"role": "system", "content": "be kind\n\nbe brief"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Well.", "tool_calls": [
            {"function": {"name": "weather", "arguments": {"city": "Rome"}}},
            {"function": {"name": "now", "arguments": {}}}]},
        {"role": "tool", "content": "sun", "tool_name": "weather"},
        {"role": "tool", "content": "noon", "tool_name": "now"},
        {"role": "user", "content": "and?\nread me", "images": ["AAAA"]},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("part", "capability"),
    [
        ({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, "image_urls"),
        ({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}, "audio"),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,AA"}}, "documents"),
    ],
)
def test_what_it_cannot_be_shown(part: dict[str, Any], capability: str) -> None:
    with pytest.raises(UnsupportedError) as refused:
        sent({"messages": [{"role": "user", "content": [part]}]})
    assert refused.value.capability == capability
    assert refused.value.param is not None and refused.value.param.startswith("messages[0].content[0]")


def embed(body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    request = wire(body, operation="embeddings")
    check_embed(json.loads(ADAPTER.build_request(request, target()).body))
    return json.loads(ADAPTER.parse_response(request, json.dumps(answer).encode()).body)


def test_embeddings() -> None:
    built = ADAPTER.build_request(wire({"input": "a", "dimensions": 2, "user": "u"}, operation="embeddings"), target())
    assert built.url.endswith("/api/embed") and built.dropped_parameters == ()
    assert json.loads(built.body) == {"model": "llama3.2", "input": ["a"], "dimensions": 2, "truncate": False}
    told = {"embeddings": [[0.5, -1], [0, 0.25]], "prompt_eval_count": 3}
    body = embed({"input": ["a", "b c"]}, told)
    CreateEmbeddingResponse.model_validate(body)
    assert [row["embedding"] for row in body["data"]] == told["embeddings"]
    assert body["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    packed = embed({"input": ["a", "b c"], "encoding_format": "base64"}, told)["data"][0]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(packed)) == (0.5, -1)
    assert "usage" not in embed({"input": "a"}, {"embeddings": [[1]]})


@pytest.mark.parametrize("given", [[1, 2], [[1], [2]]])
def test_tokens_cannot_be_embedded(given: Any) -> None:
    with pytest.raises(UnsupportedError) as refused:
        ADAPTER.build_request(wire({"input": given}, operation="embeddings"), target())
    assert (refused.value.capability, refused.value.param) == ("token_input", "input")


@pytest.mark.parametrize("answer", [{"embeddings": []}, {"embeddings": [["x"]]}, {"embeddings": [[1e300]]}, {}, []])
def test_embeddings_that_are_none(answer: Any) -> None:
    request = wire({"input": "a", "encoding_format": "base64"}, operation="embeddings")
    with pytest.raises(ProviderError):
        ADAPTER.parse_response(request, json.dumps(answer).encode())


def test_counts() -> None:
    usage = ADAPTER.decoder().feed(OLLAMA)[-1].usage
    assert usage is not None and usage.units == {"input": 20, "output": 42}
    assert json.loads(usage.raw)["eval_duration"] == 400_000_000
    assert read_usage(b'{"eval_count": 5}') is None
    for raw in (b'{"prompt_eval_count": -1}', b'{"prompt_eval_count": "5"}', b'{"prompt_eval_count": 1e30}'):
        doubtful = read_usage(raw)
        assert doubtful is not None and doubtful.problem and not doubtful.units


def test_a_model_that_was_only_loaded() -> None:
    body = json.dumps({**DONE, "message": {"content": ""}, "done_reason": "load"}).encode()
    for broken in (body, b"{}", b"[]", b"\xff", b'{"error": "no"}'):
        with pytest.raises(ProviderError):
            ADAPTER.parse_response(wire({}), broken)
    decoder = ADAPTER.decoder()
    decoder.feed(body + b"\n")
    assert decoder.failure is not None and not decoder.finished


def test_an_error_line_ends_a_stream() -> None:
    decoder = ADAPTER.decoder()
    chunks = decoder.feed(OLLAMA.split(b"\n")[0] + b'\n{"error": "out of memory"}\n')
    assert chunks and decoder.failure is not None and not decoder.finished
    assert (decoder.failure.failure, decoder.failure.message) == (Failure.BROKEN, "out of memory")


@pytest.mark.parametrize(
    ("status", "body", "failure"),
    [
        (404, b'{"error": "model \'x\' not found"}', Failure.BROKEN),
        (400, b'{"error": "invalid options"}', Failure.REFUSED_INPUT),
        (400, b'{"error": "\\"gemma\\" does not support tools"}', Failure.UNSUPPORTED),
        (400, b'{"error": "\\"gemma\\" does not support thinking"}', Failure.UNSUPPORTED),
        (402, b'{"error": {"message": "pay first"}}', Failure.REFUSED_CREDENTIAL),
        (503, b"busy", Failure.BROKEN),
        (500, b"", Failure.BROKEN),
    ],
)
def test_errors(status: int, body: bytes, failure: Failure) -> None:
    error = ADAPTER.parse_error(status, headers={}, body=body)
    assert error.failure is failure and error.message
    if isinstance(error, UnsupportedError):
        assert error.capability in ("tools", "reasoning")


def test_models() -> None:
    page = ADAPTER.parse_models(b'{"models": [{"name": "a:latest", "model": "a:latest", "size": 1}]}')
    assert [model.id for model in page.models] == ["a:latest"] and page.next_page is None
    with pytest.raises(ProviderError):
        ADAPTER.parse_models(b"[]")
