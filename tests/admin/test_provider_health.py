"""What the admin says of how providers are doing, and its three buttons: compare models, test, propose."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.conf import settings
from django.test import Client
from django.urls import reverse

from providers import breakers
from providers.breakers import KEY, parse_board, read_board
from providers.credentials import replace_secret
from providers.health_checks import check_providers
from providers.models import Credential, Deployment, Model, OfferedModel, Provider, ProviderHealth
from tests import factories
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI

LIST = reverse("admin:providers_provider_changelist")


@pytest.fixture
def vendor(fake_openai: FakeOpenAI, db: None) -> Provider:
    provider = factories.make_provider(fake_openai.base_url, secret=fake_openai.api_key, name="vendor")
    factories.make_model(provider, name="chat", upstream_model="gpt-5.2")
    return provider


@pytest.fixture
def board() -> Iterator[redis.Redis]:
    """The Redis that processes share."""
    with redis.Redis.from_url(settings.REDIS_CONNECTION) as client:
        client.delete(KEY)
        yield client
        client.delete(KEY)


def page_of(provider: Provider) -> str:
    return reverse("admin:providers_provider_change", args=[provider.pk])


def press(client: Client, obj: Provider | Credential | OfferedModel, action: str) -> Any:
    name = f"admin:providers_{obj._meta.model_name}_{action}"
    return client.post(reverse(name, args=[obj.pk]), follow=True)


def said(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def test_the_list_and_the_page_say_how_a_provider_is(
    fake_openai: FakeOpenAI, viewer: Client, vendor: Provider, board: redis.Redis
) -> None:
    assert "none yet" in viewer.get(LIST).content.decode()
    fake_openai.script(Script(status=503, error={"message": "we are <full>"}), path="/v1/models")
    check_providers()
    health = ProviderHealth.objects.get()
    for url in (LIST, page_of(vendor)):
        html = viewer.get(url).content.decode()
        for expected in (
            "Failing",
            f"{health.checked_at:%Y-%m-%d %H:%M:%S}",
            "HTTP 503: we are &lt;full&gt;",
            "closed",
        ):
            assert expected in html, (url, expected)
    check_providers()
    assert f"{ProviderHealth.objects.get().latency_ms} ms" in viewer.get(LIST).content.decode()


def test_breakers_cooldowns_and_refused_credentials(viewer: Client, vendor: Provider, board: redis.Redis) -> None:
    deployment, credential = Deployment.objects.get(), Credential.objects.get()
    soon = int((time.time() + 90) * 1000)
    changed = int(credential.changed_at.timestamp() * 1000)
    fields = {
        f"b:{deployment.pk}": f"1 {soon} 2 5 0 0 0",
        f"c:{deployment.pk}": soon,
        f"k:{credential.pk}": f"{changed} 1",
    }
    board.hset(KEY, mapping=fields)
    pages = (LIST, page_of(vendor), reverse("admin:providers_deployment_changelist"))
    for url in pages:
        html = viewer.get(url).content.decode()
        assert "open for" in html and "cooling down for" in html, url
    assert "default was refused" in viewer.get(LIST).content.decode()

    replace_secret(credential, "sk-another")
    assert "was refused" not in viewer.get(LIST).content.decode(), "it was the old secret"
    board.hset(KEY, f"b:{deployment.pk}", "2 0 0 6 1 0 0")
    assert "half-open" in viewer.get(page_of(vendor)).content.decode()
    board.delete(KEY)
    assert "all closed" in viewer.get(LIST).content.decode()


def test_without_redis_nobody_knows(viewer: Client, vendor: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    class Away:
        REDIS_CONNECTION = "unix:///nobody-listens.sock"

    monkeypatch.setattr(breakers, "settings", Away)
    assert not read_board().is_known
    for url in (LIST, page_of(vendor), reverse("admin:providers_deployment_changelist")):
        assert "not known" in viewer.get(url).content.decode()


def test_a_board_that_cannot_be_read_is_left_out() -> None:
    fields = {
        b"b:1": b"1 5000 0 1 0 0 0", b"b:2": b"1 500 0 1 0 0 0", b"b:3": b"9 1 1", b"b:x": b"1 1", b"b:4": b"",
        b"c:5": b"4000", b"c:6": b"soon", b"k:7": b"12 1", b"": b"", b"\xff": b"\xff",
    }  # fmt: skip
    found = parse_board(fields, now_ms=1000)
    assert {number: standing.as_text() for number, standing in found.standings.items()} == {
        1: "open for 4 s", 2: "open, due to be tried", 5: "closed, cooling down for 3 s",
    }  # fmt: skip
    assert found.refused == {7: 12} and found.describe(99) == "closed"


def test_comparing_models_leads_to_what_was_found(fake_openai: FakeOpenAI, operator: Client, vendor: Provider) -> None:
    response = press(operator, vendor, "compare")
    assert said(response) == ["vendor: 3 new, 1 known, 0 ignored, 0 gone."]
    html = response.content.decode()
    assert "gpt-4o-mini" in html and "Propose" in html

    response = press(operator, OfferedModel.objects.get(upstream_model="gpt-4o-mini"), "propose")
    assert Model.objects.get(name="gpt-4o-mini").lifecycle == "proposed"
    change = Model.objects.get(name="gpt-4o-mini").lifecycle_changes.get()
    assert change.changed_by.username == "an-operator"

    small = OfferedModel.objects.get(upstream_model="text-embedding-3-small")
    for action, state in (("ignore", "ignored"), ("consider", "new"), ("propose", "known")):
        press(operator, small, action)
        small.refresh_from_db()
        assert small.state == state
    assert "only a new one can be proposed" in said(press(operator, small, "propose"))[0]

    fake_openai.script(Script(status=500, error={"message": "no"}), path="/v1/models")
    assert said(press(operator, vendor, "compare")) == ["vendor has no list of models to compare: HTTP 500: no"]


def test_testing_a_credential(
    fake_openai: FakeOpenAI, owner: Client, operator: Client, viewer: Client, vendor: Provider
) -> None:
    credential = Credential.objects.get()
    assert said(press(owner, credential, "test"))[0].startswith("vendor/default: the provider took it, in ")
    assert ProviderHealth.objects.get().status == "ok"
    fake_openai.script(Script(status=429), path="/v1/models")
    assert "answered, and did not say" in said(press(owner, credential, "test"))[0]
    replace_secret(credential, "sk-wrong-key-0000-2222")
    (message,) = said(press(owner, credential, "test"))
    assert message.startswith("vendor/default: HTTP 401: Incorrect API key provided")
    assert ProviderHealth.objects.get().status == "failing"

    asked = len(fake_openai.records)
    for outsider in (operator, viewer):
        assert press(outsider, credential, "test").status_code == 403
    assert press(viewer, vendor, "compare").status_code == 403
    assert len(fake_openai.records) == asked


def test_a_provider_with_findings_can_still_be_deleted(owner: Client, db: None) -> None:
    mock = factories.make_provider("mock://local", kind="mock")
    press(owner, mock, "compare")
    check_providers()
    assert OfferedModel.objects.exists() and ProviderHealth.objects.exists()
    owner.post(reverse("admin:providers_provider_delete", args=[mock.pk]), {"post": "yes"})
    assert not Provider.objects.exists() and not OfferedModel.objects.exists()


def test_a_refused_credential_is_used_again_when_an_owner_says_so(
    owner: Client, operator: Client, vendor: Provider, board: redis.Redis
) -> None:
    credential = Credential.objects.get()
    page = reverse("admin:providers_credential_change", args=[credential.pk])
    assert "Use again" not in owner.get(page).content.decode() and "in use" in owner.get(page).content.decode()
    version = int(credential.changed_at.timestamp() * 1000)
    board.hset(KEY, f"k:{credential.pk}", f"{version} 0")
    html = owner.get(page).content.decode()
    assert "refused by its provider" in html and "Use again" in html

    assert press(operator, credential, "use_again").status_code == 403
    assert read_board().refuses(credential)
    assert "again" in said(press(owner, credential, "use_again"))[0]
    credential.refresh_from_db()
    assert not read_board().refuses(credential)
    assert "Use again" not in owner.get(page).content.decode()
