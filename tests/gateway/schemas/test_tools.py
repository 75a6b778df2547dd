"""Tool round trips through OpenAI's SDK over every adapter: tools inline, in providers' own forms, and by reference."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import jsonschema
import pytest
from openai import BadRequestError, OpenAI
from openai.types.chat import ChatCompletionMessage, ChatCompletionMessageFunctionToolCall
from openai.types.chat.chat_completion_message_function_tool_call import Function

from gateway.schemas.services import withdraw
from tenants.models import Tenant
from tests import factories
from tests.fakes.openai.scripts import Script, ToolCall
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.server import FakeVendor
from tests.gateway.conftest import wait_for_models
from tests.gateway.schemas.conftest import HELLO, Bench, make_type, wait_for_type
from tests.live import LiveServer, until
from tests.providers.contract.providers import UNDER_CONTRACT, UnderContract

PLACE = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "near": {"type": "array", "items": {"$ref": "type:geo.place@1"}},
        "kind": {"$ref": "#/$defs/kind"},
    },
    "required": ["city"],
    "$defs": {"kind": {"enum": ["town", "village"]}},
}
UNIT = {"enum": ["c", "f"]}
QUERY = {
    "type": "object",
    "properties": {"place": {"$ref": "type:geo.place@1"}, "unit": {"$ref": "#/$defs/unit"}},
    "required": ["place"],
    "$defs": {"unit": {"$ref": "type:geo.unit@1"}},
}
NEAR = {"city": "Oslo", "kind": "town", "near": [{"city": "Drammen", "near": [{"city": "Hokksund"}]}]}
ARGUMENTS = {"place": NEAR, "unit": "c"}
WRONG = {"place": {"city": "Oslo", "near": [{"city": 7}]}}
NAME = "weather_query"

BY_REFERENCE = {"type": "schema_ref", "schema": "weather.query@1"}
WITHIN = {"type": "function", "function": {"name": NAME, "parameters": {"$ref": "type:weather.query@1"}}}
BELOW = {
    "type": "function",
    "function": {
        "name": NAME,
        "parameters": {
            "type": "object",
            "properties": {"place": {"$ref": "type:geo.place@1"}, "unit": {"$ref": "type:geo.unit@1"}},
            "required": ["place"],
        },
    },
}
INLINE_SCHEMA = {
    "type": "object",
    "properties": {"place": {"$ref": "#/$defs/place"}, "unit": UNIT},
    "required": ["place"],
    "$defs": {
        "place": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "near": {"type": "array", "items": {"$ref": "#/$defs/place"}}},
            "required": ["city"],
        }
    },
}
INLINE = {"type": "function", "function": {"name": NAME, "parameters": INLINE_SCHEMA}}
ANTHROPIC = {"name": NAME, "description": "d", "input_schema": {"$ref": "type:weather.query@1"}}
GEMINI = {"functionDeclarations": [{"name": NAME, "parametersJsonSchema": INLINE_SCHEMA}]}
RESPONSES = {"type": "function", "name": NAME, "parameters": INLINE_SCHEMA}
FORMS = {
    "reference": BY_REFERENCE,
    "$ref": WITHIN,
    "$ref below": BELOW,
    "inline": INLINE,
    "anthropic": ANTHROPIC,
    "gemini": GEMINI,
    "responses": RESPONSES,
}
KINDS = [entry.kind for entry in UNDER_CONTRACT if entry.kind != "cli"]
WITHOUT_IDS = {"ollama", "mock"}


@dataclass
class Side:
    entry: UnderContract
    fake: FakeVendor | None
    model: str


@dataclass
class Sides:
    sdk: OpenAI
    by_kind: dict[str, Side]


def register(tenant: Tenant) -> None:
    make_type("geo.place", PLACE)
    make_type("geo.unit", UNIT)
    make_type("weather.query", QUERY, tenant=tenant, description="Ask for the weather.")


@pytest.fixture(scope="module")
def sides(made: Bench, servers: dict[str, LiveServer]) -> Iterator[Sides]:
    register(made.tenant)
    key = made.client.headers["authorization"].removeprefix("Bearer ")
    found: dict[str, Side] = {}
    for entry in UNDER_CONTRACT:
        if entry.kind not in KINDS:
            continue
        fake = entry.fake() if entry.fake is not None else None
        if fake is not None:
            fake.__enter__()
        address = fake.base_url if fake is not None else "mock://local"
        provider = factories.make_provider(address, secret=fake.api_key if fake else "", kind=entry.kind)
        model = factories.make_model(provider, upstream_model=entry.upstream_model)
        factories.approve(made.tenant, model)
        found[entry.kind] = Side(entry, fake, model.name)
    wait_for_models(servers["uvicorn"], key, *(side.model for side in found.values()))
    wait_for_type(made.client, "weather.query@1")
    with OpenAI(base_url=str(made.client.base_url), api_key=key, max_retries=0) as sdk:
        yield Sides(sdk, found)
    for side in found.values():
        if side.fake is not None:
            side.fake.__exit__(None, None, None)


@pytest.fixture(params=KINDS)
def side(request: pytest.FixtureRequest, sides: Sides) -> Side:
    found = sides.by_kind[request.param]
    if found.fake is not None:
        found.fake.reset()
    return found


def complete(sdk: OpenAI, *, stream: bool, **asked: Any) -> Any:
    """The first choice's message. The SDK's own helper for streams takes no tools but OpenAI's."""
    if not stream:
        return sdk.chat.completions.create(**asked).choices[0].message
    content, calls = "", {}
    for chunk in sdk.chat.completions.create(stream=True, **asked):
        for choice in chunk.choices:
            content += choice.delta.content or ""
            for call in choice.delta.tool_calls or ():
                assert call.function is not None
                made = calls.setdefault(call.index, ChatCompletionMessageFunctionToolCall.model_construct(id=call.id))
                if call.function.name:
                    made.function = Function(name=call.function.name, arguments="")
                made.function.arguments += call.function.arguments or ""
    tool_calls = [call for _, call in sorted(calls.items())]
    return ChatCompletionMessage.model_construct(role="assistant", content=content or None, tool_calls=tool_calls)


