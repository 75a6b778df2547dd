"""Providers that speak another protocol than the gateway's clients: what has to be kept, left out, refused, billed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import redis
from django.conf import settings
from openai import OpenAI

from billing.models import Attempt, UsageRecord
from providers.models import Model, Provider
from tenants.models import Tenant
from tests import factories
from tests.fakes.anthropic_server import FakeAnthropic
from tests.fakes.openai.scripts import Script, ToolCall
from tests.gateway.conftest import wait_for_models
from tests.live import LiveServer, until

NEW, OLD = "claude-opus-4-7", "claude-haiku-4-5"
HELLO = [{"role": "user", "content": "good morning"}]
NOW = {"type": "function", "function": {"name": "now"}}
CAPABILITIES = ("chat", "stream", "tools", "json_schema", "vision", "audio", "reasoning")
THINKS = Script(
    reasoning="which hour",
    text="Let me look.",
    tool_calls=(ToolCall(name="now", id="toolu_1"), ToolCall(name="now", id="toolu_2")),
)


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeAnthropic]:
    with FakeAnthropic() as server:
        yield server


@dataclass
class Setting:
    tenant: Tenant
    provider: Provider
    new: Model
    old: Model
    client: httpx.Client
    stranger: httpx.Client


@pytest.fixture(scope="module")
def made(committed: None, fake: FakeAnthropic, servers: dict[str, LiveServer]) -> Iterator[Setting]:
    server = servers["uvicorn"]
    tenant, other = factories.make_tenant(), factories.make_tenant()
    provider = factories.make_provider(fake.base_url, secret=fake.api_key, kind="anthropic")
    new = factories.make_model(provider, capabilities=CAPABILITIES, upstream_model=NEW)
    old = factories.make_model(provider, capabilities=CAPABILITIES, upstream_model=OLD)
    keys = []
    for owner in (tenant, other):
        factories.approve(owner, new, old)
        keys.append(factories.make_key(owner)[1])
        wait_for_models(server, keys[-1], new.name, old.name)
    with server.client(keys[0]) as client, server.client(keys[1]) as stranger:
        yield Setting(tenant, provider, new, old, client, stranger)


@pytest.fixture
def setting(made: Setting, fake: FakeAnthropic) -> Setting:
    fake.reset()
    return made


def ask(client: httpx.Client, model: Model, **more: Any) -> httpx.Response:
    return client.post("/chat/completions", json={"model": model.name, "messages": HELLO} | more)


def tool_turn() -> list[dict[str, Any]]:
    """The conversation after `THINKS`, as a client has it that knows only OpenAI's messages."""
    calls = [{"id": f"toolu_{n}", "type": "function", "function": {"name": "now", "arguments": "{}"}} for n in (1, 2)]
    results = [{"role": "tool", "tool_call_id": f"toolu_{n}", "content": "noon"} for n in (1, 2)]
    return [*HELLO, {"role": "assistant", "content": "Let me look.", "tool_calls": calls}, *results]


def kinds_sent_back(fake: FakeAnthropic) -> list[str]:
    """The blocks of the assistant's turn in the request that came last."""
    return [block["type"] for block in fake.all_ended()[-1].body["messages"][1]["content"]]


@pytest.mark.parametrize("stream", [False, True])
def test_thoughts_come_back_for_a_client_that_never_saw_them(
    setting: Setting, fake: FakeAnthropic, stream: bool
) -> None:
    more = {"tools": [NOW], "reasoning_effort": "high", "max_tokens": 20_000}
    fake.script(THINKS)
    assert ask(setting.client, setting.old, stream=stream, **more).status_code == 200
    answer = ask(setting.client, setting.old, messages=tool_turn(), **more)
    assert answer.status_code == 200, "the vendor checks that the thought is there and signed"
    assert kinds_sent_back(fake) == ["thinking", "text", "tool_use", "tool_use"]
    assert "x-gateway-dropped-parameters" not in answer.headers


def test_another_tenant_does_not_get_them(setting: Setting, fake: FakeAnthropic) -> None:
    more = {"tools": [NOW], "reasoning_effort": "high", "max_tokens": 20_000}
    fake.script(THINKS)
    assert ask(setting.client, setting.old, **more).status_code == 200
    answer = ask(setting.stranger, setting.old, messages=tool_turn(), **more)
    assert answer.status_code == 200 and kinds_sent_back(fake) == ["text", "tool_use", "tool_use"]
    assert answer.headers["x-gateway-dropped-parameters"] == "reasoning_effort"


