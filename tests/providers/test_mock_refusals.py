"""What the offline mock refuses: in the vendor's envelope, and never by raising."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.adapters.mock import ADAPTER
from providers.mock_provider import answer
from providers.types import WireRequest
from tests.providers.mock_calls import HELLO, TARGET, ask, body_of

MISSING = "missing_required_parameter"
NAMELESS_TOOL = [{"type": "function", "function": {}}]
BAD_TOOL = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": 1}}}]
BAD_SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#/absent"}}}


@pytest.mark.parametrize(
    ("operation", "members", "param", "code"),
    [
        ("chat", {}, "messages", MISSING),
        ("chat", {"messages": "hi"}, "messages", "invalid_type"),
        ("chat", {"messages": []}, "messages", "invalid_value"),
        ("chat", {"messages": [{"role": "robot"}]}, "messages[0].role", "invalid_value"),
        ("chat", {"messages": [{"content": "x"}]}, "messages[0].role", MISSING),
        ("chat", {"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, "messages[0].content[0].type", None),
        ("chat", {"messages": HELLO, "n": 0}, "n", "invalid_value"),
        ("chat", {"messages": HELLO, "max_tokens": "3"}, "max_tokens", "invalid_type"),
        ("chat", {"messages": HELLO, "tools": NAMELESS_TOOL}, "tools[0].function.name", MISSING),
        ("chat", {"messages": HELLO, "tools": [{"type": "function"}]}, "tools[0].function", MISSING),
        ("chat", {"messages": HELLO, "tools": BAD_TOOL}, "tools.function.parameters", "invalid_function_parameters"),
        ("chat", {"messages": HELLO, "tool_choice": "required"}, "tool_choice", None),
        ("chat", {"messages": HELLO, "response_format": BAD_SCHEMA}, "response_format.json_schema.schema", None),
        ("chat", {"messages": HELLO, "stream": True, "response_format": {"type": "xml"}}, "response_format.type", None),
        ("embeddings", {}, "input", MISSING),
        ("embeddings", {"input": []}, "input", "invalid_value"),
        ("embeddings", {"input": [1, "a"]}, "input", None),
        ("embeddings", {"input": [[]]}, "input", None),
        ("embeddings", {"input": ""}, "input", None),
        ("embeddings", {"input": "x", "dimensions": 0}, "dimensions", "invalid_value"),
    ],
)
def test_wrong_requests_get_the_vendors_envelope(
    operation: str, members: dict[str, Any], param: str, code: str | None
) -> None:
    reply = ask(operation, **members)
    body = body_of(reply)
    assert (reply.status, body.keys()) == (400, {"error"})
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert (body["error"]["type"], body["error"]["param"]) == ("invalid_request_error", param)
    assert code is None or body["error"]["code"] == code
    error = ADAPTER.parse_error(reply.status, headers=reply.headers, body=json.dumps(body).encode())
    assert (error.param, error.message, error.may_try_another) == (param, body["error"]["message"], False)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"null", b'{"messages":' + b"[" * 5000, b'{"n": 1e999}'])
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    request = ADAPTER.build_request(WireRequest(operation="chat", members={}), TARGET)
    assert answer(msgspec.structs.replace(request, body=body)).status == 400


def test_another_path_is_not_found() -> None:
    request = ADAPTER.build_request(WireRequest(operation="chat", members={}), TARGET)
    reply = answer(msgspec.structs.replace(request, url="mock://local/images/variations"))
    assert (reply.status, body_of(reply)["error"]["code"]) == (404, "unknown_url")


def test_the_adapter_sends_no_secret_and_has_one_address() -> None:
    target = msgspec.structs.replace(TARGET, secret="sk-1", base_url="https://example.com")
    request = ADAPTER.build_request(WireRequest(operation="embeddings", members={}), target)
    assert request.url == "mock://local/embeddings"
    assert "authorization" not in request.headers


MEMBERS = [
    "role", "content", "type", "text", "name", "function", "parameters", "json_schema", "schema",
    "properties", "items", "$ref", "anyOf", "allOf", "enum", "required", "minLength", "minItems", "pattern", "minimum",
]  # fmt: skip
WORDS = ["user", "tool", "text", "function", "custom", "object", "array", "string", "#", "required"]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8)
    | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(MEMBERS), inner, max_size=4
    ),
    max_leaves=12,
)  # fmt: skip
OPTIONAL = [
    "n", "stop", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls", "functions",
    "function_call", "response_format",
]  # fmt: skip


@settings(deadline=None)
@given(st.fixed_dictionaries({"messages": st.just(HELLO) | anything}, optional=dict.fromkeys(OPTIONAL, anything)))
def test_no_chat_request_raises(members: dict[str, Any]) -> None:
    reply = ask(**members)
    assert reply.status in (200, 400)
    assert all(isinstance(data, bytes) for _, data in reply.parts)


@settings(deadline=None)
@given(anything)
def test_no_schema_raises(schema: Any) -> None:
    function = {"name": "f", "parameters": {"properties": {"x": schema}, "required": ["x"]}}
    reply = ask(messages=HELLO, tools=[{"type": "function", "function": function}])
    assert reply.status in (200, 400)


@settings(deadline=None)
@given(anything)
def test_no_embeddings_request_raises(given_input: Any) -> None:
    assert ask("embeddings", input=given_input, dimensions=3).status in (200, 400)
