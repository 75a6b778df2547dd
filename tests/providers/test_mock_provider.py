"""The offline mock: what it says, and that what it says is OpenAI's wire protocol."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from providers.adapters.mock import ADAPTER
from providers.mock_provider import answer
from providers.types import Usage, WireRequest
from tests.providers.mock_calls import HELLO, TARGET, ask, body_of

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "get_time"}}
SQL = {"type": "custom", "custom": {"name": "run_sql"}}


def chat(**members: Any) -> dict[str, Any]:
    """The body of a whole answer, after the SDK's model and the adapter have accepted it."""
    reply = ask(**{"messages": HELLO, **members})
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    body = body_of(reply)
    ChatCompletion.model_validate(body, strict=True)
    usage = ADAPTER.parse_response(WireRequest(operation="chat", members={}), json.dumps(body).encode()).usage
    assert usage is not None
    assert usage.output_tokens == body["usage"]["completion_tokens"]
    assert body["usage"]["total_tokens"] == usage.input_tokens + usage.output_tokens
    return body


def said(**members: Any) -> str:
    return chat(**members)["choices"][0]["message"]["content"]


def stream(**members: Any) -> tuple[list[dict[str, Any]], Usage | None]:
    """The chunks of a stream that went through the adapter's decoder byte by byte, and the usage it found."""
    reply = ask(**{"messages": HELLO, "stream": True, **members})
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    decoder = ADAPTER.decoder()
    chunks = []
    parts = list(reply.parts)
    for _, data in parts:
        assert data.startswith(b"data: ")
        assert data.endswith(b"\n\n")
        for byte in data:
            chunks += decoder.feed(bytes([byte]))
    assert decoder.finished
    assert parts[-1][1] == b"data: [DONE]\n\n"
    read = [json.loads(chunk.data) for chunk in chunks]
    for chunk in read:
        if '"custom"' not in json.dumps(chunk):  # the SDK's model of a chunk does not know custom tools, which it reads
            ChatCompletionChunk.model_validate(chunk)
    return read, chunks[-1].usage


def joined(chunks: list[dict[str, Any]], index: int = 0) -> dict[str, Any]:
    """The message that the deltas of one choice add up to."""
    message: dict[str, Any] = {"content": None, "tool_calls": []}
    for chunk in chunks:
        for choice in chunk["choices"]:
            if choice["index"] != index:
                continue
            delta = choice["delta"]
            if delta.get("content") is not None:
                message["content"] = (message["content"] or "") + delta["content"]
            for call in delta.get("tool_calls", []):
                if "id" in call:
                    assert call["index"] == len(message["tool_calls"])
                    message["tool_calls"].append({name: value for name, value in call.items() if name != "index"})
                else:
                    kind = message["tool_calls"][call["index"]]["type"]
                    assert call.keys() == {"index", kind}
                    for name, piece in call[kind].items():
                        message["tool_calls"][call["index"]][kind][name] += piece
    return message


def test_a_plain_question_gets_a_sentence_that_quotes_it() -> None:
    body = chat(messages=[{"role": "developer", "content": "Be brief."}, *HELLO])
    assert body["id"].startswith("chatcmpl-")
    assert body["model"] == "mock-chat"
    assert abs(body["created"] - time.time()) < 5
    [choice] = body["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"] == "Hello! This is Bursar's offline mock. You said “hello”."
    assert body["usage"]["prompt_tokens"] == 3 + 2  # 9 and 5 bytes
    assert body["usage"]["completion_tokens"] == math.ceil(len(choice["message"]["content"].encode()) / 4)


def test_equal_requests_get_equal_answers_and_others_do_not() -> None:
    first, again, other = chat(), chat(), chat(messages=[{"role": "user", "content": "bye"}])
    assert {**first, "created": 0} == {**again, "created": 0}
    assert first["id"] != other["id"]


def test_parts_are_read_and_attachments_counted() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    audio = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
    file = {"type": "file", "file": {"file_id": "file-1"}}
    body = chat(messages=[{"role": "user", "content": [{"type": "text", "text": "look"}, image, image, audio, file]}])
    text = body["choices"][0]["message"]["content"]
    assert text.endswith("You said “look”. I also got 2 images, 1 audio clip, 1 file.")
    assert body["usage"]["prompt_tokens"] == 1 + 4 * 85


def test_a_conversation_without_words_and_a_long_one() -> None:
    assert said(messages=[{"role": "user", "content": None}]).endswith("You said nothing in words.")
    assert said(messages=[{"role": "system", "content": "x"}]).endswith("You said nothing in words.")
    assert "“" + "x" * 120 + "…”" in said(messages=[{"role": "user", "content": "x" * 10_000}])


def test_stop_and_limits() -> None:
    assert said(stop=" offline") == "Hello! This is Bursar's"
    assert said(stop=["mock", "!"]) == "Hello"
    for limit in ("max_tokens", "max_completion_tokens"):
        body = chat(**{limit: 3})
        assert body["choices"][0]["message"]["content"] == "Hello! This "
        assert body["choices"][0]["finish_reason"] == "length"
        assert body["usage"]["completion_tokens"] == 3


@given(
    text=st.text(st.characters(codec="utf-8"), max_size=60),
    limit=st.integers(1, 40),
    effort=st.sampled_from([None, "low", "max"]),
    tools=st.sampled_from([None, [WEATHER, CLOCK, SQL]]),
)
def test_no_answer_is_longer_than_its_limit(text: str, limit: int, effort: str | None, tools: Any) -> None:
    messages = [{"role": "user", "content": f"parallel {text}"}]
    body = chat(messages=messages, max_completion_tokens=limit, reasoning_effort=effort, tools=tools)
    assert body["usage"]["completion_tokens"] <= limit


