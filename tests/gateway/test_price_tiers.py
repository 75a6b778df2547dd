"""Tiered prices through the door: what a call is charged, what is held for it, and what clients are told."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse

from billing.models import Budget, UsageRecord
from billing.services import read_rates, set_price
from billing.tiers import make_tier
from providers.models import Model
from tenants.models import Operator, Role
from tests import factories
from tests.fakes.openai.scripts import Script
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform, wait_for_models
from tests.live import LiveServer

pytestmark = pytest.mark.usefixtures("committed")


def window_around_now(hours: int) -> str:
    """A window of two hours whose middle is so many hours from now."""
    now = dt.datetime.now(dt.UTC)
    start, end = (now + dt.timedelta(hours=hours + side) for side in (-1, 1))
    return f"{start:%H:%M}-{end:%H:%M}"


@pytest.fixture(scope="module")
def tiered(seeded: Platform) -> Model:
    """1 and 2 USD per million; other rates for a long context, flex, both, and when it is night."""

    def tier(name: str, input_price: str, **conditions: Any) -> Any:
        rates = read_rates({"input": input_price})
        return make_tier(name, rates=rates, **{"above_input_tokens": None, "service_tier": "", "utc": "", **conditions})

    tiers = (
        tier("long flex", "7", above_input_tokens=200_000, service_tier="flex"),
        tier("long", "10", above_input_tokens=200_000),
        tier("flex", "0.5", service_tier="flex"),
        tier("priority", "4", service_tier="priority"),
        tier("another time", "90", utc=window_around_now(hours=12)),
    )
    with transaction.atomic():  # no server shall see the model before its prices
        model = factories.make_model(
            seeded.chat.deployments.get().provider, name="tiered", upstream_model="gpt-5.2", prices=None
        )
        set_price(model, read_rates({"input": "1", "output": "2", "requests": "1000"}), tiers=tiers)
        factories.approve(seeded.tenant, model)
    return model


def ask(server: LiveServer, platform: Platform, *, tokens: int = 1000, **members: Any) -> UsageRecord:
    """Ask with as many bytes as the provider will say there were tokens: with fewer it would not be believed."""
    wait_for_models(server, platform.key, "tiered")
    body = {"model": "tiered", "messages": [{"role": "user", "content": "x" * tokens}], **members}
    with server.client(platform.key) as client:
        answer = client.post("/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return platform.settled(answer.headers["x-request-id"])


def usage(prompt_tokens: int, cached: int = 0) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt_tokens, "completion_tokens": 500, "total_tokens": prompt_tokens + 500,
        "prompt_tokens_details": {"cached_tokens": cached},
    }  # fmt: skip


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("tokens", "asked", "reported", "place", "input_micro"),
    [
        (1000, None, "default", 0, 1000),
        (200_000, None, None, 0, 200_000),
        (200_001, None, "default", 2, 2_000_010),
        (1000, "flex", "flex", 3, 500),
        (1000, "flex", None, 3, 500),
        (1000, "flex", 7, 3, 500),  # a provider's nonsense is no answer
        (1000, "priority", "default", 0, 1000),
        (1000, "auto", "priority", 4, 4000),
        (200_001, "flex", "flex", 1, 1_400_007),
    ],
)
def test_the_tier_that_applies_is_charged_and_kept(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI, tiered: Model, stream: bool, tokens: int,
    asked: str | None, reported: object, place: int, input_micro: int,
) -> None:  # fmt: skip
    upstream.script(Script(text="x", usage=usage(tokens, cached=10), extra={"service_tier": reported}))
    charge = ask(uvicorn, platform, tokens=tokens, stream=stream, **({"service_tier": asked} if asked else {}))
    assert charge.units.get("tier", 0) == place
    assert charge.units["requests"] == 1
    # 500 tokens out at 2, and 1,000 USD per million calls
    assert charge.cost_nano_usd == input_micro * 1_000 + 1_000_000 + 1_000_000
    assert charge.price is not None
    assert charge.price.version.cost_nano_usd(charge.units) == charge.cost_nano_usd, "from the row alone"


def test_what_the_client_asked_reaches_the_provider(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI, tiered: Model
) -> None:
    ask(uvicorn, platform, service_tier="flex")
    assert upstream.records[-1].body["service_tier"] == "flex"


def test_what_is_held_covers_the_dearest_tier(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI, tiered: Model
) -> None:
    """1.2 milli-USD is enough for a call at the base prices, not for one that may be served with priority."""
    tenant = factories.make_tenant()
    _, key = factories.make_key(tenant)
    factories.approve(tenant, tiered)
    Budget.objects.create(tenant=tenant, limit_nano_usd=1_200_000)
    wait_for_models(uvicorn, key, "tiered")
    body = {"model": "tiered", "messages": [{"role": "user", "content": "x" * 100}], "max_tokens": 16}
    upstream.script(Script(text="x", usage=usage(1)), times=None)
    with uvicorn.client(key) as client:
        refused = client.post("/chat/completions", json={**body, "service_tier": "auto"})
        taken = client.post("/chat/completions", json={**body, "service_tier": "default"})
    assert (refused.status_code, taken.status_code) == (402, 200)


def test_clients_see_the_tiers(uvicorn: LiveServer, platform: Platform, tiered: Model) -> None:
    wait_for_models(uvicorn, platform.key, "tiered")
    with uvicorn.client(platform.key) as client:
        pricing = client.get("/models/tiered").json()["pricing"]
        plain = client.get("/models/fake-chat").json()["pricing"]
    assert pricing["units"] == {"input": "1", "output": "2", "requests": "1000"}
    assert [tier["name"] for tier in pricing["tiers"]] == ["long flex", "long", "flex", "priority", "another time"]
    assert pricing["tiers"][0] == {
        "name": "long flex", "above_input_tokens": 200_000, "service_tier": "flex", "units": {"input": "7"},
    }  # fmt: skip
    assert plain["tiers"] == []


def test_the_admin_explains_the_charge(
    uvicorn: LiveServer, platform: Platform, upstream: FakeOpenAI, tiered: Model
) -> None:
    upstream.script(Script(text="x", usage=usage(200_001)))
    charge = ask(uvicorn, platform, tokens=200_001)
    person = Operator.objects.create(username="a-reader", role=Role.VIEWER, is_staff=True)
    client = Client()
    client.force_login(person)
    page = client.get(reverse("admin:billing_usagerecord_change", args=[charge.pk])).content.decode()
    assert "tier long: above 200,000 input tokens" in page
    assert "at 10 per million" in page and "2.00001" in page
