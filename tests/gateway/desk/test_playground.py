"""The playground: calls as a tenant, the data plane's own way, for who may spend, with no key in the browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from django.test import Client

from billing.models import Budget, UsageRecord
from gateway.desk.playground_keys import NAME
from providers.models import Model
from tenants.models import ApiKey, AuditEvent, Operator, Role, Tenant
from tenants.services import revoke_key
from tests import factories
from tests.admin.test_browser import browsing, chromium
from tests.gateway.conftest import Platform
from tests.live import LiveServer, until

__all__ = ["chromium"]

ASK = {"model": "mock-chat", "messages": [{"role": "user", "content": "hi"}]}


class Player:
    """An operator's browser, without one."""

    def __init__(self, server: LiveServer, role: str) -> None:
        self.operator, _ = Operator.objects.get_or_create(
            username=f"player-{role}", defaults={"role": role, "is_staff": True}
        )
        session = Client()
        session.force_login(self.operator)
        self.cookie = session.cookies["sessionid"].value
        self.http = httpx.Client(
            base_url=server.origin, cookies={"sessionid": self.cookie}, trust_env=False, timeout=30, verify=False
        )
        self.page = self.http.get("/admin/playground/")

    def post(self, body: Any, **query: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        headers = {"x-csrftoken": self.http.cookies.get("csrftoken", "")}
        return self.http.post("/admin/playground/call/", params=query, content=content, headers=headers)

    def lines(self, body: Any, **query: Any) -> tuple[dict[str, Any], str, list[dict[str, Any]]]:
        """An answer's head, its text, and all its lines."""
        answer = self.post(body, **query)
        assert answer.status_code == 200, answer.text
        lines = [orjson.loads(line) for line in answer.text.splitlines()]
        assert lines[-1] == {"kind": "end"}
        return lines[0], "".join(line.get("text", "") for line in lines), lines

    def story(self, tenant: Tenant, request_id: str) -> dict[str, Any]:
        def ready() -> dict[str, Any] | None:
            told = self.http.get("/admin/playground/story/", params={"tenant": tenant.pk, "request": request_id}).json()
            return dict(told) if told["ready"] else None

        return dict(until(ready, what="what became of it"))


Plays = Callable[[LiveServer, str], Player]


@pytest.fixture
def plays() -> Iterator[Plays]:
    """Operators at a server, gone with the test."""
    with ExitStack() as stack:

        def play(server: LiveServer, role: str) -> Player:
            player = Player(server, role)
            stack.callback(player.http.close)
            return player

        yield play


@pytest.fixture
def operator(uvicorn: LiveServer, platform: Platform, plays: Plays) -> Player:
    platform.known_to(uvicorn)
    return plays(uvicorn, Role.OPERATOR)


@pytest.fixture
def shop(platform: Platform, uvicorn: LiveServer) -> Tenant:
    """A tenant that may use the mock, known to the server, with no key of its own yet."""
    tenant = factories.make_tenant()
    factories.approve(tenant, platform.mock_chat)
    return tenant


def test_a_stream_is_a_call_of_the_tenants(server: LiveServer, platform: Platform, shop: Tenant, plays: Plays) -> None:
    platform.known_to(server)
    operator = plays(server, Role.OPERATOR)
    head, text, lines = operator.lines({**ASK, "stream": True}, tenant=shop.pk, kind="chat")
    assert head["status"] == 200 and head["headers"]["content-type"].startswith("text/event-stream")
    assert head["headers"]["x-gateway-model"] == "mock-chat" and len(lines) > 4, "piece by piece"
    assert "chat.completion.chunk" in text and text.rstrip().endswith("data: [DONE]")
    request_id = head["headers"]["x-request-id"]
    told = operator.story(shop, request_id)
    assert told["sentence"].startswith("Asked for mock-chat, served by mock-chat at mock") and "known" in told["cost"]
    assert told["candidates"][0]["verdict"] == "chosen"
    charge = UsageRecord.objects.get(request_id=request_id)
    key = ApiKey.objects.get(tenant=shop)
    assert (charge.tenant_id, charge.api_key_id, key.name) == (shop.pk, key.pk, NAME)
    assert (charge.user, charge.agent) == (f"operator-{operator.operator.pk}", "playground")
    event = AuditEvent.objects.get(event="playground.called", object_id=request_id)
    assert (event.actor, event.tenant_id, event.details["model"]) == ("player-operator", shop.pk, "mock-chat")
    assert "bsr_live_" not in operator.page.text + str(lines) + str(told)


def test_a_whole_answer_a_picture_and_speech(operator: Player, platform: Platform, uvicorn: LiveServer) -> None:
    painter, voice = media_models(platform)
    tenant = factories.make_tenant()
    factories.approve(tenant, painter, voice, platform.mock_chat)
    wait_for(operator, tenant, painter, voice)
    head, text, _ = operator.lines(ASK, tenant=tenant.pk, kind="chat")
    assert head["headers"]["x-gateway-cost-usd"] and orjson.loads(text)["object"] == "chat.completion"
    asked = {"model": painter.name, "prompt": "a boat", "response_format": "b64_json"}
    head, text, _ = operator.lines(asked, tenant=tenant.pk, kind="image")
    assert orjson.loads(text)["data"][0]["b64_json"].startswith("iVBOR")
    asked = {"model": voice.name, "input": "hello", "voice": "alloy"}
    head, text, lines = operator.lines(asked, tenant=tenant.pk, kind="speech")
    assert head["status"] == 200 and (text or any(line.get("base64") for line in lines))


def media_models(platform: Platform) -> tuple[Model, Model]:
    mock = platform.mock_chat.deployments.get().provider
    return (
        factories.make_model(mock, capabilities=("image_generation",), upstream_model="mock-image"),
        factories.make_model(mock, capabilities=("speech",), upstream_model="mock-speech"),
    )


def wait_for(operator: Player, tenant: Tenant, *models: Model) -> None:
    """Until the server knows models that were made just now."""
    path = {"image_generation": "image", "speech": "speech"}
    for model in models:
        kind = path[model.capabilities[0]]
        body = {"model": model.name, "prompt": "x", "input": "x", "voice": "alloy", "response_format": "b64_json"}
        if kind == "speech":
            del body["prompt"], body["response_format"]
        else:
            del body["input"], body["voice"]
        until(lambda body=body, kind=kind: _is_known(operator, tenant, body, kind=kind), what=model.name)


def _is_known(operator: Player, tenant: Tenant, body: dict[str, str], *, kind: str) -> bool:
    return operator.lines(body, tenant=tenant.pk, kind=kind)[0]["status"] == 200


def test_the_tenants_rules_hold(operator: Player, platform: Platform, shop: Tenant) -> None:
    head, text, _ = operator.lines({**ASK, "model": "fake-chat"}, tenant=shop.pk, kind="chat")
    assert head["status"] == 403 and orjson.loads(text)["error"]["code"] == "model_not_approved"
    Budget.objects.create(tenant=shop, scope="key", subject=NAME, period="day", limit_nano_usd=1, hard=True)
    refused = until(
        lambda: (found := operator.lines(ASK, tenant=shop.pk, kind="chat"))[0]["status"] == 402 and found,
        what="the budget's refusal",
    )
    assert orjson.loads(refused[1])["error"]["code"] == "budget_exceeded", "its own cap holds"
    revoke_key(ApiKey.objects.get(tenant=shop, name=NAME))
    answer = operator.post(ASK, tenant=shop.pk, kind="chat")
    assert answer.status_code == 403 and "was revoked" in answer.json()["error"]["message"]


def test_a_viewer_looks_and_does_not_spend(uvicorn: LiveServer, shop: Tenant, plays: Plays) -> None:
    viewer = plays(uvicorn, Role.VIEWER)
    assert viewer.page.status_code == 200 and "Your role may look here, not spend" in viewer.page.text
    assert viewer.post(ASK, tenant=shop.pk, kind="chat").status_code == 403
    assert not ApiKey.objects.filter(tenant=shop).exists() and not AuditEvent.objects.filter(tenant=shop).exists()
    models = viewer.http.get("/admin/playground/choices/", params={"tenant": shop.pk}).json()["models"]
    assert [(one["name"], one["kinds"]) for one in models] == [("mock-chat", ["chat"])]
    nobody = httpx.get(f"{uvicorn.origin}/admin/playground/", trust_env=False)
    assert nobody.status_code == 302 and "/admin/login/" in nobody.headers["location"]


@pytest.mark.parametrize(
    ("query", "body", "status", "field"),
    [
        ({}, ASK, 404, "tenant"),
        ({"tenant": "one"}, ASK, 404, "tenant"),
        ({"tenant": "9" * 30}, ASK, 404, "tenant"),
        ({"tenant": "²"}, ASK, 404, "tenant"),
        ({"tenant": "OWN"}, ASK, 400, "kind"),
        ({"tenant": "OWN", "kind": "../files"}, ASK, 400, "kind"),
        ({"tenant": "OWN", "kind": "chat"}, b"{", 400, "body"),
        ({"tenant": "OWN", "kind": "chat"}, b"[1]", 400, "body"),
        ({"tenant": "OWN", "kind": "chat"}, b"\xff\x00", 400, "body"),
        ({"tenant": "OWN", "kind": "chat"}, b'"' + b"x" * 3_000_000 + b'"', 413, "body"),
    ],
)
def test_nonsense(
    operator: Player, platform: Platform, query: dict[str, str], body: Any, status: int, field: str
) -> None:
    filled = {name: platform.tenant.pk if value == "OWN" else value for name, value in query.items()}
    answer = operator.post(body, **filled)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, field)


