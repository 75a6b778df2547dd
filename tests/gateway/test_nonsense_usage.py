"""M5: a provider whose usage cannot be true credits nobody and breaks nothing; the call is charged by what the gateway
itself knows, and the row says so."""

from __future__ import annotations

from typing import Any

import pytest

from billing.models import Attempt, BudgetWindow, UsageRecord
from billing.money import NANO_PER_USD
from providers.models import Model
from tests import factories
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform, wait_for_models
from tests.gateway.money import Payer, books_balance, make_payer
from tests.live import LiveServer, until

SAID = "eight or so words in this short answer"
MAX_TOKENS = 100
DOUBTED = {"local_count", "reserve_bound"}
"""How a charge is marked that does not rest on the provider's figures."""
INPUT, OUTPUT = 150, 600
"""Nano-USD for a token."""

NONSENSE = [
    '{"prompt_tokens": -5, "completion_tokens": 1}',
    '{"prompt_tokens": 5, "completion_tokens": -1}',
    '{"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 11}}',
    '{"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": -1}}',
    '{"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": "1"}}',
    '{"prompt_tokens": 10, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 2}}',
    '{"prompt_tokens": 10, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": -2}}',
    '{"prompt_tokens": 1000000000000000000, "completion_tokens": 1}',
    '{"prompt_tokens": 1, "completion_tokens": 1000000000000000000}',
    '{"prompt_tokens": 1e18, "completion_tokens": 1}',
    '{"prompt_tokens": 1' + "0" * 40 + ', "completion_tokens": 1}',
    '{"prompt_tokens": 1e400, "completion_tokens": 1}',
    '{"prompt_tokens": "12", "completion_tokens": 1}',
    '{"prompt_tokens": 12, "completion_tokens": "NaN"}',
    '{"prompt_tokens": 1.5, "completion_tokens": 1}',
    '{"prompt_tokens": null, "completion_tokens": 1}',
    '{"prompt_tokens": 12, "completion_tokens": null}',
    '{"prompt_tokens": true, "completion_tokens": 1}',
    '{"prompt_tokens": [12], "completion_tokens": {}}',
    '{"total_tokens": 5}',
    "{}",
    "null",
    "[]",
    '"12"',
    "12",
    '{"prompt_tokens": 1, "completion_tokens": ' + "[" * 200 + "]" * 200 + "}",
]


def scripted(usage: str, *, stream: bool, before: str = "") -> Script:
    """An answer with this usage, given as JSON; `before` is a first one."""
    head = '"id": "c", "created": 1, "model": "m"'
    message = f'"index": 0, "finish_reason": "stop", "message": {{"role": "assistant", "content": "{SAID}"}}'
    first = f'"usage": {before}, ' if before else ""
    body = f'{{{head}, "object": "chat.completion", "choices": [{{{message}}}], {first}"usage": {usage}}}'
    delta = f'"index": 0, "delta": {{"role": "assistant", "content": "{SAID}"}}, "finish_reason": null'
    chunk = f'{head}, "object": "chat.completion.chunk"'
    events = [f'{{{chunk}, "choices": [{{{delta}}}]}}']
    events.append(f'{{{chunk}, "choices": [{{"index": 0, "delta": {{}}, "finish_reason": "stop"}}]}}')
    events += [f'{{{chunk}, "choices": [], "usage": {each}}}' for each in (before, usage) if each]
    if stream:
        return Script(raw_events=tuple(f"data: {event}\n\n".encode() for event in [*events, "[DONE]"]))
    return Script(raw_body=body.encode(), headers={"content-type": "application/json"})


@pytest.fixture(scope="module")
def payer(seeded: Platform) -> Payer:
    """A tenant with a hard budget, of a model that is paid by the token."""
    payer = make_payer(seeded, factories.PRICES)
    Model.objects.filter(pk=payer.model.pk).update(max_output_tokens=1000)
    payer.budget(limit_nano_usd=NANO_PER_USD)
    return payer


def charge_of(answer: Any) -> UsageRecord:
    """What a call came to, once it is written."""
    found = UsageRecord.objects.filter(request_id=answer.headers["x-request-id"])
    charge: UsageRecord = until(found.first, what="the charge")
    return charge


