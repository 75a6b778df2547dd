"""Calls that are cancelled through the API, from another process than the one that makes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from redis import Redis

from billing.models import Attempt, UsageRecord
from gateway.models import RequestRecord
from tests import factories
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.forked import Forkery
from tests.gateway.conftest import wait_for_models
from tests.gateway.shops import ASK, Shop
from tests.live import LiveServer, free_port, until

WORDS = tuple(f"w{number} " for number in range(30))
HELD = {
    "chat": Script(text="a whole answer", hold_before_headers=True),
    "stream that has not begun": Script(text="a whole answer", hold_before_headers=True),
    "stream": Script(pieces=WORDS, fault="hold", fault_after_events=6),
    "embeddings": Script(hold_before_headers=True),
}
OTHER = {"uvicorn": "daphne", "daphne": "uvicorn"}


@pytest.fixture
def shops(committed: None, upstream: FakeOpenAI) -> dict[str, Shop]:
    upstream.reset()
    return {policy: Shop(upstream, policy) for policy in ("abort", "drain")}


@pytest.fixture
def shop(shops: dict[str, Shop]) -> Shop:
    return shops["abort"]


@pytest.fixture
def other(server: LiveServer, servers: dict[str, LiveServer], shops: dict[str, Shop]) -> LiveServer:
    """The server that is told to cancel what `server` does."""
    both = (server, servers[OTHER[server.server]])
    for one in both:
        for shop in shops.values():
            wait_for_models(one, shop.key, shop.model.name, shop.embed.name)
    return both[1]


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def call(
    server: LiveServer, shop: Shop, *, what: str, request_id: str, begun: threading.Event | None = None, **headers: str
) -> httpx.Response:
    """Make a call and wait for its end. `begun` is set when the head of the answer has come."""
    headers["x-request-id"] = request_id
    hooks = {"response": [lambda _: begun.set()]} if begun is not None else {}
    with server.client(shop.key, event_hooks=hooks) as client:
        if what == "embeddings":
            return client.post("/embeddings", json={"model": shop.embed.name, "input": "x"}, headers=headers)
        body = {"model": shop.model.name, "messages": ASK, "stream": what.startswith("stream")}
        return client.post("/chat/completions", json=body, headers=headers)


def cancel(server: LiveServer, key: str, request_id: str) -> httpx.Response:
    with server.client(key) as client:
        return client.post(f"/requests/{request_id}/cancel")


def held(
    clients: ThreadPoolExecutor, server: LiveServer, shop: Shop, upstream: FakeOpenAI, *, what: str, **headers: str
) -> tuple[str, Future[httpx.Response]]:
    """A call that its provider has and will not answer, with its id."""
    upstream.script(HELD[what])
    request_id = factories.unique("call")
    before = upstream.counters.held
    begun = threading.Event()
    answer = clients.submit(call, server, shop, what=what, request_id=request_id, begun=begun, **headers)
    upstream.wait_until(lambda _: upstream.counters.held == before + 1)
    if what == "stream":  # what the provider has written, a busy server may not have read
        assert begun.wait(10)
    return request_id, answer


def error_of(answer: httpx.Response, *, stream: bool) -> dict[str, Any]:
    """What the client was told: the body of a 499, or the last event of a stream that had begun."""
    if not stream:
        assert answer.status_code == 499 and answer.headers["x-should-retry"] == "false"
        return dict(answer.json()["error"])
    assert answer.status_code == 200 and "[DONE]" not in answer.text
    last = answer.text.strip().rpartition("data: ")[2]
    error = dict(httpx.Response(200, text=last).json()["error"])
    assert error.pop("finish_reason") == "error"
    return error


@pytest.mark.parametrize("policy", ["abort", "drain"])
@pytest.mark.parametrize("what", list(HELD))
def test_cancel_from_another_process(
    server: LiveServer,
    other: LiveServer,
    shops: dict[str, Shop],
    upstream: FakeOpenAI,
    clients: ThreadPoolExecutor,
    what: str,
    policy: str,
) -> None:
    """The provider is cut off while it still holds its answer; where it bills all of it anyway, it is heard out."""
    shop = shops[policy]
    request_id, asking = held(clients, server, shop, upstream, what=what)
    done = cancel(other, shop.key, request_id)
    assert (done.status_code, done.json()) == (200, {"id": request_id, "object": "request", "cancelled": True})
    error = error_of(asking.result(), stream=what == "stream")
    assert (error["code"], error["request_id"]) == ("request_cancelled", request_id)
    if policy == "drain":
        upstream.release()
    (record,) = upstream.all_ended()
    assert (record.completed, record.client_left) == (policy == "drain", policy == "abort")
    (charge,) = shop.charges()
    assert charge.ending == "client_left" and charge.request_id == request_id
    assert charge.usage_source == ("provider_final" if policy == "drain" else "local_count")
    logged: RequestRecord = until(RequestRecord.objects.filter(request_id=request_id).first, what="its row")
    assert (logged.status, logged.error_code) == (200 if what == "stream" else 499, "request_cancelled")
    assert [line["error"] for line in server.call_lines() if line["request_id"] == request_id] == ["request_cancelled"]


def test_a_provider_sees_it_within_a_second(
    server: LiveServer, other: LiveServer, shop: Shop, upstream: FakeOpenAI, clients: ThreadPoolExecutor
) -> None:
    """It says fifty words a second, and would for twenty seconds."""
    upstream.script(Script(pieces=("word ",) * 1000, chunk_pause_seconds=0.02))
    asking = clients.submit(call, server, shop, what="stream", request_id="counted")
    upstream.wait_until(lambda records: bool(records) and upstream.counters.open_streams == 1)
    until(lambda: cancel(other, shop.key, "counted").status_code == 200, what="the call being there to cancel")
    assert error_of(asking.result(), stream=asking.result().status_code == 200)["code"] == "request_cancelled"
    (record,) = upstream.all_ended()
    assert record.client_left and record.events_sent < 60
    shop.charges()


@pytest.mark.parametrize("what", ["chat", "stream"])
def test_an_outsider_cancels_nothing(
    server: LiveServer, other: LiveServer, shops: dict[str, Shop], upstream: FakeOpenAI, clients: ThreadPoolExecutor,
    what: str,
) -> None:  # fmt: skip
    shop, outsider = shops["abort"], shops["drain"]
    request_id, asking = held(clients, server, shop, upstream, what=what)
    for one in (server, other):
        refused = cancel(one, outsider.key, request_id)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "request_not_found")
    assert upstream.counters.held == 1 and not asking.done()
    upstream.release()
    assert asking.result().status_code == 200 and "request_cancelled" not in asking.result().text


def test_one_of_two_tenants_with_the_same_id(
    server: LiveServer, other: LiveServer, shops: dict[str, Shop], upstream: FakeOpenAI, clients: ThreadPoolExecutor
) -> None:
    upstream.script(HELD["chat"], times=2)
    asking = {
        policy: clients.submit(call, server, shop, what="chat", request_id="same") for policy, shop in shops.items()
    }
    upstream.wait_until(lambda _: upstream.counters.held == 2)
    assert cancel(other, shops["abort"].key, "same").status_code == 200
    assert asking["abort"].result().status_code == 499
    upstream.release()
    assert asking["drain"].result().status_code == 200


def test_twice_and_too_late(
    uvicorn: LiveServer, servers: dict[str, LiveServer], shop: Shop, upstream: FakeOpenAI, clients: ThreadPoolExecutor
) -> None:
    wait_for_models(uvicorn, shop.key, shop.model.name)
    request_id, asking = held(clients, uvicorn, shop, upstream, what="chat")
    statuses = [
        answer.result().status_code
        for answer in [clients.submit(cancel, uvicorn, shop.key, request_id) for _ in range(5)]
    ]
    assert set(statuses) <= {200, 404} and 200 in statuses
    assert error_of(asking.result(), stream=False)["code"] == "request_cancelled"
    for one in (uvicorn, servers["daphne"]):
        assert cancel(one, shop.key, request_id).status_code == 404
    assert call(uvicorn, shop, what="chat", request_id="whole").status_code == 200
    assert cancel(uvicorn, shop.key, "whole").status_code == 404
    assert len(shop.charges(2)) == 2


def test_nonsense_ids(server: LiveServer, other: LiveServer, shop: Shop) -> None:
    with server.client(shop.key) as client:
        for request_id in ("nobody's", "a" * 129, "a%20b", "%00", "%0a1%0a", "0", "%F0%9F%92%A9", "*", "1 2 3", "a/b"):
            for method, path in (("POST", f"/requests/{request_id}/cancel"), ("GET", f"/requests/{request_id}")):
                refused = client.request(method, path)
                assert refused.status_code == 404, refused.text
                assert refused.json()["error"]["code"] in ("request_not_found", "unknown_url")


def test_its_own_id(uvicorn: LiveServer, shop: Shop) -> None:
    """A cancelling request that bears the id it asks for does not cancel itself."""
    wait_for_models(uvicorn, shop.key, shop.model.name)
    with uvicorn.client(shop.key) as client:
        answer = client.post("/requests/me/cancel", headers={"x-request-id": "me"})
    assert answer.status_code == 404


def test_a_key_without_the_scope(uvicorn: LiveServer, shop: Shop) -> None:
    wait_for_models(uvicorn, shop.key, shop.model.name)
    key = factories.make_key(shop.tenant, scopes=["models"])[1]
    assert cancel(uvicorn, key, "any").json()["error"]["code"] == "permission_denied"


@pytest.mark.parametrize("what", ["chat", "stream"])
def test_a_call_with_an_idempotency_key_is_not_made_again(
    server: LiveServer, other: LiveServer, shop: Shop, upstream: FakeOpenAI, clients: ThreadPoolExecutor, what: str
) -> None:
    """Whoever cancels has decided: the key stands for the cancelled call."""
    key = {"idempotency-key": factories.unique("once")}
    request_id, asking = held(clients, server, shop, upstream, what=what, **key)
    assert cancel(other, shop.key, request_id).status_code == 200
    assert error_of(asking.result(), stream=what == "stream")["code"] == "request_cancelled"
    again = until(
        lambda: _over(call(other, shop, what=what, request_id=factories.unique("again"), **key)), what="its end"
    )
    if what == "chat":
        assert again.status_code == 499 and again.headers["x-gateway-original-request-id"] == request_id
    else:
        assert (again.status_code, again.headers["x-should-retry"]) == (409, "false")
    assert len(upstream.all_ended()) == 1 and len(shop.charges()) == 1


def _over(answer: httpx.Response) -> httpx.Response | None:
    return None if "retry-after" in answer.headers else answer


def test_without_redis_only_its_own_process_cancels(
    committed: None, shop: Shop, upstream: FakeOpenAI, clients: ThreadPoolExecutor, tmp_path_factory: Any
) -> None:
    with Forkery(tmp_path_factory.mktemp("forked")) as forkery:
        server = forkery.serve(redis_url=f"redis://127.0.0.1:{free_port()}/0")
        until(lambda: _lives(server), seconds=30, what="the server")
        wait_for_models(server, shop.key, shop.model.name)
        request_id, asking = held(clients, server, shop, upstream, what="chat")
        elsewhere = cancel(server, shop.key, "elsewhere")
        assert (elsewhere.status_code, elsewhere.json()["error"]["code"]) == (503, "overloaded")
        assert cancel(server, shop.key, request_id).status_code == 200
        assert error_of(asking.result(), stream=False)["code"] == "request_cancelled"
        shop.charges()


def _lives(server: LiveServer) -> bool:
    try:
        return server.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def test_a_listener_that_lost_redis_listens_again(
    server: LiveServer, other: LiveServer, shop: Shop, upstream: FakeOpenAI, clients: ThreadPoolExecutor,
    settings: Any,
) -> None:  # fmt: skip
    request_id, asking = held(clients, server, shop, upstream, what="chat")
    with Redis.from_url(settings.REDIS_CONNECTION) as redis:
        mine = str(redis.get_connection_kwargs()["db"])  # other tests have theirs on the same server
        for listener in redis.client_list(_type="pubsub"):
            if listener["db"] == mine:
                redis.client_kill_filter(_id=listener["id"])
    until(lambda: cancel(other, shop.key, request_id).status_code == 200, what="both listening again")
    assert error_of(asking.result(), stream=False)["code"] == "request_cancelled"
    assert Attempt.objects.filter(request_id=request_id).count() == 1
    assert UsageRecord.objects.filter(request_id=request_id).count() <= 1
