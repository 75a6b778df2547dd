"""What these tests share: a model whose first deployment is in trouble, and whose second answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from django.db import transaction

from providers.models import Deployment, Model
from tests import factories
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import Platform
from tests.live import LiveServer

SHORT = {"first_token_timeout_seconds": 1, "idle_timeout_seconds": 1, "total_timeout_seconds": 4}
HELLO = [{"role": "user", "content": "hi"}]


def make_deployed(platform: Platform, *fakes: FakeOpenAI, timeouts: dict[str, int] | None = None) -> Model:
    """An approved model at these providers in turn."""
    with transaction.atomic():
        providers = [factories.make_provider(fake.base_url, secret=fake.api_key) for fake in fakes]
        model = factories.make_model(*providers, upstream_model="gpt-5.2")
        Deployment.objects.filter(model=model).update(**(timeouts or {}))
        factories.approve(platform.tenant, model)
    return model


@pytest.fixture(scope="module")
def second() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


@dataclass
class Pair:
    """A model at `upstream`, then at a healthy provider, with a client for it."""

    client: httpx.Client
    model: Model
    healthy: FakeOpenAI

    def body(self, **members: Any) -> dict[str, Any]:
        return {"model": self.model.name, "messages": HELLO, **members}

    def ask(self, **members: Any) -> httpx.Response:
        return self.client.post("/chat/completions", json=self.body(**members))

    @property
    def fallback_name(self) -> str:
        return self.model.deployments.get(priority=2).provider.name


@pytest.fixture(scope="module")
def model_pair(seeded: Platform, upstream: FakeOpenAI, second: FakeOpenAI) -> Model:
    return make_deployed(seeded, upstream, second, timeouts=SHORT)


@pytest.fixture
def pair(uvicorn: LiveServer, platform: Platform, model_pair: Model, second: FakeOpenAI) -> Iterator[Pair]:
    second.reset()
    platform.known_to(uvicorn, model_pair.name)
    with uvicorn.client(platform.key) as client:
        yield Pair(client, model_pair, second)
