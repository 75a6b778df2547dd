"""Every refusal and failure: the right status, OpenAI's envelope, a request id, never a traceback."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import httpx
import pytest

from providers.models import ApprovalState, Lifecycle, Model
from providers.services import decide_approval, move_model
from tenants.keys import generate_key
from tenants.models import TenantStatus
from tenants.services import revoke_key, set_tenant_status
from tests import factories
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform
from tests.live import CHANGES_SEEN_SECONDS, LiveServer, free_port, until

HELLO = [{"role": "user", "content": "hi"}]
CHAT = {"model": "fake-chat", "messages": HELLO}
EMBED = {"model": "fake-embed", "input": "hi"}


def check(answer: httpx.Response, status: int, code: str, *, param: str | None = None) -> dict[str, Any]:
    """The envelope every error must have; returns its object."""
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert {"message", "type", "code", "param", "request_id"} <= set(error)
    assert error["code"] == code
    assert error["param"] == param
    assert error["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    return error


@pytest.fixture
def client(server: LiveServer, platform: Platform) -> httpx.Client:
    platform.known_to(server, "fake-chat", "fake-embed")
    with server.client(platform.key) as client:
        yield client


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Bearer",
        "Bearer bsr_live_short",
        "Basic dXNlcjpwYXNz",
        "Bearer ' OR 1=1--",
        "Bearer " + generate_key()[:-1] + "!",
        "Bearer " + generate_key(),
        "Bearer " + "x" * 8_000,
    ],
    ids=["none", "empty", "short", "basic", "sql", "checksum", "unknown", "long"],
)
def test_no_valid_key(server: LiveServer, authorization: str | None) -> None:
    headers = {"authorization": authorization} if authorization else {}
    with server.client() as client:
        bodies = {
            check(client.post("/chat/completions", json=CHAT, headers=headers), 401, "invalid_api_key")["message"]
        }
        bodies.add(check(client.get("/models", headers=headers), 401, "invalid_api_key")["message"])
    assert len(bodies) == 1, "the same words whatever is wrong with the key"


def test_two_authorization_headers(server: LiveServer, platform: Platform) -> None:
    twice = [("authorization", f"Bearer {platform.key}"), ("authorization", f"Bearer {platform.key}")]
    with server.client() as client:
        check(client.get("/models", headers=twice), 401, "invalid_api_key")


@pytest.mark.parametrize("header", ["x-api-key", "api-key"])
def test_other_headers_carry_the_key_too(server: LiveServer, platform: Platform, header: str) -> None:
    with server.client() as client:
        assert client.get("/models", headers={header: platform.key}).status_code == 200


def test_revoked_key(server: LiveServer, platform: Platform) -> None:
    row, key = factories.make_key(platform.tenant)
    with server.client(key) as client:
        assert client.get("/models").status_code == 200
        revoke_key(row)
        refused = until(
            lambda: (answer := client.get("/models")).status_code == 401 and answer,
            seconds=CHANGES_SEEN_SECONDS,
            what="the revocation",
        )
    check(refused, 401, "invalid_api_key")


def test_expired_key(server: LiveServer, platform: Platform) -> None:
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
    _, key = factories.make_key(platform.tenant, expires_at=soon)
    with server.client(key) as client:
        assert client.get("/models").status_code == 200
        until(lambda: client.get("/models").status_code == 401, seconds=3, what="the expiry")


def test_suspended_tenant(server: LiveServer, platform: Platform) -> None:
    tenant = factories.make_tenant()
    _, key = factories.make_key(tenant)
    with server.client(key) as client:
        assert client.get("/models").status_code == 200
        set_tenant_status(tenant, TenantStatus.SUSPENDED)
        until(lambda: client.get("/models").status_code == 403, seconds=CHANGES_SEEN_SECONDS, what="the suspension")
        check(client.post("/chat/completions", json=CHAT), 403, "tenant_suspended")
        set_tenant_status(tenant, TenantStatus.ACTIVE)
        until(lambda: client.get("/models").status_code == 200, seconds=CHANGES_SEEN_SECONDS, what="the resumption")


def test_scopes(server: LiveServer, platform: Platform) -> None:
    _, key = factories.make_key(platform.tenant, scopes=("embeddings",))
    with server.client(key) as client:
        check(client.post("/chat/completions", json=CHAT), 403, "permission_denied")
        check(client.get("/models"), 403, "permission_denied")
        assert client.post("/embeddings", json=EMBED).status_code == 200


def test_ip_allow_list(server: LiveServer, platform: Platform) -> None:
    _, elsewhere = factories.make_key(platform.tenant, ip_allow_list=("192.0.2.0/24", "2001:db8::/32"))
    _, here = factories.make_key(platform.tenant, ip_allow_list=("127.0.0.0/8",))
    with server.client(elsewhere) as client:
        forged = {"x-forwarded-for": "192.0.2.7"}
        check(client.get("/models", headers=forged), 403, "permission_denied")
    with server.client(here) as client:
        assert client.get("/models").status_code == 200


def test_unknown_model(client: httpx.Client) -> None:
    check(client.post("/chat/completions", json={**CHAT, "model": "nope"}), 404, "model_not_found", param="model")
    check(client.post("/embeddings", json={**EMBED, "model": "nope"}), 404, "model_not_found", param="model")
    check(client.get("/models/nope"), 404, "model_not_found", param="model")
    check(client.get("/no/such/url"), 404, "unknown_url")


def test_a_tenant_sees_and_uses_only_what_is_approved_for_it(
    server: LiveServer, platform: Platform, upstream: FakeOpenAI
) -> None:
    _, key = factories.make_key(factories.make_tenant())
    with server.client(key) as outsider:
        assert outsider.get("/models").json()["data"] == []
        check(outsider.get("/models/fake-chat"), 404, "model_not_found", param="model")
        check(outsider.post("/chat/completions", json=CHAT), 403, "model_not_approved", param="model")
        check(outsider.post("/embeddings", json=EMBED), 403, "model_not_approved", param="model")
    assert upstream.records == []


def test_approval_can_be_taken_back(server: LiveServer, platform: Platform, upstream: FakeOpenAI) -> None:
    tenant = factories.make_tenant()
    _, key = factories.make_key(tenant)
    factories.approve(tenant, platform.chat)
    approval = tenant.approvals.get()
    with server.client(key) as client:
        assert client.post("/chat/completions", json=CHAT).status_code == 200
        decide_approval(approval, ApprovalState.SUSPENDED, by=None)
        until(
            lambda: client.post("/chat/completions", json=CHAT).status_code == 403,
            seconds=CHANGES_SEEN_SECONDS,
            what="the suspension",
        )
        check(client.post("/chat/completions", json=CHAT), 403, "model_not_approved", param="model")


def test_lifecycle(server: LiveServer, platform: Platform, upstream: FakeOpenAI) -> None:
    provider = platform.chat.deployments.get().provider
    model = factories.make_model(provider)
    factories.approve(platform.tenant, model)
    platform.known_to(server, model.name)
    request = {**CHAT, "model": model.name}
    with server.client(platform.key) as client:
        move_model(model, Lifecycle.DEPRECATED, by=None)
        assert client.post("/chat/completions", json=request).status_code == 200, "deprecated models still serve"
        Model.objects.filter(pk=model.pk).update(successor=platform.chat)
        move_model(model, Lifecycle.RETIRED, by=None)
        until(
            lambda: client.post("/chat/completions", json=request).status_code == 404,
            seconds=CHANGES_SEEN_SECONDS,
            what="the retirement",
        )
        error = check(client.post("/chat/completions", json=request), 404, "model_not_found", param="model")
        assert "fake-chat" in error["message"], "a retired model names its successor"
        move_model(model, Lifecycle.PROPOSED, by=None)
        until(
            lambda: client.post("/chat/completions", json=request).status_code == 403,
            seconds=CHANGES_SEEN_SECONDS,
            what="the proposal",
        )


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b'"text"', None),
        (b'{"model": "fake-chat", "messages": NaN}', None),
        (b"\xff\xfe", None),
        (b'{"model": "fake-chat", "messages": [{"role": "user", "content": "\xed\xa0\x80"}]}', None),
        (b'{"model":"fake-chat","messages":' + b"[" * 100_000, "messages[0]"),
        (b'{"model":"fake-chat","messages":[{"role":"user","content":"x"}],"x":' + b"[" * 100_000, None),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "model"),
        (b'{"model": "fake-chat"}', "messages"),
        (b'{"model": "fake-chat", "messages": []}', "messages"),
        (b'{"model": "fake-chat", "messages": "hi"}', "messages"),
        (b'{"model": 7, "messages": [{"role": "user", "content": "x"}]}', "model"),
        (b'{"model": "fake-chat", "messages": [{"content": "x"}]}', "messages[0].role"),
        (b'{"model": "fake-chat", "messages": [{"role": "king", "content": "x"}]}', "messages[0].role"),
        (b'{"model": "fake-chat", "messages": [{"role": "user", "content": 5}]}', "messages[0].content"),
        (
            b'{"model": "fake-chat", "messages": [{"role": "user", "content": [{"text": "x"}]}]}',
            "messages[0].content[0].type",
        ),
        (b'{"model": "fake-chat", "messages": [{"role": "user", "content": "x"}], "stream": "yes"}', "stream"),
        (b'{"model": "fake-chat", "messages": [{"role": "user", "content": "x"}], "max_tokens": -1}', "max_tokens"),
        (b'{"model": "fake-chat", "messages": [{"role": "user", "content": "x"}], "n": 1000}', "n"),
        (b'{"model": "fake-chat", "messages": [{"role": "user", "content": "x"}], "tools": {}}', "tools"),
        (
            b'{"model": "fake-chat", "messages": [{"role": "user", "content": "x"}], "temperature": "hot"}',
            "temperature",
        ),
        (
            b'{"model": "fake-chat", "messages": [{"role": "user", "content": "x"}], '
            b'"stream_options": {"include_usage": true}}',
            "stream_options",
        ),
        (b'{"model": "fake-chat", "messages": [{"role": "user", "content": "x"}], "user": "a\\u0000b"}', "user"),
    ],
)
def test_wrong_chat_bodies(client: httpx.Client, upstream: FakeOpenAI, body: bytes, param: str | None) -> None:
    check(client.post("/chat/completions", content=body), 400, "validation_error", param=param)
    assert upstream.records == []


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": [1.5]}, "input[0]"),
        ({"input": ["a", 1]}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
    ],
)
def test_wrong_embeddings_bodies(client: httpx.Client, upstream: FakeOpenAI, change: Any, param: str) -> None:
    check(client.post("/embeddings", json={**EMBED, **change}), 400, "validation_error", param=param)
    assert upstream.records == []


def test_huge_bodies(client: httpx.Client) -> None:
    body = json.dumps({**CHAT, "user": "x" * 30_000_000}).encode()
    check(client.post("/chat/completions", content=body), 413, "payload_too_large")

    def pieces() -> Any:
        for _ in range(30):
            yield b" " * 1_000_000

    check(client.post("/chat/completions", content=pieces()), 413, "payload_too_large")
    assert client.get("/models").status_code == 200


def test_wrong_method(client: httpx.Client) -> None:
    check(client.get("/chat/completions"), 405, "method_not_allowed")
    check(client.post("/models", json={}), 405, "method_not_allowed")


def test_capability(server: LiveServer, platform: Platform, upstream: FakeOpenAI) -> None:
    provider = platform.chat.deployments.get().provider
    plain = factories.make_model(provider, capabilities=("chat",))
    factories.approve(platform.tenant, plain)
    platform.known_to(server, plain.name)
    request = {**CHAT, "model": plain.name}
    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]
    with server.client(platform.key) as client:
        for change, capability in (
            ({"stream": True}, "stream"),
            ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
            ({"messages": picture}, "vision"),
            ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "json_schema"),
        ):
            answer = client.post("/chat/completions", json={**request, **change})
            error = check(answer, 400, "capability_not_supported", param="model")
            assert error["capability"] == capability
        embedding = client.post("/embeddings", json={**EMBED, "model": plain.name})
        check(embedding, 400, "capability_not_supported", param="model")
    assert upstream.records == []


def test_provider_down(server: LiveServer, platform: Platform) -> None:
    nobody = factories.make_provider(f"http://127.0.0.1:{free_port()}/v1")
    model = factories.make_model(nobody)
    factories.approve(platform.tenant, model)
    platform.known_to(server, model.name)
    with server.client(platform.key) as client:
        for stream in (False, True):
            answer = client.post("/chat/completions", json={**CHAT, "model": model.name, "stream": stream})
            error = check(answer, 503, "provider_unavailable")
            assert error["attempts"] == [f"{nobody.name}: unreachable"] * 2, "nobody else is left, so it is asked again"
            assert answer.headers["retry-after"]
            assert platform.ended(error["request_id"]).state == "voided"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        (Script(status=500), 502, "provider_error"),
        (Script(status=401), 502, "provider_error"),
        (Script(status=403), 502, "provider_error"),
        (Script(status=429, headers={"retry-after": "17"}), 503, "provider_unavailable"),
        (Script(drop_before_headers="close"), 502, "provider_error"),
        (Script(drop_before_headers="reset"), 502, "provider_error"),
        (Script(raw_body=b"<html>busy</html>", raw_events=(b"data: <html>\n\n",)), 502, "provider_error"),
        (
            Script(raw_body=b'{"choices": []}', raw_events=(b'data: {"error": {"message": "x"}}\n\n',)),
            502,
            "provider_error",
        ),
        (Script(status=307, headers={"location": "http://127.0.0.1:1/"}), 502, "provider_error"),
    ],
)
def test_provider_faults(
    client: httpx.Client, platform: Platform, upstream: FakeOpenAI, script: Script, status: int, code: str, stream: bool
) -> None:
    upstream.script(script, times=None)
    answer = client.post("/chat/completions", json={**CHAT, "stream": stream})
    error = check(answer, status, code)
    if script.status == 429:
        assert answer.headers["retry-after"] == "17"
    assert platform.ended(error["request_id"]).state == "voided"
    assert platform.usage(request_id=error["request_id"]) == []
    is_worth_another_try = script.status not in (401, 403, 429)
    assert len(upstream.all_ended()) in ((1, 2) if is_worth_another_try else (1,)), "as the retry budget has it"


def test_what_the_provider_says_of_the_input_is_the_clients_to_mend(client: httpx.Client, upstream: FakeOpenAI) -> None:
    upstream.script(Script(status=400, error={"message": "Too many tokens.", "param": "messages", "code": "context"}))
    error = check(client.post("/chat/completions", json=CHAT), 400, "validation_error", param="messages")
    assert error["message"] == "Too many tokens."


def test_a_credential_is_never_passed_on(client: httpx.Client, server: LiveServer, upstream: FakeOpenAI) -> None:
    upstream.script(Script(status=401, error={"message": f"Incorrect API key provided: {upstream.api_key}."}))
    error = check(client.post("/chat/completions", json=CHAT), 502, "provider_error")
    assert upstream.api_key not in json.dumps(error)
    assert "[credential]" in error["message"]
    assert upstream.api_key not in server.log.read_text()


def test_a_huge_error_is_cut(client: httpx.Client, upstream: FakeOpenAI) -> None:
    upstream.script(Script(status=500, raw_body=b"<script>" + b"x" * 5_000_000), times=2)
    answer = client.post("/chat/completions", json=CHAT)
    check(answer, 502, "provider_error")
    assert len(answer.content) < 20_000


@pytest.mark.parametrize(
    ("fault", "fault_bytes"),
    [("close", b""), ("reset", b""), ("end", b""), ("error", b""), ("insert", b"data: {nonsense\n\n")],
)
def test_a_stream_that_breaks_off(
    client: httpx.Client, platform: Platform, upstream: FakeOpenAI, fault: Any, fault_bytes: bytes
) -> None:
    words = ("one ", "two ", "three ")
    # The pause sets the fault apart from the first words: what comes with it in one read has not begun yet.
    upstream.script(
        Script(pieces=words, fault=fault, fault_after_events=3, fault_bytes=fault_bytes, chunk_pause_seconds=0.05)
    )
    answer = client.post("/chat/completions", json={**CHAT, "stream": True})
    assert answer.status_code == 200
    events = [line.removeprefix("data: ") for line in answer.text.split("\n") if line]
    assert events[-1] != "[DONE]"
    error = json.loads(events[-1])["error"]
    assert error["code"] == "provider_error" and error["request_id"] == answer.headers["x-request-id"]
    charge = platform.settled(answer.headers["x-request-id"])
    assert (charge.ending, charge.usage_source) == ("failed", "local_count")
    assert charge.output_tokens > 0 and charge.cost_nano_usd > 0


def test_request_ids(client: httpx.Client) -> None:
    assert client.get("/models", headers={"x-request-id": "mine-1:a.b_c"}).headers["x-request-id"] == "mine-1:a.b_c"
    for bad in ("", "a b", "x" * 129, "a/b"):
        assert client.get("/models", headers={"x-request-id": bad}).headers["x-request-id"].startswith("req_")


def test_browsers_may_call(server: LiveServer, platform: Platform) -> None:
    with server.client() as client:
        preflight = client.options("/chat/completions", headers={"origin": "https://app.example"})
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == "*"
        assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
        refused = client.get("/models", headers={"origin": "https://app.example"})
        assert refused.status_code == 401 and refused.headers["access-control-allow-origin"] == "*"