def charged(server: LiveServer, payer: Payer, *, stream: bool) -> tuple[UsageRecord, Attempt]:
    """A call that is answered, and what it came to."""
    payer.known_to(server)
    answer = payer.ask(server, stream=stream, max_tokens=MAX_TOKENS)
    assert answer.status_code == 200 and SAID in answer.text, answer.text
    charge = charge_of(answer)
    books_balance()
    spent = sum(UsageRecord.objects.filter(tenant=payer.tenant).values_list("cost_nano_usd", flat=True))
    assert BudgetWindow.objects.get(budget__tenant=payer.tenant).spent_nano_usd == spent
    return charge, Attempt.objects.get(pk=charge.pk)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("usage", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_is_charged_by_what_the_gateway_knows(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI, payer: Payer, usage: str, stream: bool
) -> None:
    upstream.script(scripted(usage, stream=stream))
    charge, attempt = charged(uvicorn, payer, stream=stream)
    assert charge.usage_source in DOUBTED
    assert charge.input_tokens > 0 and charge.output_tokens >= len(SAID) // 4
    assert charge.cost_nano_usd == charge.input_tokens * INPUT + charge.output_tokens * OUTPUT
    assert charge.cost_nano_usd <= attempt.reserved_nano_usd, "never beyond what was held"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_control_honest_usage_is_believed(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI, payer: Payer, stream: bool
) -> None:
    upstream.script(
        scripted('{"prompt_tokens": 7, "completion_tokens": 9, "completion_tokens_details": null}', stream=stream)
    )
    charge, _ = charged(uvicorn, payer, stream=stream)
    assert (charge.usage_source, charge.cost_nano_usd) == ("provider_final", 7 * INPUT + 9 * OUTPUT)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_usage_said_twice_is_charged_once(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI, payer: Payer, stream: bool
) -> None:
    """The last word counts: some servers repeat a running total in every chunk."""
    for first in ('{"prompt_tokens": 7, "completion_tokens": 9}', '{"prompt_tokens": 7, "completion_tokens": 3}'):
        upstream.script(scripted('{"prompt_tokens": 7, "completion_tokens": 9}', before=first, stream=stream))
        charge, _ = charged(uvicorn, payer, stream=stream)
        assert (charge.usage_source, charge.cost_nano_usd) == ("provider_final", 7 * INPUT + 9 * OUTPUT)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_not_a_number_breaks_nothing(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI, payer: Payer, stream: bool
) -> None:
    """NaN is not JSON, so the whole answer may be refused as broken; it is no fault of ours, and no money."""
    upstream.script(scripted('{"prompt_tokens": NaN, "completion_tokens": 1}', stream=stream))
    payer.known_to(uvicorn)
    answer = payer.ask(uvicorn, stream=stream, max_tokens=MAX_TOKENS)
    assert answer.status_code in (200, 502) and "internal_error" not in answer.text
    books_balance()
    for charge in UsageRecord.objects.filter(request_id=answer.headers["x-request-id"]):
        assert charge.usage_source in DOUBTED and charge.cost_nano_usd > 0


def test_nonsense_about_embeddings(uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI, payer: Payer) -> None:
    provider = platform.chat.deployments.get().provider
    model = factories.make_model(provider, capabilities=("embeddings",), upstream_model="text-embedding-3-small")
    factories.approve(payer.tenant, model)
    wait_for_models(uvicorn, payer.key, model.name)
    for usage in ('{"prompt_tokens": -5}', '{"prompt_tokens": 1e18}', '{"prompt_tokens": "12"}', "[]", "{}"):
        vector = '{"object": "embedding", "index": 0, "embedding": [0.5]}'
        body = f'{{"object": "list", "model": "m", "data": [{vector}], "usage": {usage}}}'
        upstream.script(Script(raw_body=body.encode(), headers={"content-type": "application/json"}))
        with uvicorn.client(payer.key) as client:
            answer: Any = client.post("/embeddings", json={"model": model.name, "input": "some words"})
        assert answer.status_code == 200, answer.text
        charge = charge_of(answer)
        assert charge.usage_source in DOUBTED and charge.output_tokens == 0
        assert 0 < charge.cost_nano_usd <= Attempt.objects.get(pk=charge.pk).reserved_nano_usd
    books_balance()
