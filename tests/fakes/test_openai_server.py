"""The fake OpenAI server proven by the official SDK pointed straight at it."""

import asyncio
import base64
import struct
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.fakes.asking import HELLO
from tests.fakes.openai.exchange import VENDOR_COOKIE, VENDOR_ORGANIZATION
from tests.fakes.openai.scripts import ToolCall
from tests.fakes.openai_server import FakeOpenAI, Script

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}
PARALLEL = Script(
    tool_calls=(
        ToolCall(name="get_weather", arguments='{"city": "Den Haag", "days": 2}'),
        ToolCall(name="get_weather", arguments='{"city": "Århus", "days": 1}'),
        ToolCall(name="now"),
    )
)


def test_chat_answers_and_counts_words(fake_openai: FakeOpenAI, vendor_sdk: OpenAI) -> None:
    reply = vendor_sdk.chat.completions.create(model="gpt-5.2", messages=HELLO)
    assert reply.object == "chat.completion"
    assert reply.model == "gpt-5.2"
    assert reply.choices[0].message.content == "You said: good morning to you"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (4, 6, 10)
    [record] = fake_openai.all_ended()
    assert record.id == reply.id
    assert record.request_id == reply._request_id
    assert record.body == {"model": "gpt-5.2", "messages": HELLO}
    assert record.completed
    assert not record.client_left
    assert record.usage_sent == reply.usage.model_dump(exclude_none=True)
    assert record.produced == {"prompt_tokens": 4, "completion_tokens": 6}


def test_prompt_words_and_parts_are_counted_over_all_messages(vendor_sdk: OpenAI) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages: Any = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "what is this"}, image]},
    ]
    reply = vendor_sdk.chat.completions.create(model="gpt-5.2", messages=messages)
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == 2 + 3 + 1


def test_max_tokens_cuts_the_answer(vendor_sdk: OpenAI) -> None:
    reply = vendor_sdk.chat.completions.create(model="gpt-5.2", messages=HELLO, max_completion_tokens=3)
    assert reply.choices[0].message.content == "You said: good"
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 3


def test_several_choices_with_logprobs(vendor_sdk: OpenAI) -> None:
    reply = vendor_sdk.chat.completions.create(model="gpt-5.2", messages=HELLO, n=3, logprobs=True)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 18
    assert reply.choices[2].logprobs is not None
    assert [row.token for row in reply.choices[2].logprobs.content or []][:2] == ["You", " said:"]
    chunks = list(vendor_sdk.chat.completions.create(model="gpt-5.2", messages=HELLO, n=2, stream=True))
    texts = ["".join(c.choices[0].delta.content or "" for c in chunks if c.choices[0].index == i) for i in (0, 1)]
    assert texts == ["You said: good morning to you"] * 2


