"""The providers' page, and what an operator does there: told in numbers first, done in every process, written down."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from gateway.models import RequestRecord
from providers.models import Deployment, Model
from tenants.models import AuditEvent, Operator, Role
from tests import factories
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform
from tests.live import LiveServer, until

BOARD = reverse("provider_board")
ASK = [{"role": "user", "content": "hi"}]


def client_of(role: str) -> Client:
    operator, _ = Operator.objects.get_or_create(username=f"board-{role}", defaults={"role": role, "is_staff": True})
    client = Client()
    client.force_login(operator)
    return client


@pytest.fixture
def operator(platform: Platform) -> Client:
    return client_of(Role.OPERATOR)


def act(client: Client, deployment: Deployment, action: str, **said: Any) -> Any:
    return client.post(reverse("provider_board_action", args=[deployment.pk, action]), said)


@pytest.fixture
def doubled(platform: Platform, upstream: FakeOpenAI) -> Model:
    """A model at two providers."""
    first, second = (factories.make_provider(upstream.base_url, secret=upstream.api_key) for _ in range(2))
    model = factories.make_model(first, second, upstream_model="gpt-5.2")
    factories.approve(platform.tenant, model)
    return model


def test_a_deployment_is_drained_and_resumed(
    operator: Client, uvicorn: LiveServer, platform: Platform, doubled: Model
) -> None:
    first, second = doubled.deployments.order_by("priority")
    platform.known_to(uvicorn, doubled.name)
    asked = act(operator, first, "drain").content.decode()
    assert "Calls under way there now: 0." in asked and f"take its calls: 1 ({second})" in asked
    assert Deployment.objects.get(pk=first.pk).drained_at is None, "only asked"

    answer = act(operator, first, "drain", confirmed="yes", minutes="60", reason="maintenance <b>")
    assert answer.status_code == 302
    first.refresh_from_db()
    assert first.drained_until is not None and first.drain_reason == "maintenance <b>"
    page = operator.get(BOARD).content.decode()
    assert "maintenance &lt;b&gt;" in page and reverse("provider_board_action", args=[first.pk, "resume"]) in page
    with uvicorn.client(platform.key) as client:

        def provider() -> tuple[str, str]:
            answer = client.post("/chat/completions", json={"model": doubled.name, "messages": ASK})
            assert answer.status_code == 200, answer.text
            return answer.headers["x-gateway-provider"], answer.headers["x-request-id"]

        moved = until(lambda: (found := provider())[0] == second.provider.name and found, what="its calls elsewhere")
        row = until(RequestRecord.objects.filter(request_id=moved[1]).first, what="its row")
        assert row.skipped == [[str(first), "drained by an operator"]] and not row.fallback
        assert act(operator, first, "resume", confirmed="yes", reason="done").status_code == 302
        until(lambda: provider()[0] == first.provider.name, what="its calls back")
    events = AuditEvent.objects.filter(object_type="deployment", object_id=str(first.pk)).order_by("id")
    assert [event.event for event in events] == ["deployment.drained", "deployment.resumed"]
    assert events[0].details["after"]["drained"] is True and events[0].details["message"] == "maintenance <b>"
    page = operator.get(BOARD).content.decode()
    assert " ms</td>" in page and "Its requests" in page


def test_nobody_else_serves_it(operator: Client, platform: Platform) -> None:
    deployment = platform.chat.deployments.get()
    asked = act(operator, deployment, "drain").content.decode()
    assert "Nobody else serves fake-chat" in asked and "have it approved: 1." in asked
    act(operator, deployment, "drain", confirmed="yes", minutes="", reason="x")
    again = act(operator, deployment, "drain", confirmed="yes", minutes="", reason="x")
    assert again.status_code == 302 and "is drained already" in operator.get(BOARD).content.decode()
    act(operator, deployment, "resume", confirmed="yes", reason="x")
    assert act(operator, deployment, "resume", confirmed="yes", reason="x").status_code == 302
    assert "is not drained" in operator.get(BOARD).content.decode()


def test_a_breaker_is_opened_and_closed_by_hand(
    operator: Client, uvicorn: LiveServer, platform: Platform, doubled: Model
) -> None:
    first = doubled.deployments.order_by("priority")[0]
    platform.known_to(uvicorn, doubled.name)
    act(operator, first, "open", confirmed="yes", minutes="10", reason="it lies")
    page = operator.get(BOARD).content.decode()
    assert "open for " in page and reverse("provider_board_action", args=[first.pk, "trust"]) in page
    shown = f'llm_breaker_state{{deployment="{first.pk}"}} '
    until(lambda: f"{shown}1.0" in uvicorn.get("/metrics").text, what="an open breaker")
    act(operator, first, "trust", confirmed="yes", reason="it does not")
    until(lambda: f"{shown}0.0" in uvicorn.get("/metrics").text, what="a closed breaker")
    events = AuditEvent.objects.filter(object_type="deployment", object_id=str(first.pk)).order_by("id")
    assert [event.event for event in events] == ["deployment.breaker_opened", "deployment.trusted"]


def test_a_viewer_looks(platform: Platform) -> None:
    viewer = client_of(Role.VIEWER)
    deployment = platform.chat.deployments.get()
    page = viewer.get(BOARD)
    assert page.status_code == 200 and "fake-chat" in page.content.decode()
    assert f"board/{deployment.pk}/" not in page.content.decode() and ">Test<" not in page.content.decode()
    for action in ("drain", "resume", "open", "trust"):
        assert act(viewer, deployment, action, confirmed="yes", reason="x").status_code == 403
    assert Client().get(BOARD).status_code == 302


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "This field is required."),
        ({"reason": "  "}, "This field is required."),
        ({"reason": "x" * 501}, "at most 500 characters"),
        ({"reason": "a\0b"}, "Null characters are not allowed"),
        ({"reason": "x", "minutes": "-5"}, "Select a valid choice"),
        ({"reason": "x", "minutes": "9e99"}, "Select a valid choice"),
    ],
)
def test_nonsense(operator: Client, platform: Platform, said: dict[str, str], words: str) -> None:
    deployment = platform.mock_chat.deployments.get()
    answer = act(operator, deployment, "drain", confirmed="yes", **said)
    assert answer.status_code == 200 and words in answer.content.decode()
    assert Deployment.objects.get(pk=deployment.pk).drained_at is None


def test_what_there_is_not(operator: Client, platform: Platform) -> None:
    deployment = platform.mock_chat.deployments.get()
    assert act(operator, deployment, "explode", confirmed="yes", reason="x").status_code == 404
    assert operator.post(reverse("provider_board_action", args=[10**15, "drain"])).status_code == 404
    assert operator.get(reverse("provider_board_action", args=[deployment.pk, "drain"])).status_code == 405
    assert operator.post(BOARD).status_code == 405


def test_redis_is_away(operator: Client, platform: Platform, settings: Any) -> None:
    settings.REDIS_CONNECTION = "redis://127.0.0.1:1/0"
    deployment = platform.mock_chat.deployments.get()
    assert "each process judges by itself" in operator.get(BOARD).content.decode()
    act(operator, deployment, "open", confirmed="yes", reason="x")
    assert "nothing was changed" in operator.get(BOARD).content.decode()
    assert not AuditEvent.objects.filter(object_id=str(deployment.pk), event="deployment.breaker_opened").exists()