def test_nonsense_that_the_endpoint_judges(operator: Player, shop: Tenant, uvicorn: LiveServer) -> None:
    head, text, _ = operator.lines({"model": 7, "messages": "x"}, tenant=shop.pk, kind="chat")
    assert head["status"] == 400 and orjson.loads(text)["error"]["param"]
    assert operator.http.get("/admin/playground/call/").status_code == 405
    without_token = httpx.post(
        f"{uvicorn.origin}/admin/playground/call/?tenant={shop.pk}&kind=chat",
        json=ASK, cookies={"sessionid": operator.cookie}, trust_env=False,
    )  # fmt: skip
    assert without_token.status_code == 403, "no CSRF token"


def test_nobody_names_a_key_from_outside(uvicorn: LiveServer, platform: Platform) -> None:
    """The digest is read from the scope that the server makes, which no header reaches."""
    digest = bytes(ApiKey.objects.filter(tenant=platform.tenant)[0].digest)
    for name in ("bursar.key_digest", "bursar-key-digest", "http_bursar.key_digest"):
        answer = httpx.post(
            f"{uvicorn.base_url}/chat/completions", json=ASK, headers={name: digest.hex()}, trust_env=False
        )
        assert answer.status_code == 401


def shoot(page: Any, name: str, folder: Path) -> None:
    """Both widths in both themes; nothing may be wider than the screen."""
    for theme in ("light", "dark"):
        page.evaluate("theme => document.documentElement.classList.toggle('dark', theme === 'dark')", theme)
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), name
            page.screenshot(path=str(folder / f"{name}-{width}-{theme}.png"), full_page=True)
    page.set_viewport_size({"width": 1280, "height": 900})


