"""Rows behind the admin's pages: as many of each kind as asked for, all within the last hour."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from django.db.models import Model as DjangoModel
from django.utils import timezone

from billing.budgets import window_of
from billing.models import Attempt, Budget, BudgetAlert, BudgetOverride, BudgetWindow, Price, UsageRecord
from billing.money import NANO_PER_USD
from billing.pricing import PriceVersion
from billing.services import read_rates, set_price
from providers.credentials import store_credential
from providers.models import (
    AgentType,
    Credential,
    Deployment,
    GroupMember,
    LifecycleChange,
    Model,
    ModelGroup,
    Provider,
    TenantApproval,
)
from providers.services import propose_model
from tenants.models import ApiKey, Operator, Project, RateLimit, Tenant
from tests.factories import make_key, make_model, make_provider, unique

SHOWN = (
    Operator, Tenant, Project, ApiKey, Provider, Credential, Model, Deployment, ModelGroup, AgentType, TenantApproval,
    Price, Attempt, UsageRecord, RateLimit, Budget, BudgetWindow, BudgetAlert,
)  # fmt: skip
"""Every model that has pages of its own."""


@dataclass(frozen=True)
class Seeded:
    """The first row of each kind: the one whose page grows with the seed."""

    tenant: Tenant
    model: Model
    group: ModelGroup
    budget: Budget

    def page_object(self, model: type[DjangoModel]) -> DjangoModel:
        grown = {type(row): row for row in (self.tenant, self.model, self.group, self.budget)}
        return grown.get(model) or model._default_manager.order_by("pk").first()


def begin() -> Seeded:
    """The rows that everything else hangs on."""
    provider = make_provider("https://api.example.com/v1", secret="sk-provider-secret-0001")
    model = make_model(provider, name="first-model")
    group = ModelGroup.objects.create(name="first-group")
    tenant = Tenant.objects.create(name="first-tenant")
    budget = Budget.objects.create(tenant=tenant, scope="user", period="day", limit_nano_usd=NANO_PER_USD)
    return Seeded(tenant, model, group, budget)


def grow(seeded: Seeded, count: int) -> None:
    """Add `count` rows of every kind, hung on the first ones where a page shows children."""
    tenant, model = seeded.tenant, seeded.model
    for number in range(count):
        Operator.objects.create(username=unique("person"), is_staff=True)
        project = Project.objects.create(tenant=tenant, name=unique("project"))
        other = Tenant.objects.create(name=unique("tenant"))
        RateLimit.objects.create(tenant=other, requests_per_minute=60)
        key, _ = make_key(tenant, project=project)
        provider = make_provider("https://api.example.com/v1")
        credential = store_credential(provider, "sk-provider-secret-0002")
        another = propose_model(Model(name=unique("model"), capabilities=["chat"], successor=model), by=None)
        LifecycleChange.objects.create(model=model, to_state="approved", changed_by=Operator.objects.first())
        deployment = Deployment.objects.create(
            model=model, provider=provider, credential=credential, upstream_model=unique("upstream")
        )
        GroupMember.objects.create(group=seeded.group, model=another, position=number)
        ModelGroup.objects.create(name=unique("group"))
        AgentType.objects.create(name=unique("agent"), target=model.name)
        TenantApproval.objects.create(tenant=other, model=model, decided_by=Operator.objects.first())
        moment = timezone.now() - dt.timedelta(days=number + 1)
        set_price(another, read_rates({"input": "1", "cache_read": "0.5"}), valid_from=moment)
        add_usage(key, deployment)
        add_budgets(seeded.budget, other)


def add_budgets(first: Budget, tenant: Tenant) -> None:
    """Another tenant's budget, and a further user's window, alert and extra of the first one."""
    now = timezone.now()
    Budget.objects.create(tenant=tenant, limit_nano_usd=NANO_PER_USD, alert_at=[50])
    window = add_window(first, subject=unique("u"), spent_nano_usd=NANO_PER_USD // 4)
    BudgetAlert.objects.create(window=window, percent=20)
    tomorrow = now + dt.timedelta(days=1)
    operator = Operator.objects.first()
    BudgetOverride.objects.create(
        budget=first, extra_nano_usd=NANO_PER_USD, expires_at=tomorrow, reason="a launch", created_by=operator
    )


def add_window(budget: Budget, **fields: object) -> BudgetWindow:
    """A window of the budget's period under way."""
    starts_at, ends_at = window_of(budget.period, timezone.now(), zone=ZoneInfo(budget.tenant.timezone))
    return BudgetWindow.objects.create(budget=budget, starts_at=starts_at, ends_at=ends_at, **fields)


def attempt_id_at(moment: dt.datetime) -> uuid.UUID:
    """A UUIDv7 as the ledger makes them, of this moment."""
    noise = random.getrandbits(62)
    return uuid.UUID(int=int(moment.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | noise)


def add_usage(key: ApiKey, deployment: Deployment, **fields: object) -> UsageRecord:
    """A settled attempt and its charge: 1,000 input and 500 output tokens at the model's price."""
    moment = fields.pop("created_at", None) or timezone.now() - dt.timedelta(minutes=5)
    request_id = fields.pop("request_id", None) or unique("req")
    price = Price.objects.filter(model=deployment.model, valid_from__lte=timezone.now()).first()
    units = {"input": 1000, "output": 500}
    attempt = Attempt.objects.create(
        id=attempt_id_at(moment), request_id=request_id, tenant=key.tenant, api_key=key, deployment=deployment,
        operation="chat", model_name=deployment.model.name, provider_name=deployment.provider.name, state="settled",
        created_at=moment, ended_at=moment + dt.timedelta(seconds=1),
    )  # fmt: skip
    charged = {
        "ending": "completed", "usage_source": "provider_final", "latency_ms": 900, "input_tokens": 1000,
        "output_tokens": 500, "units": units, "price": price, "operation": "chat", "upstream_model": "up",
        "cost_nano_usd": PriceVersion(0, moment, price.rates).cost_nano_usd(units) if price else 0,
        "requested_model": deployment.model.name, "model_name": deployment.model.name,
        "provider_name": deployment.provider.name, "project": key.project,
    }  # fmt: skip
    return UsageRecord.objects.create(
        attempt=attempt,
        created_at=moment,
        request_id=request_id,
        tenant=key.tenant,
        api_key=key,
        **{**charged, **fields},
    )
