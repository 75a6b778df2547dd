"""What the tests of voice sessions share: a fake realtime provider, tenants with voice models, and a plain client."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from billing.models import Attempt, Budget, UsageRecord
from gateway.realtime.models import RealtimeSession
from providers.models import Model, Provider
from tenants.models import Tenant
from tests import factories
from tests.fakes.realtime_openai import FakeRealtime
from tests.gateway.conftest import wait_for_models
from tests.live import LiveServer, until

VOICE = ("realtime",)
VOICE_PRICES = {
    "input": "4",
    "cache_read": "0.4",
    "output": "24",
    "audio_input": "32",
    "audio_cache_read": "0.4",
    "audio_output": "64",
    "image_input": "5",
    "image_cache_read": "0.5",
}
"""USD per million: gpt-realtime-2's of 2026."""

PCM_SECOND = base64.b64encode(b"\0\1" * 24_000).decode()


@pytest.fixture(scope="module")
def voice() -> Iterator[FakeRealtime]:
    with FakeRealtime() as fake:
        yield fake


@dataclass
class Speaker:
    """A tenant with a voice model of its own, and what became of its sessions."""

    tenant: Tenant
    key: str
    model: Model
    provider: Provider

    def known_to(self, server: LiveServer) -> Speaker:
        wait_for_models(server, self.key, self.model.name)
        return self

    def budget(self, nano_usd: int) -> Budget:
        return Budget.objects.create(tenant=self.tenant, limit_nano_usd=nano_usd)

    def charges(self) -> list[UsageRecord]:
        """All there are once nothing is open."""
        until(lambda: not Attempt.objects.filter(tenant=self.tenant, state="open").exists(), what="the ends")
        return list(UsageRecord.objects.filter(tenant=self.tenant).order_by("attempt_id"))

    def cost(self) -> int:
        return sum(charge.cost_nano_usd for charge in self.charges())

    def closed(self, count: int = 1, seconds: float = 15) -> list[RealtimeSession]:
        rows = RealtimeSession.objects.filter(tenant=self.tenant).exclude(closed_at=None).order_by("opened_at")
        until(lambda: rows.count() >= count, seconds=seconds, what="the sessions' ends")
        return list(rows)

    @asynccontextmanager
    async def session(self, server: LiveServer, **options: Any) -> AsyncIterator[ClientConnection]:
        """An open session, its `session.created` read."""
        async with self.connect(server, **options) as socket:
            created = await event(socket)
            assert created["type"] == "session.created", created
            yield socket

    def connect(
        self, server: LiveServer, *, key: str | None = None, query: str = "", headers: Any = (), **options: Any
    ) -> connect:
        url = f"ws://127.0.0.1:{server.port}/v1/realtime{query or f'?model={self.model.name}'}"
        told = {"Authorization": f"Bearer {self.key if key is None else key}", **dict(headers)}
        return connect(url, additional_headers=told, compression=None, max_size=None, proxy=None, **options)


def make_speaker(
    base_url: str, *, kind: str = "openai_compatible", secret: str = "", prices: dict[str, str] | None = VOICE_PRICES
) -> Speaker:
    provider = factories.make_provider(base_url, kind=kind, secret=secret)
    model = factories.make_model(provider, capabilities=VOICE, prices=prices, upstream_model="gpt-realtime-2")
    tenant = factories.make_tenant()
    factories.approve(tenant, model)
    return Speaker(tenant, factories.make_key(tenant)[1], model, provider)


@pytest.fixture
def speaker(committed: None, voice: FakeRealtime, uvicorn: LiveServer) -> Speaker:
    """A tenant whose voice model is at the fake provider."""
    voice.reset()
    return make_speaker(voice.base_url, secret=voice.api_key).known_to(uvicorn)


async def event(socket: ClientConnection) -> dict[str, Any]:
    """The next event; one that never comes fails the test."""
    async with asyncio.timeout(60):
        return dict(json.loads(await socket.recv()))


async def until_event(socket: ClientConnection, kind: str) -> dict[str, Any]:
    """Read on to the next event of a kind."""
    while True:
        found = await event(socket)
        if found["type"] == kind:
            return found


async def say(socket: ClientConnection, **members: Any) -> None:
    await socket.send(json.dumps(members))
