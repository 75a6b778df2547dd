"""What the tests of money share: a tenant and its model at a price per call, a crowd of clients, and the books."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from io import StringIO
from typing import Any

import aiohttp
from django.core.management import call_command

from billing.models import Attempt, Budget, BudgetWindow
from billing.money import NANO_PER_USD
from providers.models import Model
from tenants.models import Tenant
from tests import factories
from tests.gateway.conftest import Platform, wait_for_models
from tests.live import LiveServer, until

MILLI_USD = NANO_PER_USD // 1000
PER_CALL = {"requests": "1000"}
"""USD per million calls: one call costs a thousandth of a USD, whatever is said."""


def books_balance() -> None:
    """Wait until no call is open, then run the checks of `manage.py verify_money`; it raises when one fails."""
    until(lambda: not Attempt.objects.filter(state="open").exists(), what="the end of every attempt")
    call_command("verify_money", stdout=StringIO())


@dataclass
class Payer:
    """A tenant with a model of its own at the fake provider, for a thousandth of a USD a call."""

    tenant: Tenant
    key: str
    model: Model

    def known_to(self, *servers: LiveServer) -> None:
        for server in servers:
            wait_for_models(server, self.key, self.model.name)

    def budget(self, **fields: Any) -> Budget:
        return Budget.objects.create(tenant=self.tenant, **fields)

    def windows(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Spent and reserved by scope and subject."""
        rows = BudgetWindow.objects.filter(budget__tenant=self.tenant).select_related("budget")
        return {(row.budget.scope, row.subject): (row.spent_nano_usd, row.reserved_nano_usd) for row in rows}

    def body(self, **more: Any) -> dict[str, Any]:
        return {"model": self.model.name, "messages": [{"role": "user", "content": "x"}], **more}

    def ask(self, server: LiveServer, **more: Any) -> Any:
        with server.client(self.key) as client:
            return client.post("/chat/completions", json=self.body(**more))


def make_payer(platform: Platform, prices: dict[str, str] | None = None) -> Payer:
    provider = platform.chat.deployments.get().provider
    model = factories.make_model(provider, prices=prices or PER_CALL, upstream_model="gpt-5.2")
    tenant = factories.make_tenant()
    factories.approve(tenant, model)
    return Payer(tenant, factories.make_key(tenant)[1], model)


async def ask_all(servers: list[LiveServer], key: str, bodies: list[dict[str, Any]]) -> Counter[int]:
    """All calls at once, spread over the servers; how many of each status came back, 0 for a broken connection."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers={"authorization": f"Bearer {key}"}) as session:

        async def ask(number: int) -> int:
            url = f"{servers[number % len(servers)].base_url}/chat/completions"
            try:
                async with session.post(url, json=bodies[number]) as answer:
                    await answer.read()
                    return answer.status
            except aiohttp.ClientError:
                return 0

        return Counter(await asyncio.gather(*(ask(number) for number in range(len(bodies)))))