def test_a_conversation_survives_the_loss_of_redis(setting: Setting, fake: FakeAnthropic) -> None:
    fake.script(THINKS)
    assert ask(setting.client, setting.new, tools=[NOW], reasoning_effort="low").status_code == 200
    with redis.Redis.from_url(settings.REDIS_CONNECTION) as connection:
        assert connection.delete(*connection.keys("continuation:*"))
    answer = ask(setting.client, setting.new, messages=tool_turn(), tools=[NOW], reasoning_effort="low")
    assert answer.status_code == 200 and kinds_sent_back(fake) == ["text", "tool_use", "tool_use"]


def test_openais_sdk_runs_a_tool_loop(setting: Setting, fake: FakeAnthropic) -> None:
    fake.script(THINKS)
    key = setting.client.headers["authorization"].removeprefix("Bearer ")
    with OpenAI(base_url=str(setting.client.base_url), api_key=key, max_retries=0) as sdk:
        tools: Any = [NOW]
        talk: list[Any] = [*HELLO]
        first = sdk.chat.completions.create(model=setting.new.name, messages=talk, tools=tools).choices[0].message
        talk.append(first.model_dump(exclude_none=True))
        talk += [{"role": "tool", "tool_call_id": call.id, "content": "noon"} for call in first.tool_calls or ()]
        last = sdk.chat.completions.create(model=setting.new.name, messages=talk, tools=tools)
    assert last.choices[0].message.content == "You said: good morning"
    assert kinds_sent_back(fake) == ["thinking", "text", "tool_use", "tool_use"]


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_left_out_is_named(setting: Setting, fake: FakeAnthropic, stream: bool) -> None:
    odd = {"x-\r\nevil: 1": 1}
    answer = ask(setting.client, setting.new, stream=stream, temperature=0.1, x_new=3, **odd)
    assert answer.status_code == 200
    assert set(answer.headers["x-gateway-dropped-parameters"].split(",")) == {"temperature", "x_new"}


def test_what_no_provider_can_do_is_refused_before_it_is_asked(setting: Setting, fake: FakeAnthropic) -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    for more, capability in (
        ({"n": 2}, "n"),
        ({"messages": [{"role": "user", "content": [sound]}]}, "audio"),
    ):
        error = ask(setting.client, setting.new, **more).json()["error"]
        assert (error["code"], error["capability"]) == ("capability_not_supported", capability)
    assert not fake.records
    until(lambda: not Attempt.objects.filter(tenant=setting.tenant, state="open").exists(), what="every attempt's end")


def test_a_group_goes_on_to_a_provider_that_can(setting: Setting, fake: FakeAnthropic, uvicorn: LiveServer) -> None:
    mock = factories.make_model(factories.make_provider("mock://local", kind="mock"))
    group = factories.make_group(setting.new, mock)
    factories.approve(setting.tenant, group)
    key = setting.client.headers["authorization"].removeprefix("Bearer ")
    wait_for_models(uvicorn, key, group.name)
    answer = setting.client.post("/chat/completions", json={"model": group.name, "messages": HELLO, "n": 2})
    assert answer.status_code == 200 and len(answer.json()["choices"]) == 2
    assert answer.headers["x-gateway-model"] == mock.name and not fake.records


def test_an_error_in_a_stream_before_its_first_content(setting: Setting, fake: FakeAnthropic) -> None:
    fake.script(Script(fault="error", fault_after_events=2), times=None)
    answer = ask(setting.client, setting.new, stream=True)
    assert answer.status_code == 502 and "Overloaded" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("status", "code"),
    [(529, "provider_error"), (429, "provider_unavailable"), (401, "provider_error"), (400, "validation_error")],
)
def test_errors(setting: Setting, fake: FakeAnthropic, status: int, code: str) -> None:
    fake.script(Script(status=status, headers={"retry-after": "57"}), times=None)
    answer = ask(setting.client, setting.new)
    assert answer.json()["error"]["code"] == code
    assert (answer.headers.get("retry-after") == "57") is (status == 429)
    assert "organization" not in str(answer.headers)


@pytest.mark.parametrize("stream", [False, True])
def test_every_bucket_of_usage_is_charged(setting: Setting, fake: FakeAnthropic, stream: bool) -> None:
    usage = {
        "input_tokens": 100, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 30, "output_tokens": 50,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        "output_tokens_details": {"thinking_tokens": 40},
    }  # fmt: skip
    fake.script(Script(text="yes", usage=usage))
    answer = ask(setting.client, setting.new, stream=stream)
    mine = UsageRecord.objects.filter(tenant=setting.tenant, request_id=answer.headers["x-request-id"])
    record: UsageRecord = until(lambda: mine.first(), what="the charge")
    assert record.units == {
        "input": 100, "cache_read": 1000, "cache_write_5m": 10, "cache_write_1h": 20, "output": 10, "reasoning": 40,
    }  # fmt: skip
    assert (record.input_tokens, record.output_tokens, record.usage_source) == (1130, 50, "provider_final")