def schema_within(body: Any) -> dict[str, Any]:
    """The tool's parameters, wherever the provider's protocol has them."""
    waiting = [body]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            if "place" in found.get("properties", {}) and found.get("required") == ["place"]:
                return found
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found
    raise AssertionError(f"no schema in {body}")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("form", FORMS)
def test_a_round_trip(sides: Sides, side: Side, form: str, stream: bool) -> None:
    call_id = "call_abc123"
    asked: dict[str, Any] = {"model": side.model, "tools": [FORMS[form]], "messages": [*HELLO]}
    if side.fake is not None:
        made = ToolCall(name=NAME, arguments=json.dumps(ARGUMENTS), id=call_id)
        side.fake.script(Script(tool_calls=(made,)))
    else:
        asked["tool_choice"] = "required"
    message = complete(sides.sdk, stream=stream, **asked)
    (call,) = message.tool_calls
    assert call.function.name == NAME and call.id
    if side.fake is None:
        assert "city" in json.loads(call.function.arguments)["place"]
        return
    assert json.loads(call.function.arguments) == ARGUMENTS
    assert side.entry.kind in WITHOUT_IDS or call.id == call_id
    (asking,) = side.fake.all_ended()
    assert b'"type:' not in asking.raw_body and b"schema_ref" not in asking.raw_body
    sent = schema_within(asking.body)
    validator = jsonschema.Draft202012Validator(sent)
    validator.validate(ARGUMENTS)
    assert not validator.is_valid(WRONG), "a type within a type within itself is still there"

    turn = {"role": "assistant", "content": message.content, "tool_calls": [made_again(call)]}
    asked["messages"] += [turn, {"role": "tool", "tool_call_id": call.id, "content": "3 degrees"}]
    last = complete(sides.sdk, stream=stream, **asked)
    assert last.content and not last.tool_calls
    assert b"3 degrees" in side.fake.all_ended()[-1].raw_body
    if side.entry.kind not in WITHOUT_IDS:
        assert side.fake.all_ended()[-1].raw_body.count(call_id.encode()) >= 2


def made_again(call: Any) -> dict[str, Any]:
    function = {"name": call.function.name, "arguments": call.function.arguments}
    return {"id": call.id, "type": "function", "function": function}


def test_plain_tools_keep_their_bytes(bench: Bench, upstream: FakeOpenAI) -> None:
    tools = (
        b'[ {"type":"function", "function":{"name":"f","parameters":{"x":1.50,"e":1E2}}},{"type":"x_vendor","y":[]} ]'
    )
    body = b'{"model":"%b","messages":[{"role":"user","content":"hi"}],"tools":%b}' % (bench.model.name.encode(), tools)
    upstream.script(Script(text="Fine."))
    bench.client.post("/chat/completions", content=body)
    (asked,) = upstream.wait_until(bool)
    assert b'"tools":' + tools in asked.raw_body


