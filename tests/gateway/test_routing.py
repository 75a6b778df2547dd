"""Names that stand for several models, and what happens when the first deployment does not answer."""

from __future__ import annotations

import pytest

from providers.models import AgentType, Deployment
from tests import factories
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform
from tests.live import LiveServer, free_port, until

HELLO = [{"role": "user", "content": "hi"}]


def test_group_and_agent_type(uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI) -> None:
    group = factories.make_group(platform.chat, platform.mock_chat)
    AgentType.objects.create(name="qa-engineer", target=group.name)
    factories.approve(platform.tenant, group)
    platform.known_to(uvicorn, group.name)
    with uvicorn.client(platform.key) as client:
        by_name = client.post("/chat/completions", json={"model": group.name, "messages": HELLO})
        by_type = client.post(
            "/chat/completions", json={"model": "auto", "messages": HELLO}, headers={"x-agent-type": "qa-engineer"}
        )
        unmapped = client.post("/chat/completions", json={"model": "auto", "messages": HELLO})
        described = client.get(f"/models/{group.name}").json()
    assert by_name.headers["x-gateway-model"] == by_type.headers["x-gateway-model"] == "fake-chat"
    assert unmapped.status_code == 400 and unmapped.json()["error"]["param"] == "model"
    assert described["members"] == ["fake-chat", "mock-chat"]
    charge = platform.settled(by_name.headers["x-request-id"])
    assert (charge.requested_model, charge.model_name) == (group.name, "fake-chat")


@pytest.mark.parametrize("stream", [False, True])
def test_the_next_deployment_answers_when_the_first_is_down(
    server: LiveServer, platform: Platform, upstream: FakeOpenAI, stream: bool
) -> None:
    dead = factories.make_provider(f"http://127.0.0.1:{free_port()}/v1")
    healthy = platform.chat.deployments.get().provider
    model = factories.make_model(dead, healthy, upstream_model="gpt-5.2")
    factories.approve(platform.tenant, model)
    platform.known_to(server, model.name)
    with server.client(platform.key) as client:
        answer = client.post("/chat/completions", json={"model": model.name, "messages": HELLO, "stream": stream})
    assert answer.status_code == 200
    assert answer.headers["x-gateway-provider"] == "fake"
    assert answer.headers["x-gateway-attempts"] == "2" and answer.headers["x-gateway-fallback"] == "true"
    assert platform.settled(answer.headers["x-request-id"]).provider_name == "fake"


def test_every_deployment_fails(uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI) -> None:
    broken = factories.make_provider(upstream.base_url, secret=upstream.api_key)
    dead = factories.make_provider(f"http://127.0.0.1:{free_port()}/v1")
    model = factories.make_model(broken, dead, upstream_model="gpt-5.2")
    factories.approve(platform.tenant, model)
    platform.known_to(uvicorn, model.name)
    upstream.script(Script(status=500), times=None)
    with uvicorn.client(platform.key) as client:
        answer = client.post("/chat/completions", json={"model": model.name, "messages": HELLO})
    assert answer.status_code == 503
    tried = answer.json()["error"]["attempts"]
    assert tried[:2] == [f"{broken.name}: broken", f"{dead.name}: unreachable"]
    assert len(tried) == 3 and tried[2] in tried[:2], "one of them is asked once more"


def test_a_request_the_provider_refuses_is_not_tried_elsewhere(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI
) -> None:
    healthy = platform.chat.deployments.get().provider
    other = factories.make_provider(upstream.base_url, secret=upstream.api_key)
    model = factories.make_model(healthy, other, upstream_model="gpt-5.2")
    factories.approve(platform.tenant, model)
    platform.known_to(uvicorn, model.name)
    upstream.script(Script(status=400), times=None)
    with uvicorn.client(platform.key) as client:
        assert client.post("/chat/completions", json={"model": model.name, "messages": HELLO}).status_code == 400
    assert len(upstream.all_ended()) == 1


def test_weights_share_a_priority(uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI) -> None:
    provider = platform.chat.deployments.get().provider
    model = factories.make_model(provider, upstream_model="gpt-5.2")
    Deployment.objects.create(model=model, provider=provider, upstream_model="gpt-5.2-mini", priority=1, weight=3)
    factories.approve(platform.tenant, model)
    platform.known_to(uvicorn, model.name)
    with uvicorn.client(platform.key) as client:
        for _ in range(60):
            client.post("/chat/completions", json={"model": model.name, "messages": HELLO})
    asked = [record.model for record in upstream.all_ended()]
    assert set(asked) == {"gpt-5.2", "gpt-5.2-mini"}, "60 draws at 1 to 3 miss one side once in 30 million"


def test_a_disabled_deployment_gets_no_calls(uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI) -> None:
    model = factories.make_model(platform.chat.deployments.get().provider, upstream_model="gpt-5.2")
    factories.approve(platform.tenant, model)
    platform.known_to(uvicorn, model.name)
    model.deployments.update(enabled=False)
    with uvicorn.client(platform.key) as client:
        ask = {"model": model.name, "messages": HELLO}
        until(lambda: client.post("/chat/completions", json=ask).status_code == 503, seconds=2, what="the switch-off")
        assert client.post("/chat/completions", json=ask).json()["error"]["code"] == "provider_unavailable"


def test_openai_itself_gets_the_member_its_newer_models_insist_on(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI
) -> None:
    provider = factories.make_provider(upstream.base_url, secret=upstream.api_key, kind="openai")
    model = factories.make_model(provider, upstream_model="gpt-5.2")
    factories.approve(platform.tenant, model)
    platform.known_to(uvicorn, model.name)
    with uvicorn.client(platform.key) as client:
        ask = {"model": model.name, "messages": HELLO, "max_tokens": 5}
        assert client.post("/chat/completions", json=ask).status_code == 200
    seen = upstream.all_ended()[-1].body
    assert seen["max_completion_tokens"] == 5 and "max_tokens" not in seen


def test_a_private_address_is_dialled_only_with_permission(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI
) -> None:
    for base_url in (upstream.base_url, upstream.base_url.replace("127.0.0.1", "localhost")):
        provider = factories.make_provider(base_url, secret=upstream.api_key, allow_private_network=False)
        model = factories.make_model(provider, upstream_model="gpt-5.2")
        factories.approve(platform.tenant, model)
        platform.known_to(uvicorn, model.name)
        with uvicorn.client(platform.key) as client:
            answer = client.post("/chat/completions", json={"model": model.name, "messages": HELLO})
        assert answer.status_code == 503 and "not a public address" in answer.json()["error"]["message"]
    assert upstream.records == []
