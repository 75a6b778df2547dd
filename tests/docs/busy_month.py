"""`python -m tests.docs.busy_month`: a month of usage by some tenants, for the picture of Home."""

from __future__ import annotations

import datetime as dt
import random
import sys

import django

django.setup()

from django.core.cache import cache  # noqa: E402 -- Django must be set up first
from django.utils import timezone  # noqa: E402

from billing.models import Budget  # noqa: E402
from billing.money import NANO_PER_USD  # noqa: E402
from providers.models import Deployment, Model, TenantApproval  # noqa: E402
from providers.services import propose_model  # noqa: E402
from tests.admin.seeding import add_request, add_usage, add_window  # noqa: E402
from tests.factories import make_key, make_model, make_provider, make_tenant  # noqa: E402

MODELS = {
    "gpt-6-luna": ("openai", {"input": "1.25", "output": "10"}),
    "claude-haiku-5-5": ("anthropic", {"input": "1", "output": "5"}),
    "gemini-3.8-flash": ("google", {"input": "0.3", "output": "2.5"}),
    "llama3.2": ("house", {"input": "0", "output": "0"}),
}
TENANTS = ("northwind", "globex", "initech", "umbrella", "hooli")
DAYS, CALLS_A_DAY, CALLS_LATELY = 21, 12, 260
ENDS = [(200, "")] * 60 + [(429, "rate_limited"), (402, "budget_exceeded"), (502, "provider_error")]


def fill() -> None:
    dice = random.Random(8)
    deployments = _deployments()
    keys = [make_key(make_tenant(name), name="production")[0] for name in TENANTS]
    now = timezone.now()
    moments = [
        *(
            now - dt.timedelta(days=day, minutes=dice.randrange(1440))
            for day in range(1, DAYS)
            for _ in range(CALLS_A_DAY)
        ),
        *(now - dt.timedelta(minutes=dice.triangular(1, 1440, 300)) for _ in range(CALLS_LATELY)),
    ]
    for moment in sorted(moments):
        key = keys[min(int(dice.expovariate(0.7)), len(keys) - 1)]
        deployment = deployments[min(int(dice.expovariate(0.8)), len(deployments) - 1)]
        latency_ms = int(dice.lognormvariate(6.8, 0.5))
        cost = 0 if deployment.model.name == "llama3.2" else dice.randrange(5, 90) * NANO_PER_USD // 1000
        charge = add_usage(key, deployment, created_at=moment, latency_ms=latency_ms, cost_nano_usd=cost)
        if moment > now - dt.timedelta(days=1):
            status, code = dice.choice(ENDS)
            add_request(charge, created_at=moment, latency_ms=latency_ms, status=status, error_code=code)
    _what_waits(deployments[0].model)


def _deployments() -> list[Deployment]:
    return [
        make_model(
            make_provider(f"https://{vendor}.example.com/v1", name=vendor), name=name, prices=prices
        ).deployments.get()
        for name, (vendor, prices) in MODELS.items()
    ]


def _what_waits(model: Model) -> None:
    first = TenantApproval.objects.create(tenant=make_tenant("soylent"), model=model)
    budget = Budget.objects.create(tenant=first.tenant, limit_nano_usd=40 * NANO_PER_USD)
    Budget.objects.filter(pk=budget.pk).update(created_at=timezone.now() - dt.timedelta(days=60))
    propose_model(Model(name="gpt-6.1-sol", capabilities=["chat", "stream"]), by=None, reason="listed by openai")
    add_window(budget, spent_nano_usd=31 * NANO_PER_USD)


if __name__ == "__main__":
    if sys.argv[1:] == ["forget"]:
        cache.clear()
    else:
        fill()