def test_a_tool_may_have_another_name(bench: Bench, sides: Sides, upstream: FakeOpenAI) -> None:
    tool = {**BY_REFERENCE, "name": "look", "description": "Look outside.", "strict": False}
    upstream.script(Script(text="Fine."))
    assert bench.ask(tools=[tool]).status_code == 200
    function = upstream.all_ended()[-1].body["tools"][0]["function"]
    assert (function["name"], function["description"], function["strict"]) == ("look", "Look outside.", False)


CANARY = "http://127.0.0.1:{port}/schema.json"


@pytest.mark.parametrize(
    "make",
    [
        lambda url: {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"$ref": url}}}]},
        lambda url: {"tools": [{"name": "f", "input_schema": {"properties": {"a": {"items": {"$ref": url}}}}}]},
        lambda url: {"tools": [{"functionDeclarations": [{"name": "f", "parameters": {"anyOf": [{"$ref": url}]}}]}]},
        lambda url: {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"$dynamicRef": url}}}]},
        lambda url: {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": url}}}},
        lambda url: {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"$id": url, "properties": {"a": {"$ref": "other.json"}}}},
            }
        },
    ],
    ids=["tool", "anthropic", "gemini", "dynamic", "answer", "relative"],
)
@pytest.mark.parametrize("escaped", [False, True], ids=["plain", "escaped"])
def test_nothing_is_fetched(bench: Bench, upstream: FakeOpenAI, make: Any, escaped: bool) -> None:
    canary = CANARY.format(port=upstream.base_url.partition("127.0.0.1:")[2].partition("/")[0])
    text = json.dumps({"model": bench.model.name, "messages": HELLO, **make(canary)})
    if escaped:
        text = text.replace("$ref", "\\u0024ref").replace("$dynamicRef", "\\u0024dynamicRef")
    answer = bench.client.post("/chat/completions", content=text)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "validation_error"), answer.text
    assert error["param"].startswith(("tools[0]", "response_format"))
    assert upstream.records == [], "neither the canary nor the provider was asked"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tools": [{**BY_REFERENCE, "schema": "weather.query@9"}]}, "tools[0].schema"),
        ({"tools": [{"type": "schema_ref"}]}, "tools[0].schema"),
        ({"tools": [{**BY_REFERENCE, "parameters": {}}]}, "tools[0].parameters"),
        ({"tools": [{"name": "f"}]}, "tools[0].type"),
        (
            {"tools": [{"name": "f", "input_schema": {"properties": {"a": {"$ref": "#/$defs/none"}}}}]},
            "tools[0].input_schema",
        ),
        (
            {"tools": [{"name": "f", "input_schema": {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}}]},
            "tools[0].input_schema",
        ),
        ({"response_format": {"type": "schema_ref", "schema": "nothing@1"}}, "response_format.schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "objct"}}}},
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"pattern": "(("}}}},
            "response_format.json_schema.schema",
        ),
    ],
)
def test_what_cannot_be_resolved_is_refused(
    bench: Bench, sides: Sides, upstream: FakeOpenAI, change: dict[str, Any], param: str
) -> None:
    error = bench.ask(**change).json()["error"]
    assert (error["code"], error["param"]) == ("validation_error", param)
    assert error["message"].startswith(f"{param}: ")
    assert upstream.records == []


def test_an_outsider_has_none_of_it(bench: Bench, sides: Sides, upstream: FakeOpenAI) -> None:
    body = {"model": bench.model.name, "messages": HELLO, "tools": [BY_REFERENCE]}
    answer = bench.outsider.post("/chat/completions", json=body)
    assert answer.status_code == 400 and "there is no type 'weather.query@1'" in answer.json()["error"]["message"]
    within = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "type:weather.query@1"}}}
    answer = bench.outsider.post("/chat/completions", json={**body, "tools": [], "response_format": within})
    assert answer.status_code == 400
    assert upstream.records == []