def test_reasoning_effort_costs_reasoning_tokens() -> None:
    plain, thinking = chat()["usage"], chat(reasoning_effort="low")["usage"]
    assert thinking["completion_tokens_details"]["reasoning_tokens"] == 16
    assert thinking["completion_tokens"] == plain["completion_tokens"] + 16


def test_several_choices_differ() -> None:
    body = chat(n=3)
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in body["choices"]}) == 3
    chunks, _ = stream(n=3)
    assert [joined(chunks, index)["content"] for index in range(3)] == [
        choice["message"]["content"] for choice in body["choices"]
    ]


def test_a_stream_says_the_same_in_the_vendors_order() -> None:
    messages = [{"role": "user", "content": "grüß 日本 🙂"}]
    chunks, usage = stream(messages=messages)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert joined(chunks)["content"] == said(messages=messages)
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert chunks[-2]["choices"][0]["delta"] == {}
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == chat(messages=messages)["usage"]
    assert usage is not None
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_a_stream_without_include_usage_mentions_none() -> None:
    raw = {"model": "m", "messages": HELLO, "stream": True}
    request = msgspec.structs.replace(
        ADAPTER.build_request(WireRequest(operation="chat", members={}), TARGET), body=json.dumps(raw).encode()
    )
    events = [json.loads(data[6:]) for _, data in answer(request).parts if data != b"data: [DONE]\n\n"]
    assert all("usage" not in event and len(event["choices"]) == 1 for event in events)


def test_a_stream_has_a_readable_pace() -> None:
    waits = [wait for wait, _ in ask(messages=HELLO, stream=True).parts]
    assert waits == [0.0] + [0.025] * 9 + [0.0] * 3  # role; nine words; finish_reason, usage, [DONE]


@pytest.mark.parametrize("choice", [None, "auto", "required"])
def test_the_first_tool_is_called_with_arguments_of_its_schema(choice: str | None) -> None:
    [answered] = chat(tools=[WEATHER, CLOCK], tool_choice=choice)["choices"]
    assert answered["finish_reason"] == "tool_calls"
    assert answered["message"]["content"] is None
    [call] = answered["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "some city", "unit": "celsius"}


def called(**members: Any) -> list[str]:
    calls = chat(**members)["choices"][0]["message"].get("tool_calls", [])
    assert len({call["id"] for call in calls}) == len(calls)
    return [call[call["type"]]["name"] for call in calls]


def test_tool_choice_is_respected() -> None:
    named = {"type": "function", "function": {"name": "get_time"}}
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [named]}}
    assert called(tools=[WEATHER, CLOCK], tool_choice=named) == ["get_time"]
    assert called(tools=[WEATHER, CLOCK], tool_choice=allowed) == ["get_time"]
    assert called(tools=[WEATHER, SQL], tool_choice={"type": "custom", "custom": {"name": "run_sql"}}) == ["run_sql"]
    assert called(tools=[WEATHER, CLOCK], tool_choice="none") == []
    missing = ask(messages=HELLO, tools=[CLOCK], tool_choice={"type": "function", "function": {"name": "no"}})
    assert (missing.status, body_of(missing)["error"]["param"]) == (400, "tool_choice")


def test_parallel_calls_come_when_the_user_mentions_them() -> None:
    messages = [{"role": "user", "content": "Please, in PARALLEL."}]
    tools = [WEATHER, CLOCK, SQL]
    assert called(messages=messages, tools=tools) == ["get_weather", "get_time", "run_sql"]
    assert called(messages=messages, tools=tools, parallel_tool_calls=False) == ["get_weather"]


def test_a_streamed_tool_call_adds_up_to_the_whole_one() -> None:
    messages = [{"role": "user", "content": "parallel"}]
    chunks, _ = stream(messages=messages, tools=[WEATHER, CLOCK, SQL])
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": None, "refusal": None}
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    streamed = joined(chunks)["tool_calls"]
    whole = chat(messages=messages, tools=[WEATHER, CLOCK, SQL])["choices"][0]["message"]["tool_calls"]
    assert [{**call, "id": ""} for call in streamed] == [{**call, "id": ""} for call in whole]
    assert len({call["id"] for call in streamed}) == 3
    assert streamed[1]["function"] == {"name": "get_time", "arguments": "{}"}


def test_a_tool_result_is_quoted() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_time", "arguments": "{}"}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call, {**call, "id": "call_2"}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "12:00"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "Monday"}]},
    ]
    assert said(messages=messages, tools=[CLOCK]).endswith("The tool answered “12:00” and “Monday”.")


def test_the_older_functions_are_called_as_function_call() -> None:
    functions = [WEATHER["function"], CLOCK["function"]]
    [choice] = chat(functions=functions, function_call={"name": "get_time"})["choices"]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "get_time", "arguments": "{}"}
    chunks, _ = stream(functions=functions)
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    arguments = "".join(delta["function_call"]["arguments"] for delta in deltas if "function_call" in delta)
    assert json.loads(arguments) == {"city": "some city", "unit": "celsius"}


def test_json_is_answered_where_it_is_asked_for() -> None:
    assert "hello" in json.loads(said(response_format={"type": "json_object"}))["answer"]
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}
    choices = chat(response_format=wanted, n=2)["choices"]
    assert [choice["message"]["content"] for choice in choices] == ['{"ok": true}', '{"ok": true}']
    chunks, _ = stream(response_format=wanted)
    assert json.loads(joined(chunks)["content"]) == {"ok": True}