def test_stream_without_usage(fake_openai: FakeOpenAI, vendor_sdk: OpenAI) -> None:
    chunks = list(vendor_sdk.chat.completions.create(model="gpt-5.2", messages=HELLO, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "You said: good morning to you"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 7 + ["stop"]
    assert {chunk.id for chunk in chunks} == {fake_openai.all_ended()[0].id}
    record = fake_openai.all_ended()[0]
    assert record.completed
    assert record.usage_sent is None
    assert record.produced == {"prompt_tokens": 4, "completion_tokens": 6}
    assert record.text_sent == "You said: good morning to you"
    assert record.events_sent == len(chunks) + 1


def test_stream_with_usage(fake_openai: FakeOpenAI, vendor_sdk: OpenAI) -> None:
    options: Any = {"include_usage": True}
    chunks = list(
        vendor_sdk.chat.completions.create(model="gpt-5.2", messages=HELLO, stream=True, stream_options=options)
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 10
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert fake_openai.all_ended()[0].usage_sent == chunks[-1].usage.model_dump(exclude_none=True)


def test_single_tool_call(vendor_sdk: OpenAI) -> None:
    tools: Any = [WEATHER]
    reply = vendor_sdk.chat.completions.create(model="gpt-5.2", messages=HELLO, tools=tools, tool_choice="required")
    [call] = reply.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city":"text","days":1}')
    assert reply.choices[0].message.content is None
    assert reply.choices[0].finish_reason == "tool_calls"
    answered: Any = [*HELLO, reply.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sun"}]
    reply = vendor_sdk.chat.completions.create(model="gpt-5.2", messages=answered, tools=tools)
    assert reply.choices[0].finish_reason == "stop"


def test_tool_forced_by_name_ends_with_stop(vendor_sdk: OpenAI) -> None:
    forced: Any = {"type": "function", "function": {"name": "get_weather"}}
    reply = vendor_sdk.chat.completions.create(model="gpt-5.2", messages=HELLO, tools=[WEATHER], tool_choice=forced)
    assert (reply.choices[0].message.tool_calls or [])[0].id.startswith("call_")
    assert reply.choices[0].finish_reason == "stop"


def test_parallel_tool_calls(fake_openai: FakeOpenAI, vendor_sdk: OpenAI) -> None:
    fake_openai.script(PARALLEL)
    reply = vendor_sdk.chat.completions.create(model="gpt-5.2", messages=HELLO, tools=[WEATHER])
    calls = reply.choices[0].message.tool_calls or []
    assert [call.function.arguments for call in calls] == [call.arguments for call in PARALLEL.tool_calls]
    assert len({call.id for call in calls}) == 3


def test_streamed_tool_calls(fake_openai: FakeOpenAI, vendor_sdk: OpenAI) -> None:
    fake_openai.script(PARALLEL)
    collected: dict[int, list[Any]] = {}
    reasons = []
    for chunk in vendor_sdk.chat.completions.create(model="gpt-5.2", messages=HELLO, tools=[WEATHER], stream=True):
        reasons.append(chunk.choices[0].finish_reason)
        for delta in chunk.choices[0].delta.tool_calls or []:
            collected.setdefault(delta.index, []).append(delta)
    assert reasons[-1] == "tool_calls"
    assert list(collected) == [0, 1, 2]
    for index, deltas in collected.items():
        assert deltas[0].id
        assert deltas[0].function.name == PARALLEL.tool_calls[index].name
        assert all(delta.id is None and delta.function.name is None for delta in deltas[1:])
        assert "".join(delta.function.arguments for delta in deltas) == PARALLEL.tool_calls[index].arguments
    assert len({deltas[0].id for deltas in collected.values()}) == 3


@pytest.mark.parametrize("arguments", ["{}", ""])
def test_tool_call_without_arguments(fake_openai: FakeOpenAI, vendor_sdk: OpenAI, arguments: str) -> None:
    fake_openai.script(Script(tool_calls=(ToolCall(name="now", arguments=arguments),)), times=2)
    reply = vendor_sdk.chat.completions.create(model="gpt-5.2", messages=HELLO)
    assert (reply.choices[0].message.tool_calls or [])[0].function.arguments == arguments
    with vendor_sdk.chat.completions.stream(model="gpt-5.2", messages=HELLO) as stream:
        final = stream.get_final_completion()
    assert (final.choices[0].message.tool_calls or [])[0].function.arguments == arguments


class Step(BaseModel):
    what: str
    minutes: int


class Plan(BaseModel):
    title: str
    steps: list[Step]
    note: str | None


def test_json_schema_answer_is_parsed_into_the_model(vendor_sdk: OpenAI) -> None:
    reply = vendor_sdk.chat.completions.parse(model="gpt-5.2", messages=HELLO, response_format=Plan)
    assert reply.choices[0].message.parsed == Plan(title="text", steps=[Step(what="text", minutes=1)], note="text")
    with vendor_sdk.chat.completions.stream(model="gpt-5.2", messages=HELLO, response_format=Plan) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == reply.choices[0].message.parsed


def test_json_object_and_scripted_json(fake_openai: FakeOpenAI, vendor_sdk: OpenAI) -> None:
    ask: Any = [{"role": "user", "content": "answer in json"}]
    reply = vendor_sdk.chat.completions.create(model="gpt-5.2", messages=ask, response_format={"type": "json_object"})
    assert reply.choices[0].message.content == '{"answer": "text"}'
    fake_openai.script(Script(text='{"title":"T","steps":[],"note":null}'))
    parsed = vendor_sdk.chat.completions.parse(model="gpt-5.2", messages=HELLO, response_format=Plan)
    assert parsed.choices[0].message.parsed == Plan(title="T", steps=[], note=None)


def test_embeddings_default_is_base64_of_float32(fake_openai: FakeOpenAI, vendor_sdk: OpenAI) -> None:
    reply = vendor_sdk.embeddings.create(model="text-embedding-3-small", input="one two three")
    assert fake_openai.all_ended()[0].body["encoding_format"] == "base64"
    assert len(reply.data[0].embedding) == 1536
    assert sum(number * number for number in reply.data[0].embedding) == pytest.approx(1.0, abs=1e-5)
    floats = vendor_sdk.embeddings.create(
        model="text-embedding-3-small", input="one two three", encoding_format="float"
    )
    assert floats.data[0].embedding == reply.data[0].embedding
    assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (3, 3)
    raw = vendor_sdk.embeddings.create(model="text-embedding-3-small", input="one two three", encoding_format="base64")
    packed: Any = raw.data[0].embedding
    assert list(struct.unpack("<1536f", base64.b64decode(packed))) == floats.data[0].embedding


def test_embeddings_of_lists_tokens_and_dimensions(vendor_sdk: OpenAI) -> None:
    texts = vendor_sdk.embeddings.create(model="text-embedding-3-small", input=["a b", "c", "a b"], dimensions=64)
    assert [row.index for row in texts.data] == [0, 1, 2]
    assert texts.data[0].embedding == texts.data[2].embedding != texts.data[1].embedding
    assert len(texts.data[0].embedding) == 64
    assert texts.usage.prompt_tokens == 5
    tokens = vendor_sdk.embeddings.create(model="text-embedding-3-small", input=[10, 20, 30])
    lists = vendor_sdk.embeddings.create(model="text-embedding-3-small", input=[[10, 20, 30], [40]])
    assert len(tokens.data) == 1
    assert len(lists.data) == 2
    assert tokens.data[0].embedding == lists.data[0].embedding
    assert (tokens.usage.prompt_tokens, lists.usage.prompt_tokens) == (3, 4)
    assert len(vendor_sdk.embeddings.create(model="text-embedding-3-large", input="a").data[0].embedding) == 3072


def test_models(vendor_sdk: OpenAI) -> None:
    ids = [model.id for model in vendor_sdk.models.list()]
    assert "gpt-4o-mini" in ids
    assert vendor_sdk.models.retrieve("gpt-4o-mini").owned_by == "system"
    with pytest.raises(openai.NotFoundError) as refused:
        vendor_sdk.models.retrieve("gpt-0")
    assert refused.value.code == "model_not_found"


def test_vendor_headers_are_on_answers_errors_and_streams(vendor_sdk: OpenAI) -> None:
    answers = [
        vendor_sdk.chat.completions.with_raw_response.create(model="gpt-5.2", messages=HELLO),
        vendor_sdk.chat.completions.with_raw_response.create(model="gpt-5.2", messages=HELLO, stream=True),
    ]
    with pytest.raises(openai.BadRequestError) as refused:
        vendor_sdk.chat.completions.create(model="gpt-5.2", messages=[])
    answers[1].http_response.close()
    for headers in (answers[0].headers, answers[1].headers, refused.value.response.headers):
        assert headers["x-request-id"].startswith("req_")
        assert headers["openai-organization"] == VENDOR_ORGANIZATION
        assert VENDOR_COOKIE in headers["set-cookie"]
        assert headers["x-ratelimit-remaining-requests"] == "9999"
        assert int(headers["openai-processing-ms"]) >= 0


async def test_twenty_streams_are_open_at_once(fake_openai: FakeOpenAI) -> None:
    fake_openai.script(Script(fault="hold", fault_after_events=3), times=20)

    async def one(number: int) -> str:
        ask: Any = [{"role": "user", "content": f"number {number} please"}]
        stream = await client.chat.completions.create(model="gpt-5.2", messages=ask, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async with AsyncOpenAI(base_url=fake_openai.base_url, api_key=fake_openai.api_key, max_retries=0) as client:
        streams = [asyncio.create_task(one(number)) for number in range(20)]
        await asyncio.to_thread(fake_openai.wait_until, lambda _: fake_openai.counters.held == 20)
        assert fake_openai.counters.open_streams == 20
        fake_openai.release()
        assert await asyncio.gather(*streams) == [f"You said: number {number} please" for number in range(20)]
    records = await asyncio.to_thread(fake_openai.all_ended)
    assert all(record.completed for record in records)
    assert fake_openai.counters.peak_open_streams == 20
    assert (fake_openai.counters.open_streams, fake_openai.counters.in_flight) == (0, 0)
