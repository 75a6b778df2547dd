"""The official SDK with only base_url and api_key changed, under both servers, at the mock and at a fake OpenAI."""

from __future__ import annotations

import asyncio
import base64
import math
import struct
from typing import Any

import openai
import pydantic
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.fakes.openai.scripts import Script, ToolCall
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform
from tests.live import LiveServer

HELLO: list[Any] = [{"role": "user", "content": "good morning to you"}]
WEATHER: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


@pytest.fixture(params=["mock", "fake"])
def models(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The chat and the embeddings model of each kind of provider."""
    return f"{request.param}-chat", f"{request.param}-embed"


@pytest.fixture
def sdk(server: LiveServer, platform: Platform) -> OpenAI:
    platform.known_to(server, "mock-chat", "mock-embed", "fake-chat", "fake-embed")
    with OpenAI(base_url=server.base_url, api_key=platform.key, max_retries=0) as client:
        yield client


def test_chat(sdk: OpenAI, models: tuple[str, str]) -> None:
    answer = sdk.chat.completions.create(model=models[0], messages=HELLO)
    assert "good morning" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None and answer.usage.total_tokens > 0


def test_stream_without_usage(sdk: OpenAI, models: tuple[str, str]) -> None:
    chunks = list(sdk.chat.completions.create(model=models[0], messages=HELLO, stream=True))
    assert "good morning" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert all(chunk.choices for chunk in chunks), "a chunk without choices is for those who asked for usage"
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_stream_with_usage(sdk: OpenAI, models: tuple[str, str]) -> None:
    chunks = list(
        sdk.chat.completions.create(
            model=models[0], messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
def test_tools(sdk: OpenAI, models: tuple[str, str], stream: bool) -> None:
    asked: dict[str, Any] = {"model": models[0], "messages": HELLO, "tools": WEATHER, "tool_choice": "required"}
    if stream:
        with sdk.chat.completions.stream(**asked) as events:
            call = events.get_final_completion().choices[0].message.tool_calls[0]
    else:
        call = sdk.chat.completions.create(**asked).choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert call.id
    assert "city" in call.function.arguments


class Answer(pydantic.BaseModel):
    city: str
    degrees: int


def test_json_schema(sdk: OpenAI, models: tuple[str, str]) -> None:
    answer = sdk.chat.completions.parse(model=models[0], messages=HELLO, response_format=Answer)
    assert isinstance(answer.choices[0].message.parsed, Answer)


def test_embeddings(sdk: OpenAI, models: tuple[str, str]) -> None:
    one, two = sdk.embeddings.create(model=models[1], input=["alpha", "beta"]).data
    assert (one.index, two.index) == (0, 1)
    assert math.isclose(sum(value * value for value in one.embedding), 1, abs_tol=1e-3)
    assert one.embedding != two.embedding
    again = sdk.embeddings.create(model=models[1], input="alpha", encoding_format="float").data[0].embedding
    assert again == pytest.approx(one.embedding, abs=1e-6)


def test_embeddings_of_tokens(sdk: OpenAI, models: tuple[str, str]) -> None:
    answer = sdk.embeddings.with_raw_response.create(model=models[1], input=[[1, 2, 3], [4]], encoding_format="base64")
    data = answer.http_response.json()["data"]
    vector = base64.b64decode(data[0]["embedding"])
    assert len(data) == 2 and len(struct.unpack(f"<{len(vector) // 4}f", vector)) > 100


def test_models_list(sdk: OpenAI) -> None:
    listed = {model.id: model for model in sdk.models.list()}
    assert {"fake-chat", "mock-chat", "fake-embed", "mock-embed"} <= set(listed)
    chat = sdk.models.retrieve("fake-chat")
    assert chat.owned_by == "fake" and isinstance(chat.created, int)
    described = chat.model_dump()
    assert "tools" in described["capabilities"]
    assert described["pricing"]["units"] == {"input": "0.15", "output": "0.6", "cache_read": "0.075"}


async def test_twenty_streams_interleave(server: LiveServer, platform: Platform, upstream: FakeOpenAI) -> None:
    await asyncio.to_thread(platform.known_to, server, "fake-chat")
    pieces = tuple(f"word{number} " for number in range(10))
    upstream.script(Script(pieces=pieces, fault="hold", fault_after_events=5), times=None)
    arrived: list[int] = []

    async def follow(client: AsyncOpenAI, number: int) -> str:
        text = ""
        async for chunk in await client.chat.completions.create(model="fake-chat", messages=HELLO, stream=True):
            text += chunk.choices[0].delta.content or ""
            arrived.append(number)
        return text

    async with AsyncOpenAI(base_url=server.base_url, api_key=platform.key, max_retries=0) as client:
        streams = [asyncio.create_task(follow(client, number)) for number in range(20)]
        await asyncio.to_thread(upstream.wait_until, lambda records: upstream.counters.held == 20)
        while len(set(arrived)) < 20:  # every stream has begun while none has ended
            await asyncio.sleep(0.01)
        upstream.release()
        texts = await asyncio.gather(*streams)
    assert texts == ["".join(pieces)] * 20


def test_what_a_provider_adds_passes_and_what_is_its_own_does_not(
    sdk: OpenAI, platform: Platform, upstream: FakeOpenAI
) -> None:
    upstream.script(
        Script(text="ok", extra={"vendor_field": {"deep": [1]}}, message_extra={"annotations": [{"kind": "new"}]})
    )
    raw = sdk.chat.completions.with_raw_response.create(
        model="fake-chat",
        messages=[{"role": "user", "content": "x", "name": "ann", "new_member": True}],  # type: ignore[list-item]
        extra_body={"vendor_parameter": 1.5, "api_base": "http://127.0.0.1:9", "nested": {"api_key": "k"}},
        extra_headers={"x-stainless-made-up": "1", "X-Agent-ID": "a-1"},
    )
    body = raw.http_response.json()
    assert body["vendor_field"] == {"deep": [1]}
    assert body["choices"][0]["message"]["annotations"] == [{"kind": "new"}]
    for header in ("set-cookie", "openai-organization", "openai-processing-ms"):
        assert header not in raw.headers
    seen = upstream.all_ended()[-1]
    assert seen.body["vendor_parameter"] == 1.5 and seen.body["nested"] == {"api_key": "k"}
    assert seen.body["messages"][0]["new_member"] is True
    assert seen.headers["authorization"] == f"Bearer {upstream.api_key}"
    assert not [name for name in seen.headers if name.startswith(("x-stainless", "x-agent", "cookie"))]
    assert platform.key not in seen.raw_body.decode() + str(seen.headers)


def test_parallel_tool_calls_keep_their_ids(sdk: OpenAI, upstream: FakeOpenAI) -> None:
    calls = (
        ToolCall(name="get_weather", arguments='{"city": "Oslo"}', id="call_one"),
        ToolCall(name="get_weather", arguments="", id="call_two"),
    )
    upstream.script(Script(tool_calls=calls), times=2)
    whole = sdk.chat.completions.create(model="fake-chat", messages=HELLO, tools=WEATHER).choices[0].message
    assert [call.id for call in whole.tool_calls or []] == ["call_one", "call_two"]
    with sdk.chat.completions.stream(model="fake-chat", messages=HELLO, tools=WEATHER) as events:
        streamed = events.get_final_completion().choices[0].message
    assert [call.id for call in streamed.tool_calls or []] == ["call_one", "call_two"]


def test_sdk_error_classes(sdk: OpenAI, server: LiveServer) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        sdk.chat.completions.create(model="no-such-model", messages=HELLO)
    assert unknown.value.code == "model_not_found" and unknown.value.request_id
    stranger = OpenAI(base_url=server.base_url, api_key="bsr_live_wrong", max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()