def test_in_a_browser(chromium: str, operator: Player, platform: Platform, uvicorn: LiveServer, tmp_path: Path) -> None:
    painter, voice = media_models(platform)
    tenant = factories.make_tenant()
    factories.approve(tenant, painter, voice, platform.mock_chat)
    wait_for(operator, tenant, painter, voice)
    with browsing(chromium) as page:
        page.context.add_cookies([{"name": "sessionid", "value": operator.cookie, "url": uvicorn.origin}])
        page.goto(f"{uvicorn.origin}/admin/playground/?tenant={tenant.pk}")
        page.wait_for_selector("#model option[value=mock-chat]", state="attached")
        page.fill("#prompt", "Hello, Bursar")
        page.click("summary")
        page.fill("#tools", "{")
        page.click("#send")
        page.wait_for_selector("#problem:has-text('Tools is not JSON')")
        page.fill("#tools", "")
        page.click("#send")
        page.wait_for_selector("#cost:has-text('known')")
        assert "Hello, Bursar" in page.locator("#turns").inner_text()
        assert "x-gateway-model" in page.locator("#headers").inner_text()
        page.click("[data-code=python]")
        assert "os.environ['BURSAR_KEY']" in page.locator("#code").inner_text()
        shoot(page, "playground-chat", tmp_path)
        page.check("[name=kind][value=image]")
        page.fill("#prompt", "a boat")
        page.click("#send")
        page.wait_for_selector(".turn img")
        page.wait_for_function("document.querySelector('.turn img').naturalWidth > 0")
        page.check("[name=kind][value=speech]")
        page.click("#send")
        page.wait_for_selector(".turn audio")
        page.wait_for_function("document.querySelector('.turn audio').duration > 0")
        kept = page.content() + str(page.context.storage_state())
        assert "bsr_live_" not in kept
        shoot(page, "playground-media", tmp_path)
        page.click("#trace")
        page.wait_for_selector("text=Who could have answered")
        shoot(page, "request", tmp_path)
        page.click("text=Replay against…")
        page.fill("[name=name]", "fake-chat")
        page.click("text=Try it, dry")
        page.wait_for_selector("text=What this cannot know")
        shoot(page, "replay", tmp_path)
        page.goto(f"{uvicorn.origin}/admin/gateway/requestrecord/?way=nobody&model_name=mock-embed")
        page.wait_for_selector("text=without model")
        shoot(page, "requests-none", tmp_path)
        page.goto(f"{uvicorn.origin}/admin/gateway/requestrecord/")
        shoot(page, "requests", tmp_path)
        page.goto(f"{uvicorn.origin}/admin/providers/board/")
        page.wait_for_selector("text=Its requests")
        shoot(page, "providers", tmp_path)
        page.click("button:has-text('Drain')")
        page.wait_for_selector("text=Calls under way there now")
        shoot(page, "drain", tmp_path)
