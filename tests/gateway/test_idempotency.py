"""`Idempotency-Key` through the public door: a repeated call is made once, and answered again as it was."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections import Counter
from collections.abc import Iterator
from io import StringIO
from typing import Any
from uuid import uuid4

import aiohttp
import httpx
import orjson
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db.models import F
from openai import OpenAI
from redis import Redis

from billing.models import Attempt
from gateway.claims import purge_expired
from gateway.idempotency import KEPT_BYTES
from gateway.models import IdempotentCall
from tests import factories
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform
from tests.live import LiveServer, until

ASK = {"model": "fake-chat", "messages": [{"role": "user", "content": "say it once"}]}
PARALLEL = 50
SAME_HEADERS = ("content-type", "x-gateway-provider", "x-gateway-model", "x-gateway-attempts", "x-gateway-cost-usd")


@pytest.fixture
def key() -> str:
    """An idempotency key that no other test uses."""
    return f"key-{uuid4()}"


@pytest.fixture
def client(uvicorn: LiveServer, platform: Platform) -> Iterator[httpx.Client]:
    platform.known_to(uvicorn, "fake-chat", "fake-embed")
    with uvicorn.client(platform.key) as client:
        yield client


def post(client: httpx.Client, key: str, body: Any = ASK, path: str = "/chat/completions") -> httpx.Response:
    return client.post(path, json=body, headers={"idempotency-key": key})


def is_replay(answer: httpx.Response) -> bool:
    return answer.headers.get("x-gateway-idempotent-replay") == "true"


def assert_conflict(answer: httpx.Response, status: int) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, "idempotency_conflict")
    assert error["param"] == "Idempotency-Key"
    return error


@pytest.mark.parametrize("server_name", ["uvicorn", "daphne"])
def test_the_same_answer_again(
    servers: dict[str, LiveServer], platform: Platform, upstream: FakeOpenAI, key: str, server_name: str
) -> None:
    server = servers[server_name]
    platform.known_to(server, "fake-chat")
    with server.client(platform.key) as client:
        first, second = post(client, key), post(client, key)
    assert not is_replay(first) and is_replay(second)
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert [first.headers[name] for name in SAME_HEADERS] == [second.headers[name] for name in SAME_HEADERS]
    assert second.headers["x-gateway-original-request-id"] == first.headers["x-request-id"]
    assert second.headers["x-request-id"] != first.headers["x-request-id"], "its own line in the log"
    assert len(upstream.all_ended()) == 1
    platform.settled(first.headers["x-request-id"])
    assert not Attempt.objects.filter(request_id=second.headers["x-request-id"]).exists()


@pytest.mark.parametrize("with_usage", [True, False])
def test_a_stream_again(client: httpx.Client, upstream: FakeOpenAI, key: str, with_usage: bool) -> None:
    body = {**ASK, "stream": True, "stream_options": {"include_usage": with_usage}}
    first, second = post(client, key, body), post(client, key, body)
    assert first.content.endswith(b"data: [DONE]\n\n") and is_replay(second)
    assert second.content == first.content
    assert second.headers["content-type"] == first.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "content-length" not in second.headers
    assert len(upstream.all_ended()) == 1


def test_a_stream_that_broke_again(client: httpx.Client, upstream: FakeOpenAI, key: str) -> None:
    """It was charged, so it is what there is."""
    upstream.script(Script(pieces=("one ", "two "), fault="close", fault_after_events=3))
    body = {**ASK, "stream": True}
    first, second = post(client, key, body), post(client, key, body)
    assert b'"finish_reason":"error"' in first.content and first.content == second.content
    assert is_replay(second) and len(upstream.all_ended()) == 1


def test_embeddings(client: httpx.Client, upstream: FakeOpenAI, key: str) -> None:
    body = {"model": "fake-embed", "input": ["alpha", "beta"]}
    first, second = (post(client, key, body, "/embeddings") for _ in range(2))
    assert first.status_code == 200 and first.content == second.content and is_replay(second)
    assert len(upstream.all_ended()) == 1


def test_another_request(client: httpx.Client, upstream: FakeOpenAI, key: str) -> None:
    assert post(client, key).status_code == 200
    assert_conflict(post(client, key, {**ASK, "temperature": 0.5}), 422)
    assert_conflict(post(client, key, {"model": "fake-embed", "input": "alpha"}, "/embeddings"), 422)
    assert_conflict(post(client, key, path="/chat/completions?again=1"), 422)
    assert is_replay(post(client, key))
    assert len(upstream.all_ended()) == 1


def test_bytes_are_compared(client: httpx.Client, key: str) -> None:
    """Clients that retry send the same bytes; what two JSON texts mean is for the provider to say."""
    headers = {"idempotency-key": key, "content-type": "application/json"}
    compact = b'{"model":"fake-chat","messages":[{"role":"user","content":"x"}]}'
    assert client.post("/chat/completions", content=compact, headers=headers).status_code == 200
    assert_conflict(client.post("/chat/completions", content=compact.replace(b":", b": "), headers=headers), 422)


def test_still_running(client: httpx.Client, upstream: FakeOpenAI, key: str) -> None:
    upstream.script(Script(hold_before_headers=True))
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(post(client, key)))
    thread.start()
    upstream.wait_until(lambda records: any(record.held for record in records))
    meanwhile = post(client, key)
    upstream.release()
    thread.join(timeout=10)
    assert_conflict(meanwhile, 409)
    assert int(meanwhile.headers["retry-after"]) >= 1
    assert post(client, key).content == answers[0].content
    assert len(upstream.all_ended()) == 1


NONSENSE = {
    "empty": [b""],
    "space": [b"a b"],
    "non-ascii": ["schlüssel".encode()],
    "control": [b"a\x01b"],
    "nul": [b"a\x00b"],
    "long": [b"k" * 256],
    "a megabyte": [b"k" * 1024 * 1024],
    "twice": [b"one", b"one"],
}


@pytest.mark.parametrize("keys", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_keys(uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI, keys: list[bytes]) -> None:
    lines = [b"Idempotency-Key: " + key for key in keys]
    status, body = raw_post(uvicorn, platform.key, lines)
    assert status == 400
    if body.startswith(b"{"):  # some the server itself refuses
        assert b'"param":"Idempotency-Key"' in body
    assert upstream.records == []


def raw_post(server: LiveServer, key: str, lines: list[bytes]) -> tuple[int, bytes]:
    """A request as bytes: no client library sends such headers."""

    async def send() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = [b"POST /v1/chat/completions HTTP/1.1", b"Host: x", b"Connection: close", b"Content-Length: 2"]
        head += [f"Authorization: Bearer {key}".encode(), *lines]
        writer.write(b"\r\n".join(head) + b"\r\n\r\n{}")
        answer = await reader.read()
        writer.close()
        return answer

    head, _, body = asyncio.run(send()).partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body


def test_the_longest_key(client: httpx.Client) -> None:
    assert post(client, uuid4().hex.ljust(255, "~")).status_code == 200


def test_what_cost_nothing_runs_again(client: httpx.Client, upstream: FakeOpenAI, key: str) -> None:
    upstream.script(Script(status=503), times=2)
    first = post(client, key)
    assert first.status_code in (502, 503)
    assert not IdempotentCall.objects.filter(request_id=first.headers["x-request-id"]).exists()
    second = post(client, key)
    assert second.status_code == 200 and not is_replay(second)


def test_a_mistake_is_not_kept(client: httpx.Client, key: str) -> None:
    assert post(client, key, {"model": "fake-chat"}).status_code == 400
    assert post(client, key).status_code == 200


def test_outsiders_see_nothing(
    uvicorn: LiveServer, client: httpx.Client, platform: Platform, upstream: FakeOpenAI, key: str
) -> None:
    """Not another tenant, and not another API key of the same."""
    outsider = factories.make_tenant()
    factories.approve(outsider, platform.chat)
    assert post(client, key).status_code == 200
    for tenant in (outsider, platform.tenant):
        with uvicorn.client(factories.make_key(tenant)[1]) as other:
            answer = until(lambda other=other: _known(post(other, key)), what="the API key being known")
            assert answer.status_code == 200 and not is_replay(answer)
            assert is_replay(post(other, key))
            assert_conflict(post(other, key, {**ASK, "n": 1}), 422)
    assert is_replay(post(client, key))
    assert len(upstream.all_ended()) == 3


def test_the_answer_is_not_readable_at_rest(client: httpx.Client, upstream: FakeOpenAI, key: str) -> None:
    upstream.script(Script(text="the canary sings"))
    answer = post(client, key)
    assert "canary" in answer.text
    row = IdempotentCall.objects.get(request_id=answer.headers["x-request-id"])
    assert row.body and "canary" not in row.body and key not in str(row.__dict__)
    post(client, f"{key}-2")
    other = IdempotentCall.objects.exclude(pk=row.pk).order_by("-created_at").first()
    assert other is not None
    IdempotentCall.objects.filter(pk=row.pk).update(body=other.body)
    assert_conflict(post(client, key), 409)


def test_an_answer_too_large_to_keep(client: httpx.Client, upstream: FakeOpenAI, key: str) -> None:
    upstream.script(Script(text="long " * (KEPT_BYTES // 5)))
    first = post(client, key)
    assert first.status_code == 200 and len(first.content) > KEPT_BYTES
    second = post(client, key)
    error = assert_conflict(second, 409)
    assert second.headers["x-should-retry"] == "false"
    assert error["original_request_id"] == first.headers["x-request-id"]
    assert error["cost_usd"] == first.headers["x-gateway-cost-usd"]
    assert len(upstream.all_ended()) == 1


def test_after_a_day_the_key_is_free(client: httpx.Client, upstream: FakeOpenAI, key: str) -> None:
    answer = post(client, key)
    row = IdempotentCall.objects.filter(request_id=answer.headers["x-request-id"])
    row.update(created_at=F("created_at") - dt.timedelta(hours=23, minutes=59))
    assert is_replay(post(client, key)) and purge_expired() == 0
    row.update(created_at=F("created_at") - dt.timedelta(minutes=2))
    assert not is_replay(post(client, key, {**ASK, "temperature": 0.5}))
    assert len(upstream.all_ended()) == 2


def test_purge(client: httpx.Client, key: str) -> None:
    ids = [post(client, f"{key}-{number}").headers["x-request-id"] for number in range(3)]
    rows = IdempotentCall.objects.filter(request_id__in=ids)
    rows.exclude(request_id=ids[0]).update(created_at=F("created_at") - dt.timedelta(hours=25))
    said = StringIO()
    call_command("purge_idempotent_calls", stdout=said)
    assert said.getvalue() == "2 calls were deleted.\n"
    assert [row.request_id for row in rows] == ids[:1]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_client_that_leaves_finds_its_answer(
    server: LiveServer, platform: Platform, upstream: FakeOpenAI, key: str, stream: bool
) -> None:
    platform.known_to(server, "fake-chat")
    body = {**ASK, "stream": stream}
    upstream.script(
        Script(pieces=("one ", "two ", "three"), fault="hold", fault_after_events=3)
        if stream
        else Script(hold_before_headers=True, text="worth waiting for")
    )
    with server.asked("/chat/completions", body, key=platform.key, headers={"idempotency-key": key}):
        upstream.wait_until(lambda records: any(record.held for record in records))
    with server.client(platform.key) as client:
        assert_conflict(post(client, key, body), 409)
        upstream.release()
        answer = until(lambda: _answered(post(client, key, body)), what="the answer")
    assert is_replay(answer)
    assert ("three" if stream else "worth waiting for") in answer.text.replace('"', "")
    (record,) = upstream.all_ended()
    assert record.completed and not record.client_left
    charge = platform.settled(answer.headers["x-gateway-original-request-id"])
    assert (charge.ending, charge.usage_source) == ("completed", "provider_final")


async def ask_all(
    servers: list[LiveServer], api_key: str, keys: list[str], body: dict[str, Any]
) -> Counter[tuple[int, bool]]:
    """One call for each idempotency key, all at once, over the servers; how many of each status, replayed or not. The
    body has the bytes that `post` sends."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), headers={"authorization": f"Bearer {api_key}"}
    ) as session:

        async def ask(number: int) -> tuple[int, bool]:
            url = f"{servers[number % len(servers)].base_url}/chat/completions"
            async with session.post(url, data=orjson.dumps(body), headers={"idempotency-key": keys[number]}) as answer:
                await answer.read()
                return answer.status, "x-gateway-idempotent-replay" in answer.headers

        return Counter(await asyncio.gather(*(ask(number) for number in range(len(keys)))))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, committed: None) -> Iterator[list[LiveServer]]:
    folder = tmp_path_factory.mktemp("two")
    servers = [LiveServer("uvicorn", folder) for _ in range(2)]
    yield servers
    for server in servers:
        server.stop()


