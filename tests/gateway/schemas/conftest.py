"""A tenant with registered types and a model at a fake provider, and what became of its calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from billing.models import Attempt, UsageRecord
from billing.money import usd
from gateway.models import SchemaType
from gateway.schemas.services import publish, save_draft
from providers.models import Model
from tenants.models import Tenant
from tests import factories
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import wait_for_models
from tests.live import LiveServer, until

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "degrees": {"type": "integer"},
        "sky": {"enum": ["clear", "cloudy"]},
        "gusts": {
            "type": "array",
            "items": {"type": "object", "properties": {"knots": {"type": "integer"}}, "required": ["knots"]},
        },
    },
    "required": ["city", "degrees", "sky"],
    "additionalProperties": False,
}
FITTING = {"city": "Oslo", "degrees": 3, "sky": "clear", "gusts": [{"knots": 9}]}
HELLO = [{"role": "user", "content": "How is the weather?"}]


def make_type(
    name: str, schema: dict[str, Any], *, tenant: Tenant | None = None, version: int = 1, **fields: Any
) -> SchemaType:
    """A published type."""
    made = SchemaType(tenant=tenant, name=name, version=version, schema=json.dumps(schema), **fields)
    save_draft(made, by=None)
    publish(made, by=None)
    return made


def wait_for_type(client: httpx.Client, reference: str) -> None:
    until(lambda: client.get(f"/types/{reference}").status_code == 200, what=f"{reference} being known")


@dataclass
class Bench:
    """A tenant that asks one model which has structured output of its own, and one that has not."""

    tenant: Tenant
    model: Model
    plain: Model
    client: httpx.Client
    outsider: httpx.Client

    def ask(self, *, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        body = {"model": self.model.name, "messages": HELLO} | more
        return self.client.post("/chat/completions", json=body, headers=headers)

    def charges(self, answer: httpx.Response, count: int) -> list[UsageRecord]:
        """The charges of a request, which must be as many and add up to what its client was told."""
        request_id = answer.headers["x-request-id"]
        attempts = Attempt.objects.filter(tenant=self.tenant, request_id=request_id)
        until(lambda: not attempts.filter(state="open").exists(), what="the ends")
        found = UsageRecord.objects.filter(tenant=self.tenant, request_id=request_id)
        until(lambda: found.count() >= count, what=f"{count} charges")
        charged = list(found)
        assert len(charged) == attempts.count() == count
        if "x-gateway-cost-usd" in answer.headers:
            assert answer.headers["x-gateway-cost-usd"] == usd(sum(one.cost_nano_usd for one in charged))
        return charged


@pytest.fixture(scope="module")
def made(committed: None, upstream: FakeOpenAI, servers: dict[str, LiveServer]) -> Iterator[Bench]:
    server = servers["uvicorn"]
    tenant, other = factories.make_tenant(), factories.make_tenant()
    provider = factories.make_provider(upstream.base_url, secret=upstream.api_key)
    model = factories.make_model(provider)
    plain = factories.make_model(provider, capabilities=("chat", "stream", "tools"))
    keys = []
    for owner in (tenant, other):
        factories.approve(owner, model, plain)
        keys.append(factories.make_key(owner)[1])
    make_type("weather.report", WEATHER, tenant=tenant, description="How the weather is.")
    with server.client(keys[0]) as client, server.client(keys[1]) as outsider:
        for key in keys:
            wait_for_models(server, key, model.name, plain.name)
        wait_for_type(client, "weather.report@1")
        yield Bench(tenant, model, plain, client, outsider)


@pytest.fixture
def bench(made: Bench, upstream: FakeOpenAI) -> Bench:
    upstream.reset()
    return made
