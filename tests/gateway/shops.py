"""A tenant of one provider under one policy for clients that leave, and clients that do."""

from __future__ import annotations

import asyncio
from io import StringIO
from typing import Any

import aiohttp
from django.core.management import call_command

from billing.models import Attempt, UsageRecord
from providers.models import Model
from tenants.models import Tenant
from tests import factories
from tests.fakes.openai_server import FakeOpenAI
from tests.gateway.conftest import wait_for_models
from tests.live import LiveServer, until

ASK = [{"role": "user", "content": "hi"}]


class Shop:
    """A tenant with a chat and an embeddings model at the fake provider, under one policy."""

    def __init__(self, upstream: FakeOpenAI, policy: str) -> None:
        provider = factories.make_provider(upstream.base_url, secret=upstream.api_key, on_disconnect=policy)
        self.model: Model = factories.make_model(provider, upstream_model="gpt-5.2")
        self.embed: Model = factories.make_model(provider, capabilities=("embeddings",), upstream_model="embed")
        self.tenant: Tenant = factories.make_tenant()
        factories.approve(self.tenant, self.model, self.embed)
        self.key = factories.make_key(self.tenant)[1]

    def charges(self, count: int = 1) -> list[UsageRecord]:
        found = UsageRecord.objects.filter(tenant=self.tenant)
        until(lambda: found.count() >= count, seconds=30, what="the charges")
        until(lambda: not Attempt.objects.filter(tenant=self.tenant, state="open").exists(), what="the ends")
        call_command("verify_money", stdout=StringIO())
        return list(found)

    def leave(
        self, server: LiveServer, upstream: FakeOpenAI, *, clients: int = 1, stream: bool = True, waits: bool = True
    ) -> None:
        """Ask and go away: with the first bytes of the answer, or without waiting for any once the provider has it."""
        wait_for_models(server, self.key, self.model.name, self.embed.name)
        body = {"model": self.model.name, "messages": ASK, "stream": stream}
        asyncio.run(
            self._leave(
                f"{server.base_url}/chat/completions", body, upstream=None if waits else upstream, clients=clients
            )
        )

    async def _leave(self, url: str, body: dict[str, Any], *, clients: int, upstream: FakeOpenAI | None) -> None:
        headers = {"authorization": f"Bearer {self.key}"}
        async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:

            async def ask() -> aiohttp.ClientResponse:
                answer = await session.post(url, json=body)
                await answer.content.readany()
                return answer

            asking = [asyncio.create_task(ask()) for _ in range(clients)]
            if upstream is None:
                for answer in await asyncio.gather(*asking):
                    answer.close()
            else:
                await asyncio.to_thread(upstream.wait_until, lambda _: upstream.counters.held == clients)
                for task in asking:
                    task.cancel()