@pytest.mark.parametrize("same", [True, False], ids=["one key", "control: as many keys"])
def test_fifty_at_once_over_two_processes(
    two: list[LiveServer], platform: Platform, upstream: FakeOpenAI, key: str, same: bool
) -> None:
    """Redis forgets everything meanwhile: it has no say in this."""
    for server in two:
        platform.known_to(server, "fake-chat")
    upstream.script(Script(delay_seconds=0.2), times=None)
    keys = [key if same else f"{key}-{number}" for number in range(PARALLEL)]
    with Redis.from_url(settings.REDIS_CONNECTION) as redis:
        redis.flushdb()
        answers = asyncio.run(ask_all(two, platform.key, keys, ASK))
        redis.flushdb()
        repeated = asyncio.run(ask_all(two, platform.key, keys, ASK))
    if same:
        assert answers[200, False] == 1
        assert sum(answers.values()) == PARALLEL and {status for status, _ in answers} <= {200, 409}
    else:
        assert answers == {(200, False): PARALLEL}
    assert repeated == {(200, True): PARALLEL}
    assert len(upstream.all_ended()) == (1 if same else PARALLEL)


def test_the_sdk(uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI, key: str) -> None:
    """Its own retries repeat the header: a failure that was free runs again, a call under way is waited for."""
    platform.known_to(uvicorn, "fake-chat")
    upstream.script(Script(status=503), times=2)
    with OpenAI(base_url=uvicorn.base_url, api_key=platform.key, max_retries=2) as sdk:
        create = sdk.chat.completions.with_raw_response.create
        asked: dict[str, Any] = {**ASK, "extra_headers": {"Idempotency-Key": key}}
        first, second = create(**asked), create(**asked)
        assert first.parse().id == second.parse().id
        assert second.headers["x-gateway-idempotent-replay"] == "true"
        asked["extra_headers"] = {"Idempotency-Key": f"{key}-stream"}
        one, two = (list(sdk.chat.completions.create(**asked, stream=True)) for _ in range(2))
        assert one == two != []
    assert [record.status for record in upstream.all_ended()] == [503, 503, 200, 200]


def _known(answer: httpx.Response) -> httpx.Response | None:
    return answer if answer.status_code not in (401, 403) else None


def _answered(answer: httpx.Response) -> httpx.Response | None:
    return answer if answer.status_code != 409 else None
