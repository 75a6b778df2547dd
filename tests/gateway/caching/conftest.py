"""Tenants whose answers are kept, each with a model of its own at the fake provider."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import redis
from django.conf import settings

from gateway.models import CacheRule
from tests.gateway.conftest import Platform
from tests.gateway.money import Payer, make_payer
from tests.live import LiveServer

MakeKeeper = Callable[..., "Keeper"]


class Keeper:
    """A payer with a cache rule about all that it may use."""

    def __init__(self, payer: Payer, server: LiveServer, **rule: Any) -> None:
        self.payer = payer
        self.server = server
        self.rule = CacheRule.objects.create(tenant=payer.tenant, **rule)
        payer.known_to(server)

    def body(self, text: str = "x", **more: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": text}]
        return {"model": self.payer.model.name, "messages": messages, "temperature": 0, **more}

    def ask(self, text: str = "x", *, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        with self.server.client(self.payer.key) as client:
            return client.post("/chat/completions", json=self.body(text, **more), headers=headers)


@pytest.fixture
def make_keeper(platform: Platform, uvicorn: LiveServer) -> MakeKeeper:
    def make_keeper(**rule: Any) -> Keeper:
        return Keeper(make_payer(platform), uvicorn, **rule)

    return make_keeper


@pytest.fixture
def keeper(make_keeper: MakeKeeper) -> Keeper:
    return make_keeper()


def kept_keys(keeper: Keeper) -> list[bytes]:
    """The keys of what is kept under a rule as it was made, leads left out. Others' may be there from earlier tests."""
    with redis.Redis.from_url(settings.REDIS_CONNECTION) as client:
        found = client.scan_iter(f"*:cache:{keeper.rule.pk}:{keeper.rule.epoch.hex}:*")
        return sorted(key for key in found if not key.endswith(b":lead"))
