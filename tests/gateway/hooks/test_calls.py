"""Hooks on calls, through the public door: what is blocked, what is changed and charged, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import orjson
import pytest
from django.core.management import call_command
from django.db import connection

from billing.models import Attempt
from gateway.hooks.models import HookBinding
from gateway.models import RequestRecord
from tenants.models import Project, WebhookEndpoint
from tenants.webhooks import create_endpoint, current_secret
from tests import factories
from tests.fakes.openai.scripts import Script, ToolCall
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.webhook_receiver import WebhookReceiver
from tests.gateway.conftest import Platform
from tests.live import LiveServer, until

CANARY = "canary.person@secret.example"
CARD = "4111 1111 1111 1111"
SECRETS = (CANARY, CARD, "4111111111111111", "secret.example")


class Shop:
    """A tenant with hooks of its own, and a client with its key."""

    def __init__(self, platform: Platform, server: LiveServer) -> None:
        platform.known_to(server)
        self.platform, self.server = platform, server
        self.tenant = factories.make_tenant()
        factories.approve(self.tenant, platform.chat, platform.embed)

    def bind(self, hook: str, settings: dict[str, Any] | None = None, **fields: Any) -> HookBinding:
        row = HookBinding(
            tenant=self.tenant, name=fields.pop("name", hook), hook=hook, settings=settings or {}, **fields
        )
        row.full_clean()
        row.save()
        return row

    def client(self, **key: Any) -> httpx.Client:
        """With a key that no process has seen yet, so it sees the hooks that are there now."""
        return self.server.client(factories.make_key(self.tenant, **key)[1])

    def chat(self, content: Any = "Hello there", **more: Any) -> httpx.Response:
        model, key = more.pop("model", self.platform.chat.name), more.pop("key", {})
        with self.client(**key) as client:
            messages = [{"role": "user", "content": content}]
            return client.post("/chat/completions", json={"model": model, "messages": messages, **more})


@pytest.fixture
def shop(platform: Platform, uvicorn: LiveServer) -> Shop:
    return Shop(platform, uvicorn)


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as receiver:
        yield receiver


def record_of(answer: httpx.Response) -> RequestRecord:
    record: RequestRecord = until(
        RequestRecord.objects.filter(request_id=answer.headers["x-request-id"]).first, what="the request's row"
    )
    return record


def charge_of(shop: Shop, answer: httpx.Response) -> Any:
    return Platform.settled(_as_of(shop), answer.headers["x-request-id"])


def _as_of(shop: Shop) -> Any:
    return type("Of", (), {"tenant": shop.tenant})()


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    return [orjson.loads(line) for line in lines if line != "[DONE]"]


def said(answer: httpx.Response) -> str:
    choices = [choice for event in events_of(answer) for choice in event.get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def test_a_request_that_is_blocked_is_neither_made_nor_charged(shop: Shop, upstream: FakeOpenAI) -> None:
    shop.bind("word_lists", {"blocked_terms": ["there"]}, name="house words")
    answer = shop.chat()
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (403, "request_blocked", "permission_error")
    assert (error["hook"], error["reason"], error["hook_failed"]) == ("house words", "it has a term of the list", False)
    assert answer.headers["x-should-retry"] == "false" and "cost" not in str(answer.headers)
    assert upstream.records == []
    record = record_of(answer)
    assert (record.status, record.error_code, record.attempts) == (403, "request_blocked", [])
    assert [(one["binding"], one["hook"], one["stage"], one["verdict"]) for one in record.hooks] == [
        ("house words", "word_lists", "before_call", "block")
    ]
    assert not Attempt.objects.filter(request_id=answer.headers["x-request-id"]).exists()


def test_an_answer_that_is_blocked_is_charged(shop: Shop, upstream: FakeOpenAI) -> None:
    shop.bind("word_lists", {"blocked_terms": ["forbidden"]})
    upstream.script(Script(text="This is forbidden fruit."))
    answer = shop.chat()
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "response_blocked")
    assert "fruit" not in answer.text
    charge = charge_of(shop, answer)
    assert charge.cost_nano_usd > 0 and charge.ending == "completed"
    assert [(one["stage"], one["verdict"]) for one in record_of(answer).hooks] == [
        ("before_call", "allow"),
        ("after_call", "block"),
    ]


@pytest.mark.parametrize("split", range(1, 10))
def test_a_stream_that_is_blocked_ends_with_an_error_and_is_charged(
    split: int, shop: Shop, upstream: FakeOpenAI
) -> None:
    shop.bind("word_lists", {"blocked_terms": ["forbidden"]})
    word = "forbidden"
    upstream.script(
        Script(pieces=("Well, this is ", word[:split], word[split:] + " fruit", " and more"), split_bytes=7)
    )
    answer = shop.chat(stream=True, stream_options={"include_usage": True})
    assert answer.status_code == 200
    last = events_of(answer)[-1]["error"]
    assert (last["code"], last["hook"]) == ("response_blocked", "word_lists")
    assert not answer.text.rstrip().endswith("[DONE]") and "Well, this is ".startswith(said(answer))
    assert charge_of(shop, answer).cost_nano_usd > 0
    record = record_of(answer)
    assert (record.status, record.error_code) == (200, "response_blocked")


def test_a_pattern_is_found_however_its_bytes_come(shop: Shop, upstream: FakeOpenAI) -> None:
    """Letters of two, three and four bytes, each byte in a packet of its own and each letter in a chunk of its own."""
    shop.bind("word_lists", {"blocked_terms": ["grüße €100 🐝s"], "action": "mask"})
    text = "So: Grüße €100 🐝s!"
    for script in (Script(text=text, split_bytes=1), Script(pieces=tuple(text), split_bytes=1)):
        upstream.script(script)
        assert said(shop.chat(stream=True)) == "So: ***!"


@pytest.mark.parametrize("stream", [False, True])
def test_personal_data_reaches_neither_the_provider_nor_any_log(
    stream: bool, shop: Shop, upstream: FakeOpenAI, uvicorn: LiveServer
) -> None:
    shop.bind("pii_redaction")
    content = [{"type": "text", "text": f"Write to {CANARY} about {CARD}, or {CANARY}."}]
    earlier = [
        {"role": "system", "content": f"The owner is {CANARY}"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": f'{{"who": "{CANARY}"}}'}}
        ]},
        {"role": "tool", "tool_call_id": "call_1", "content": f"found {CARD}"},
    ]  # fmt: skip
    parameters = {"type": "object", "properties": {"who": {"type": "string", "enum": [CANARY]}}, "required": ["who"]}
    function = {"name": "find", "description": f"Not for {CANARY}", "parameters": parameters}
    tools = [{"type": "function", "function": function}]
    messages = [*earlier, {"role": "user", "content": content}]
    upstream.script(Script(pieces=("To [EM", "AIL_1] with [CAR", "D_1]", ".")))
    with shop.client() as client:
        body = {"model": shop.platform.chat.name, "messages": messages, "tools": tools, "stream": stream}
        answer = client.post("/chat/completions", json={**body, "user": CANARY, "metadata": {"who": CANARY}})
    assert answer.status_code == 200, answer.text
    told = said(answer) if stream else answer.json()["choices"][0]["message"]["content"]
    assert told == f"To {CANARY} with {CARD}."
    [asked] = upstream.all_ended()
    sent = asked.raw_body
    assert b"[EMAIL_1]" in sent and b"[CARD_1]" in sent
    assert not [secret for secret in SECRETS if secret.encode() in sent]
    record = record_of(answer)
    assert [one["verdict"] for one in record.hooks] == ["modify", "modify"]
    assert "messages[3].content[0].text" in record.hooks[0]["fields"]
    charge_of(shop, answer)
    assert not [secret for secret in SECRETS if secret in uvicorn.log.read_text()]
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(r)::text FROM gateway_requestrecord r")
        assert not [secret for secret in SECRETS if secret in str(cursor.fetchall())]


def test_a_tool_call_gets_its_values_back(shop: Shop, upstream: FakeOpenAI) -> None:
    shop.bind("pii_redaction")
    upstream.script(Script(tool_calls=(ToolCall(name="mail", arguments='{"to": "[EMAIL_1]"}'),)))
    with openai.OpenAI(base_url=shop.server.base_url, api_key=factories.make_key(shop.tenant)[1]) as sdk:
        stream = sdk.chat.completions.stream(
            model=shop.platform.chat.name,
            messages=[{"role": "user", "content": f"mail {CANARY}"}],
            tools=[{"type": "function", "function": {"name": "mail", "parameters": {"type": "object"}}}],
        )
        with stream as events:
            completion = events.get_final_completion()
    [call] = completion.choices[0].message.tool_calls or []
    assert orjson.loads(call.function.arguments) == {"to": CANARY}


@pytest.mark.parametrize("value", [f"of {CANARY}", [f"of {CANARY}", "nobody"]])
def test_embeddings_are_redacted(value: Any, shop: Shop, upstream: FakeOpenAI) -> None:
    shop.bind("pii_redaction")
    shop.bind("noop")
    with shop.client() as client:
        answer = client.post("/embeddings", json={"model": shop.platform.embed.name, "input": value})
    assert answer.status_code == 200 and answer.json()["data"]
    [asked] = upstream.all_ended()
    sent = asked.raw_body
    assert b"of [EMAIL_1]" in sent and CANARY.encode() not in sent


def test_hooks_change_requests_and_answers_in_their_order(shop: Shop, upstream: FakeOpenAI) -> None:
    greet = {"op": "insert", "path": "$.messages[0]", "value": {"role": "system", "content": "Speak plainly."}}
    mark = {"op": "set", "path": "$.choices[*].message.content", "value": "plainly"}
    shop.bind("word_lists", {"blocked_terms": ["plainly"], "action": "mask"}, name="second", position=2)
    shop.bind("transformation", {"request": [greet], "answer": [mark]}, name="first", position=1)
    answer = shop.chat()
    assert answer.json()["choices"][0]["message"]["content"] == "***"
    assert answer.json()["usage"]["total_tokens"] > 0
    [asked] = upstream.all_ended()
    sent = orjson.loads(asked.raw_body)
    assert [message["content"] for message in sent["messages"]] == ["Speak ***.", "Hello there"]
    assert [(one["binding"], one["fields"]) for one in record_of(answer).hooks] == [
        ("first", ["messages"]),
        ("second", ["messages[0].content"]),
        ("first", ["choices"]),
        ("second", ["choices[0].message.content"]),
    ]


@pytest.mark.parametrize(
    ("settings", "content", "reason"),
    [
        ({"max_characters": 20}, "x" * 21, "its texts have 21 characters, at most 20 are allowed"),
        ({"max_messages": 0}, "x", "it has 1 messages or inputs, at most 0 are allowed"),
        ({"attachment_types": ["file"]}, [{"type": "image_url", "image_url": {"url": "https://x.example/i.png"}}],
         "attachments of type image_url are not allowed"),
        ({"allow_remote_urls": False}, [{"type": "image_url", "image_url": {"url": "https://x.example/i.png"}}],
         "attachments by URL are not allowed"),
        ({"max_attachment_bytes": 2}, [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}],
         "an attachment has 3 bytes, at most 2 are allowed"),
        ({"max_attachments": 0}, [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}],
         "it has 1 attachments, at most 0 are allowed"),
    ],
)  # fmt: skip
def test_a_size_policy(settings: Any, content: Any, reason: str, shop: Shop, upstream: FakeOpenAI) -> None:
    shop.bind("size_policy", settings)
    answer = shop.chat(content)
    assert (answer.status_code, answer.json()["error"]["reason"]) == (403, reason)
    assert upstream.records == []


def test_only_whom_it_is_bound_to(shop: Shop, platform: Platform, upstream: FakeOpenAI) -> None:
    project = Project.objects.create(tenant=shop.tenant, name="web")
    words = {"required_patterns": ["please"]}
    shop.bind("word_lists", words, name="web", project=project)
    shop.bind("word_lists", words, name="embeddings", model=platform.embed.name)
    shop.bind("word_lists", words, name="off", enabled=False)
    assert shop.chat().status_code == 200
    assert shop.chat(key={"project": project}).status_code == 403
    assert shop.chat("Hello, please", key={"project": project}).status_code == 200
    with shop.client() as client:
        asked = {"model": platform.embed.name, "input": "hello"}
        assert client.post("/embeddings", json=asked).json()["error"]["hook"] == "embeddings"
    with shop.server.client(platform.key) as outsider:  # another tenant's key
        asked = {"model": platform.embed.name, "input": "hello"}
        assert outsider.post("/embeddings", json=asked).status_code == 200


def test_a_hook_for_a_model_holds_where_a_group_may_use_it(shop: Shop, platform: Platform) -> None:
    group = factories.make_group(platform.mock_chat, platform.chat)
    factories.approve(shop.tenant, group, platform.mock_chat)
    shop.bind("word_lists", {"required_patterns": ["please"]}, model=platform.chat.name)
    until(lambda: shop.chat(model=group.name).status_code != 404, what="the group")
    assert shop.chat(model=group.name).status_code == 403
    assert shop.chat(model=platform.mock_chat.name).status_code == 200


def test_a_running_process_sees_a_change(shop: Shop) -> None:
    with shop.client() as client:
        body = {"model": shop.platform.chat.name, "messages": [{"role": "user", "content": "Hello there"}]}
        assert client.post("/chat/completions", json=body).status_code == 200
        row = shop.bind("word_lists", {"blocked_terms": ["there"]})
        until(lambda: client.post("/chat/completions", json=body).status_code == 403, seconds=4, what="the hook")
        row.delete()
        until(lambda: client.post("/chat/completions", json=body).status_code == 200, seconds=4, what="its end")


def moderation(shop: Shop, receiver: WebhookReceiver, **fields: Any) -> WebhookEndpoint:
    endpoint = WebhookEndpoint(
        tenant=shop.tenant, url=receiver.url, events=["hook.moderation"], allow_private_network=True
    )
    create_endpoint(endpoint)
    settings = {"url": receiver.url, **fields.pop("settings", {})}
    shop.bind("webhook", settings, **{"timeout_ms": 5000, **fields})
    return endpoint


@pytest.mark.parametrize("stream", [False, True])
def test_a_webhook_judges_texts(stream: bool, shop: Shop, receiver: WebhookReceiver, upstream: FakeOpenAI) -> None:
    endpoint = moderation(shop, receiver)

    def say(received: Any) -> bytes:
        texts = [one["text"] for one in orjson.loads(received.body)["data"]["texts"]]
        return orjson.dumps({"verdict": "modify", "texts": [text.replace("there", "here") for text in texts]})

    receiver.say = say
    upstream.script(Script(pieces=("out th", "ere", "!")))
    answer = shop.chat(stream=stream)
    told = said(answer) if stream else answer.json()["choices"][0]["message"]["content"]
    assert told == "out here!"
    [asked] = upstream.all_ended()
    sent = orjson.loads(asked.raw_body)
    assert sent["messages"][0]["content"] == "Hello here"
    before, after = receiver.received
    for received in (before, after):
        payload = received.verified(current_secret(endpoint), now=int(received.headers["webhook-timestamp"]))
        assert payload["data"]["request_id"] == answer.headers["x-request-id"]
        assert payload["data"]["tenant"] == shop.tenant.name and payload["data"]["operation"] == "chat"
    assert orjson.loads(before.body)["type"] == "hook.before_call"
    assert "authorization" not in before.headers
    receiver.say = lambda _: b'{"verdict": "block", "reason": "not on a Sunday"}'
    refused = shop.chat()
    assert refused.json()["error"]["reason"] == "not on a Sunday"
    assert "Sunday" not in str(record_of(refused).hooks), "a reason may quote the text"


FAILURES = ("hangs", "answers 500", "redirects", "says nothing", "answers rubbish", "answers too few texts")
BODIES = {"answers rubbish": b"<html>", "answers too few texts": b'{"verdict": "modify", "texts": []}'}


@pytest.mark.parametrize("stage", ["requests", "answers", "streams"])
@pytest.mark.parametrize("how", FAILURES)
def test_a_webhook_that_fails(
    how: str, stage: str, platform: Platform, uvicorn: LiveServer, receiver: WebhookReceiver, upstream: FakeOpenAI
) -> None:
    receiver.say = lambda _: BODIES.get(how, b"")
    if how == "hangs":
        receiver.gate.clear()
    elif how == "answers 500":
        receiver.answers = [500, 500]
    elif how == "redirects":
        receiver.answers, receiver.location = [302, 302], receiver.url + "/elsewhere"
    answers = {}
    for on_failure in ("closed", "open"):
        shop = Shop(platform, uvicorn)
        settings = {"requests": stage == "requests", "answers": stage != "requests"}
        timeout_ms = 150 if how == "hangs" else 5000
        moderation(shop, receiver, settings=settings, timeout_ms=timeout_ms, on_failure=on_failure)
        answers[on_failure] = shop.chat(stream=stage == "streams")
        [note] = record_of(answers[on_failure]).hooks
        assert note["verdict"] == "failed" and note["problem"] and receiver.url not in str(note)
    closed, opened = answers["closed"], answers["open"]
    error = events_of(closed)[-1]["error"] if stage == "streams" else closed.json()["error"]
    assert error["code"] == ("request_blocked" if stage == "requests" else "response_blocked")
    assert error["hook_failed"] is True
    told = said(opened) if stage == "streams" else opened.json()["choices"][0]["message"]["content"]
    assert told == "You said: Hello there"
    assert len(upstream.all_ended()) == (1 if stage == "requests" else 2)
    assert all(received.path == "/hook" for received in receiver.received), "redirects are not followed"


@pytest.mark.parametrize("stream", [False, True])
def test_settings_that_no_longer_hold_are_a_failure(stream: bool, shop: Shop, upstream: FakeOpenAI) -> None:
    row = shop.bind("word_lists", {"blocked_terms": ["x"]})
    HookBinding.objects.filter(pk=row.pk).update(hook="gone")
    refused = shop.chat(stream=stream)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "request_blocked")
    other = Shop(shop.platform, shop.server)
    row = other.bind("word_lists", {"blocked_terms": ["x"]}, on_failure="open")
    HookBinding.objects.filter(pk=row.pk).update(settings={"blocked_patterns": ["(a+)+"]})
    answer = other.chat(stream=stream)
    assert answer.status_code == 200
    assert {one["verdict"] for one in record_of(answer).hooks} == {"failed"}
    assert len(upstream.all_ended()) == 1


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:{}/hook", "http://localhost:{}/hook", "https://[::ffff:127.0.0.1]:{}/"]
)
def test_a_private_network_is_the_operators_to_allow(
    url: str, shop: Shop, receiver: WebhookReceiver, upstream: FakeOpenAI
) -> None:
    endpoint = moderation(shop, receiver)
    url = url.format(receiver.port)
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(url=url, allow_private_network=False)
    HookBinding.objects.filter(tenant=shop.tenant).update(settings={"url": url})
    assert shop.chat().json()["error"]["hook_failed"] is True
    assert receiver.received == [] and upstream.records == []


def test_another_tenants_webhook_cannot_be_used(shop: Shop, receiver: WebhookReceiver) -> None:
    other = factories.make_tenant()
    create_endpoint(WebhookEndpoint(tenant=other, url=receiver.url, allow_private_network=True))
    with pytest.raises(Exception, match="None of the tenant's webhooks"):
        shop.bind("webhook", {"url": receiver.url})
    HookBinding.objects.create(tenant=shop.tenant, name="stolen", hook="webhook", settings={"url": receiver.url})
    assert shop.chat().json()["error"]["hook"] == "stolen"
    assert receiver.received == []


def test_what_a_hook_said_is_told_by_the_api_and_counted(shop: Shop, uvicorn: LiveServer) -> None:
    shop.bind("noop", name="nothing")
    with shop.client() as client:
        body = {"model": shop.platform.chat.name, "messages": [{"role": "user", "content": "Hi"}]}
        answer = client.post("/chat/completions", json=body)
        record_of(answer)
        told = client.get(f"/requests/{answer.headers['x-request-id']}").json()
    assert [(one["binding"], one["stage"], one["verdict"]) for one in told["hooks"]] == [
        ("nothing", "before_call", "allow"),
        ("nothing", "after_call", "allow"),
    ]
    metrics = httpx.get(f"{uvicorn.origin}/metrics").text
    assert 'llm_hook_verdicts_total{hook="noop",stage="before_call",verdict="allow"}' in metrics


def test_list_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("list_plugins")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("hook")] == [
        "noop", "pii_redaction", "size_policy", "transformation", "webhook", "word_lists",
    ]  # fmt: skip
