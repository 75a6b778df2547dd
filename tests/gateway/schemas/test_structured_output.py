"""Answers that are held to a schema: sixty broken ones, what becomes of each, and what it costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

import httpx
import pydantic
import pytest
from django.core.management import call_command
from openai import InternalServerError, OpenAI

from billing.models import Budget
from tests import factories
from tests.fakes.openai.scripts import Script, ToolCall
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import wait_for_models
from tests.gateway.schemas.broken_answers import BROKEN, GOOD, Broken
from tests.gateway.schemas.conftest import FITTING, HELLO, WEATHER, Bench
from tests.live import LiveServer, until

INLINE = {"type": "json_schema", "json_schema": {"name": "weather", "schema": WEATHER}}
BY_TYPE = {"type": "schema_ref", "schema": "weather.report@1"}
WITHIN = {"type": "json_schema", "json_schema": {"name": "w", "schema": {"$ref": "type:weather.report@1"}}}
UNREPAIRABLE = [broken for broken in BROKEN if not broken.is_repaired]
HOLD = {"X-Gateway-Hold-Stream": "true"}


@pytest.fixture(scope="module", autouse=True)
def money_adds_up(made: Bench) -> Iterator[None]:
    yield
    call_command("verify_money", stdout=StringIO())


def said(answer: Any) -> Any:
    return json.loads(answer.json()["choices"][0]["message"]["content"])


def broken_script(broken: Broken) -> Script:
    return Script(text=broken.text, finish_reason=broken.finish_reason)


@pytest.mark.parametrize("response_format", [INLINE, BY_TYPE, WITHIN], ids=["inline", "by type", "within"])
def test_a_valid_answer_passes_untouched(bench: Bench, upstream: FakeOpenAI, response_format: Any) -> None:
    text = f"\n{GOOD}  "
    upstream.script(Script(text=text, extra={"x_vendor": 2**63 - 1}))
    answer = bench.ask(response_format=response_format)
    assert answer.status_code == 200 and answer.headers["x-gateway-validation"] == "valid"
    assert answer.json()["choices"][0]["message"]["content"] == text
    assert answer.json()["x_vendor"] == 2**63 - 1
    sent = upstream.all_ended()[-1].body["response_format"]
    assert sent["type"] == "json_schema" and sent["json_schema"]["schema"] == WEATHER
    bench.charges(answer, 1)


@pytest.mark.parametrize("broken", [one for one in BROKEN if one.is_repaired], ids=lambda one: one.name)
def test_what_stands_around_a_value_is_taken_away(bench: Bench, upstream: FakeOpenAI, broken: Broken) -> None:
    upstream.script(broken_script(broken))
    answer = bench.ask(response_format=INLINE)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-gateway-validation"] == "repaired"
    assert {"degrees": 3, "sky": "clear"}.items() <= said(answer).items()
    assert len(upstream.all_ended()) == 1
    bench.charges(answer, 1)


@pytest.mark.parametrize("broken", UNREPAIRABLE, ids=lambda one: one.name)
def test_the_model_is_asked_once_more(bench: Bench, upstream: FakeOpenAI, broken: Broken) -> None:
    upstream.script(broken_script(broken))
    upstream.script(Script(text=GOOD))
    answer = bench.ask(response_format=INLINE)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-gateway-validation"] == "reasked" and answer.headers["x-gateway-attempts"] == "2"
    assert said(answer) == FITTING
    _, again = upstream.all_ended()
    *_, told = again.body["messages"]
    assert told["role"] == "user" and "does not match" in told["content"]
    if broken.text:
        assert again.body["messages"][-2] == {"role": "assistant", "content": broken.text}
    bench.charges(answer, 2)


@pytest.mark.parametrize("broken", UNREPAIRABLE, ids=lambda one: one.name)
def test_what_never_matches_is_refused(bench: Bench, upstream: FakeOpenAI, broken: Broken) -> None:
    upstream.script(broken_script(broken), times=2)
    answer = bench.ask(response_format=INLINE)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (502, "response_validation_failed")
    assert answer.headers["x-should-retry"] == "false" and error["asked_again"] is True
    assert {"in", "path", "keyword", "message"} == set(error["violations"][0])
    assert error["violations"][0]["in"] == "choices[0].message.content"
    if broken.says:
        assert broken.says in {violation["keyword"] for violation in error["violations"]}
    assert len(answer.content) < 8 * 1024
    assert len(upstream.all_ended()) == 2
    bench.charges(answer, 2)


def test_the_trace_tells_of_both_attempts_and_not_of_what_was_said(bench: Bench, upstream: FakeOpenAI) -> None:
    upstream.script(Script(text='{"city": "canary-of-the-answer"}'))
    upstream.script(Script(text=GOOD))
    answer = bench.ask(response_format=INLINE)
    bench.charges(answer, 2)
    request_id = answer.headers["x-request-id"]
    story = until(
        lambda: (found := bench.client.get(f"/requests/{request_id}").json()).get("status") and found, what="the trace"
    )
    assert [attempt["outcome"] for attempt in story["attempts"]] == ["answered", "answered"]
    assert story["attempts"][0]["message"] == "The answer did not match its schema: required."
    assert story["attempts"][1]["message"] is None
    assert all(attempt["charge"]["cost_usd"] for attempt in story["attempts"])
    assert "canary" not in json.dumps(story)


def test_a_provider_that_failed_first(bench: Bench, upstream: FakeOpenAI) -> None:
    upstream.script(Script(status=500, error={"message": "busy"}))
    upstream.script(Script(text="{}"), times=None)
    answer = bench.ask(response_format=INLINE)
    error = answer.json()["error"]
    assert error["code"] == "response_validation_failed" and error["asked_again"] is True
    assert len(upstream.all_ended()) == 3


def test_a_model_that_cannot_be_asked_again(bench: Bench, upstream: FakeOpenAI) -> None:
    upstream.script(Script(text="{}"))
    upstream.script(Script(status=400, error={"message": "too long"}))
    answer = bench.ask(response_format=INLINE)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (502, "response_validation_failed")
    assert error["asked_again"] is False and error["not_asked_again"] == "validation_error"
    assert "too long" in error["message"]


def test_a_budget_has_no_room_for_a_second_attempt(
    bench: Bench, upstream: FakeOpenAI, servers: dict[str, LiveServer]
) -> None:
    tenant = factories.make_tenant()
    factories.approve(tenant, bench.model)
    Budget.objects.create(tenant=tenant, limit_nano_usd=700_000, scope="tenant", period="month")
    key = factories.make_key(tenant)[1]
    wait_for_models(servers["uvicorn"], key, bench.model.name)
    upstream.script(Script(text="{}", usage={"prompt_tokens": 20, "completion_tokens": 1000, "total_tokens": 1020}))
    body = {"model": bench.model.name, "messages": HELLO, "response_format": INLINE, "max_tokens": 1000}
    with servers["uvicorn"].client(key) as client:
        error = client.post("/chat/completions", json=body).json()["error"]
    assert (error["code"], error["not_asked_again"]) == ("response_validation_failed", "budget_exceeded")
    assert len(upstream.all_ended()) == 1


def test_a_model_without_structured_output_is_told(bench: Bench, upstream: FakeOpenAI) -> None:
    upstream.script(Script(text=f"```json\n{GOOD}\n```"))
    answer = bench.ask(model=bench.plain.name, response_format=BY_TYPE)
    assert answer.status_code == 200 and said(answer) == FITTING
    asked = upstream.all_ended()[-1].body
    assert "response_format" not in asked
    instruction, question = asked["messages"]
    assert instruction["role"] == "system" and json.dumps(WEATHER, separators=(",", ":")) in instruction["content"]
    assert question == HELLO[0]
    bench.charges(answer, 1)


@pytest.mark.parametrize(
    ("script", "tools"),
    [
        (Script(refusal="I will not."), None),
        (Script(text="wel", finish_reason="content_filter"), None),
        (Script(tool_calls=(ToolCall(name="f"),)), [{"type": "function", "function": {"name": "f"}}]),
    ],
    ids=["refused", "filtered", "tool"],
)
def test_what_is_no_answer_is_held_to_nothing(bench: Bench, upstream: FakeOpenAI, script: Script, tools: Any) -> None:
    upstream.script(script)
    answer = bench.ask(response_format=INLINE, **({"tools": tools} if tools else {}))
    assert answer.status_code == 200 and answer.headers["x-gateway-validation"] == "valid"
    assert len(upstream.all_ended()) == 1


def test_every_one_of_several_answers_counts(bench: Bench, upstream: FakeOpenAI) -> None:
    message = {"role": "assistant", "content": GOOD}
    fenced = {"role": "assistant", "content": f"```\n{GOOD}\n```"}
    choices = [
        {"index": number, "message": one, "finish_reason": "stop"} for number, one in enumerate((message, fenced))
    ]
    usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
    upstream.script(Script(body={"id": "x", "object": "chat.completion", "choices": choices, "usage": usage}))
    answer = bench.ask(response_format=INLINE, n=2)
    assert answer.headers["x-gateway-validation"] == "repaired"
    assert [json.loads(choice["message"]["content"]) for choice in answer.json()["choices"]] == [FITTING, FITTING]


OBJECT = {"type": "json_object"}
ASK_FOR_JSON = [{"role": "user", "content": "The weather in JSON, please."}]


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ('{"any": ["thing"]}', "valid"),
        ("{}", "valid"),
        ('```json\n{"any": 1,}\n```', "repaired"),
        ('Here it is: {"any": 1}', "repaired"),
        ("[1, 2]", "reasked"),
        ('"text"', "reasked"),
        ("It is cold.", "reasked"),
        ("", "reasked"),
        ('{"cut": "of', "reasked"),
        ('{"one": 1} {"two": 2}', "reasked"),
    ],
)
def test_a_json_object_is_one(bench: Bench, upstream: FakeOpenAI, text: str, outcome: str) -> None:
    for model in (bench.model, bench.plain):
        upstream.reset()
        upstream.script(Script(text=text))
        upstream.script(Script(text='{"again": true}'))
        answer = bench.ask(messages=ASK_FOR_JSON, response_format=OBJECT, model=model.name)
        assert (answer.status_code, answer.headers["x-gateway-validation"]) == (200, outcome), answer.text
        assert isinstance(said(answer), dict)
        first, *_ = asked = upstream.all_ended()
        assert first.body["response_format"] == OBJECT and first.body["messages"] == ASK_FOR_JSON
        bench.charges(answer, len(asked))
        assert len(asked) == (2 if outcome == "reasked" else 1)


def test_what_never_is_a_json_object_is_refused(bench: Bench, upstream: FakeOpenAI) -> None:
    upstream.script(Script(text="[]"), times=2)
    answer = bench.ask(messages=ASK_FOR_JSON, response_format=OBJECT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "response_validation_failed")
    assert answer.json()["error"]["violations"][0]["keyword"] == "type"
    bench.charges(answer, 2)
    upstream.script(Script(text="no"))
    last = events(bench.ask(messages=ASK_FOR_JSON, response_format=OBJECT, stream=True))[-1]
    assert last["error"]["code"] == "response_validation_failed"
    upstream.script(Script(text="no"))
    upstream.script(Script(text="{}"))
    held = bench.ask(messages=ASK_FOR_JSON, response_format=OBJECT, stream=True, headers=HOLD)
    assert held.headers["x-gateway-validation"] == "reasked" and events(held)[-1] == "[DONE]"


def events(answer: httpx.Response) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    return [json.loads(line) if line.startswith("{") else line for line in lines]


PIECES = tuple(GOOD[at : at + 7] for at in range(0, len(GOOD), 7))


def test_a_stream_is_checked_at_its_end(bench: Bench, upstream: FakeOpenAI) -> None:
    upstream.script(Script(pieces=PIECES, split_bytes=5))
    answer = bench.ask(response_format=INLINE, stream=True, stream_options={"include_usage": True})
    *_, usage, mark = events(answer)
    assert mark == "[DONE]" and usage["choices"] == []
    bench.charges(answer, 1)


@pytest.mark.parametrize("usage", [False, True], ids=["plain", "with usage"])
def test_a_stream_that_does_not_match_ends_with_an_error(bench: Bench, upstream: FakeOpenAI, usage: bool) -> None:
    upstream.script(Script(pieces=("```json\n", *PIECES, "\n```")))
    more = {"stream_options": {"include_usage": True}} if usage else {}
    answer = bench.ask(response_format=INLINE, stream=True, **more)
    assert answer.status_code == 200
    *rest, error = events(answer)
    assert (error["error"]["code"], error["error"]["finish_reason"]) == ("response_validation_failed", "error")
    assert error["error"]["violations"][0]["keyword"] == "json"
    assert "[DONE]" not in rest and (rest[-1]["choices"] == []) is usage
    assert len(upstream.all_ended()) == 1, "the client has it already: nobody is asked again"
    bench.charges(answer, 1)


def test_a_stream_of_tool_calls_is_checked_too(bench: Bench, upstream: FakeOpenAI) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": WEATHER}}]
    headers = {"X-Gateway-Validate-Arguments": "true"}
    for arguments, ending in ((GOOD, "[DONE]"), ("{}", "response_validation_failed")):
        upstream.script(Script(tool_calls=(ToolCall(name="f", arguments=arguments),)))
        last = events(bench.ask(tools=tools, stream=True, headers=headers))[-1]
        assert ending in (last, last["error"]["code"] if isinstance(last, dict) else "")


@pytest.mark.parametrize("usage", [False, True], ids=["plain", "with usage"])
def test_a_held_stream_begins_when_its_answer_is_valid(bench: Bench, upstream: FakeOpenAI, usage: bool) -> None:
    upstream.script(Script(text='{"city": 7}'))
    upstream.script(Script(text=f"Here: {GOOD}"))
    more = {"stream_options": {"include_usage": True}} if usage else {}
    answer = bench.ask(response_format=INLINE, stream=True, headers=HOLD, **more)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-gateway-validation"] == "reasked"
    *chunks, mark = events(answer)
    assert mark == "[DONE]" and (chunks[-1]["choices"] == []) is usage
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert json.loads("".join(delta.get("content") or "" for delta in deltas)) == FITTING
    assert not any(record.stream for record in upstream.all_ended())
    bench.charges(answer, 2)


def test_a_held_stream_that_never_matches_is_no_stream(bench: Bench, upstream: FakeOpenAI) -> None:
    upstream.script(Script(text="{}"), times=2)
    answer = bench.ask(response_format=INLINE, stream=True, headers=HOLD)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "response_validation_failed")
    bench.charges(answer, 2)


def test_openais_sdk_reads_all_of_it(bench: Bench, upstream: FakeOpenAI) -> None:
    key = bench.client.headers["authorization"].removeprefix("Bearer ")
    with OpenAI(base_url=str(bench.client.base_url), api_key=key) as sdk:
        asked: dict[str, Any] = {"model": bench.model.name, "messages": HELLO}
        text = '```\n{"city": "Oslo", "degrees": 3, "sky": "clear"}\n```'
        upstream.script(Script(text=text))
        parsed = sdk.chat.completions.parse(**asked, response_format=Weather).choices[0].message.parsed
        assert parsed is not None and parsed.city == "Oslo"
        upstream.script(Script(text=text))
        with sdk.chat.completions.stream(**asked, response_format=Weather, extra_headers=HOLD) as stream:
            final = stream.get_final_completion().choices[0].message.parsed
        assert final is not None and final.degrees == 3
        upstream.reset()
        upstream.script(Script(text="{}"), times=None)
        with pytest.raises(InternalServerError) as failed:
            sdk.chat.completions.create(**asked, response_format=INLINE)  # type: ignore[arg-type]
        assert failed.value.code == "response_validation_failed"
        assert len(upstream.all_ended()) == 2, "the SDK does not ask again by itself"


class Weather(pydantic.BaseModel):
    city: str
    degrees: int
    sky: str


def test_a_replay_of_a_refused_answer_costs_nothing(bench: Bench, upstream: FakeOpenAI) -> None:
    upstream.script(Script(text="{}"), times=2)
    headers = {"Idempotency-Key": "the-same"}
    first = bench.ask(response_format=INLINE, headers=headers)
    again = bench.ask(response_format=INLINE, headers=headers)
    assert first.status_code == again.status_code == 502 and first.content == again.content
    assert len(upstream.all_ended()) == 2
    bench.charges(first, 2)


@pytest.mark.parametrize("header", ["X-Gateway-Hold-Stream", "X-Gateway-Validate-Arguments"])
def test_headers_are_true_or_false(bench: Bench, header: str) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    error = bench.ask(tools=tools, headers={header: "yes"}).json()["error"]
    assert (error["code"], error["param"]) == ("validation_error", header)


def test_metrics_count_what_became_of_answers(bench: Bench, upstream: FakeOpenAI) -> None:
    origin = str(bench.client.base_url).removesuffix("/v1/")
    page = httpx.get(f"{origin}/metrics", trust_env=False).text
    for outcome in ("valid", "repaired", "reasked", "failed"):
        assert f'llm_checked_answers_total{{outcome="{outcome}"}}' in page