RECURSIVE_ANSWER = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "type:geo.place@1"}}}
MUST_RECUR = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("anthropic", {"response_format": RECURSIVE_ANSWER}),
        ("anthropic", {"tools": [{**BY_REFERENCE, "strict": True}]}),
        ("google", {"tools": [{"name": "f", "input_schema": MUST_RECUR}]}),
        ("google", {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": MUST_RECUR}}}),
    ],
)
def test_what_contains_itself_is_refused_where_the_provider_cannot_have_it(
    sides: Sides, kind: str, change: dict[str, Any]
) -> None:
    side = sides.by_kind[kind]
    assert side.fake is not None
    side.fake.reset()
    with pytest.raises(BadRequestError) as refused:
        sides.sdk.chat.completions.create(model=side.model, messages=HELLO, **change)  # type: ignore[arg-type]
    assert refused.value.code == "capability_not_supported"
    assert refused.value.body["capability"] == "recursive_schemas"  # type: ignore[index]
    assert side.fake.records == []


def arguments_of(answer: httpx.Response) -> Any:
    return json.loads(answer.json()["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"])


VALIDATE = {"X-Gateway-Validate-Arguments": "true"}


def test_arguments_are_looked_at_when_asked(bench: Bench, sides: Sides, upstream: FakeOpenAI) -> None:
    wrong = ToolCall(name=NAME, arguments=json.dumps(WRONG), id="call_one")
    other = ToolCall(name=NAME, arguments=json.dumps(ARGUMENTS), id="call_two")
    upstream.script(Script(tool_calls=(wrong,)))
    answer = bench.ask(tools=[BY_REFERENCE])
    assert answer.status_code == 200 and arguments_of(answer) == WRONG, "nobody asked"
    upstream.reset()
    upstream.script(Script(tool_calls=(wrong, other)))
    upstream.script(Script(tool_calls=(other,)))
    answer = bench.ask(tools=[BY_REFERENCE], headers=VALIDATE)
    assert answer.status_code == 200 and arguments_of(answer) == ARGUMENTS
    assert answer.headers["x-gateway-validation"] == "reasked"
    *_, turn, first, second = upstream.all_ended()[-1].body["messages"]
    assert [call["id"] for call in turn["tool_calls"]] == ["call_one", "call_two"]
    assert (first["tool_call_id"], second["tool_call_id"]) == ("call_one", "call_two")
    assert "/place/near/0/city" in first["content"] and second["content"].startswith("Not run")
    bench.charges(answer, 2)


def test_arguments_are_repaired_and_refused(bench: Bench, sides: Sides, upstream: FakeOpenAI) -> None:
    upstream.script(Script(tool_calls=(ToolCall(name=NAME, arguments=json.dumps(ARGUMENTS)[:-1] + ",}"),)))
    answer = bench.ask(tools=[INLINE], headers=VALIDATE)
    assert answer.headers["x-gateway-validation"] == "repaired" and arguments_of(answer) == ARGUMENTS
    upstream.script(Script(tool_calls=(ToolCall(name=NAME, arguments="{"),)), times=2)
    answer = bench.ask(tools=[INLINE], headers=VALIDATE)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (502, "response_validation_failed")
    assert error["violations"][0]["in"] == "choices[0].message.tool_calls[0].function.arguments"
    bench.charges(answer, 2)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "mock"])
def test_every_provider_is_asked_again_in_its_own_words(sides: Sides, kind: str) -> None:
    side = sides.by_kind[kind]
    assert side.fake is not None
    side.fake.reset()
    side.fake.script(Script(tool_calls=(ToolCall(name=NAME, arguments=json.dumps(WRONG)),)))
    side.fake.script(Script(tool_calls=(ToolCall(name=NAME, arguments=json.dumps(ARGUMENTS)),)))
    tools: Any = [BY_REFERENCE]
    asked = sides.sdk.chat.completions.create(
        model=side.model,
        messages=HELLO,
        tools=tools,
        extra_headers=VALIDATE,  # type: ignore[arg-type]
    )
    (call,) = asked.choices[0].message.tool_calls or ()
    assert json.loads(call.function.arguments) == ARGUMENTS  # type: ignore[union-attr]
    assert len(side.fake.all_ended()) == 2


def test_a_withdrawn_type_is_refused(bench: Bench, sides: Sides, upstream: FakeOpenAI) -> None:
    gone = make_type("old.thing", {"type": "object"}, tenant=bench.tenant)
    wait_for_type(bench.client, gone.reference)
    withdraw(gone, by=None)
    path = f"/types/{gone.reference}"
    until(lambda: bench.client.get(path).json()["state"] == "withdrawn", what="the withdrawal")
    error = bench.ask(tools=[{"type": "schema_ref", "schema": gone.reference}]).json()["error"]
    assert error["code"] == "validation_error" and "withdrawn" in error["message"]
