"""Requests that would empty a wallet or break a figure: refused at the member they name, or cut, before any provider is
asked."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from billing.models import Attempt, Budget, BudgetWindow
from billing.money import HIGHEST_AMOUNT_USD, NANO_PER_USD
from providers.models import Model
from tests import factories
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform, wait_for_models
from tests.gateway.money import books_balance
from tests.live import LiveServer

LIMITS = ("max_tokens", "max_completion_tokens")
NO_LIMITS = [
    "-1", "0", "-1000000000000000000000", "1000000001", "1" + "0" * 30, "1e30", "1.5", "1e400", "-1e400", '"12"',
    '"NaN"', "true", "[]", "{}",
]  # fmt: skip
NO_JSON = ["NaN", "Infinity", "-Infinity", "+1", "0x10", "1_000", "01"]


def post(server: LiveServer, key: str, content: str, **more: str) -> Any:
    """A chat body whose further members are given as JSON text, however wrong."""
    members = ", ".join(f'"{name}": {text}' for name, text in more.items())
    with server.client(key) as client:
        return client.post("/chat/completions", content=f"{content[:-1]}, {members}}}")


def body(model: str) -> str:
    return orjson.dumps({"model": model, "messages": [{"role": "user", "content": "x"}]}).decode()


@pytest.fixture
def attempts_before() -> int:
    return Attempt.objects.count()


@pytest.mark.parametrize("text", NO_LIMITS)
@pytest.mark.parametrize("name", LIMITS)
def test_no_limit_at_all(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI, attempts_before: int, name: str, text: str
) -> None:
    platform.known_to(uvicorn, "fake-chat")
    answer = post(uvicorn, platform.key, body("fake-chat"), **{name: text})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "validation_error", name), answer.text
    assert upstream.records == [] and Attempt.objects.count() == attempts_before


@pytest.mark.parametrize("text", ["0", "-1", "17", "128", "129", "1" + "0" * 30, "1.5", '"2"', "true", "1e400"])
def test_no_number_of_choices(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI, attempts_before: int, text: str
) -> None:
    platform.known_to(uvicorn, "fake-chat")
    answer = post(uvicorn, platform.key, body("fake-chat"), n=text)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "validation_error", "n"), answer.text
    assert upstream.records == [] and Attempt.objects.count() == attempts_before


@pytest.mark.parametrize("text", NO_JSON)
@pytest.mark.parametrize("name", [*LIMITS, "n", "temperature"])
def test_numbers_that_json_does_not_have(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI, name: str, text: str
) -> None:
    platform.known_to(uvicorn, "fake-chat")
    answer = post(uvicorn, platform.key, body("fake-chat"), **{name: text})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "validation_error"), answer.text
    assert upstream.records == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize(("stated", "sent"), [(1000, 1000), (None, 1_000_000), (2**31 - 1, 1_000_000)])
def test_a_huge_limit_is_cut_to_what_the_model_can_say(
    uvicorn: LiveServer,
    platform: Platform,
    upstream: FakeOpenAI,
    stated: int | None,
    sent: int,
    name: str,
    stream: bool,
) -> None:
    """At the highest price there is, with as many choices as there may be: the hold is what the provider may do."""
    provider = platform.chat.deployments.get().provider
    model = factories.make_model(provider, upstream_model="gpt-5.2", prices={"output": "100000"})
    Model.objects.filter(pk=model.pk).update(max_output_tokens=stated)
    known = factories.make_model(provider, upstream_model="gpt-5.2")
    tenant = factories.make_tenant()
    factories.approve(tenant, model, known)
    _, key = factories.make_key(tenant)
    Budget.objects.create(tenant=tenant, limit_nano_usd=int(HIGHEST_AMOUNT_USD) * NANO_PER_USD)
    wait_for_models(uvicorn, key, model.name, known.name)
    answer = post(uvicorn, key, body(model.name), **{name: "1000000000", "n": "16", "stream": str(stream).lower()})
    assert answer.status_code == 200, answer.text
    assert upstream.all_ended()[-1].body[name] == sent
    assert Attempt.objects.get(tenant=tenant).reserved_nano_usd == 16 * sent * NANO_PER_USD // 10
    books_balance()


def test_two_limits_at_once_are_none(uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI) -> None:
    """One of them would be held for, and the provider might heed the other."""
    platform.known_to(uvicorn, "fake-chat")
    answer = post(uvicorn, platform.key, body("fake-chat"), max_tokens="5", max_completion_tokens="1000000000")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "max_tokens")
    assert upstream.records == []
    for one, none in (LIMITS, LIMITS[::-1]):
        answer = post(uvicorn, platform.key, body("fake-chat"), **{one: "5", none: "null"})
        assert answer.status_code == 200 and upstream.all_ended()[-1].body[one] == 5


def test_what_no_budget_affords_is_refused(uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI) -> None:
    model = factories.make_model(platform.chat.deployments.get().provider, upstream_model="gpt-5.2")
    tenant = factories.make_tenant()
    factories.approve(tenant, model)
    _, key = factories.make_key(tenant)
    Budget.objects.create(tenant=tenant, limit_nano_usd=NANO_PER_USD)
    wait_for_models(uvicorn, key, model.name)
    answer = post(uvicorn, key, body(model.name), max_tokens="1000000000", n="16")
    # 16 x 1,000,000 tokens at 0.60 USD per million, and a few of input
    assert answer.status_code == 402 and answer.json()["error"]["needed_usd"].startswith("9.6")
    assert upstream.records == []
    window = BudgetWindow.objects.get(budget__tenant=tenant)
    assert (window.spent_nano_usd, window.reserved_nano_usd) == (0, 0)
