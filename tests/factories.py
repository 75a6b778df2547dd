"""Rows for tests, made through the same services the platform uses. Names are unique unless given."""

from __future__ import annotations

import itertools
from typing import Any

from django.db import transaction

from billing.services import read_rates, set_price
from providers.credentials import store_credential
from providers.models import Deployment, GroupMember, Lifecycle, Model, ModelGroup, Provider
from providers.services import approve_for_tenant, move_model, propose_model
from tenants.models import ApiKey, Tenant
from tenants.services import KeySettings, create_key

CHAT = ("chat", "stream", "tools", "json_schema", "vision")
PRICES = {"input": "0.15", "cache_read": "0.075", "output": "0.60"}

_numbers = itertools.count(1)


def unique(prefix: str) -> str:
    return f"{prefix}-{next(_numbers)}"


def make_tenant(name: str = "", **fields: Any) -> Tenant:
    return Tenant.objects.create(name=name or unique("tenant"), **fields)


def make_key(tenant: Tenant, name: str = "", **allowed: Any) -> tuple[ApiKey, str]:
    """A key and its text."""
    return create_key(tenant, name or unique("key"), allowed=KeySettings(**allowed))


def make_provider(base_url: str, *, secret: str = "", kind: str = "openai_compatible", **fields: Any) -> Provider:
    provider = Provider.objects.create(
        name=fields.pop("name", "") or unique("provider"),
        kind=kind,
        base_url=base_url,
        **{"allow_private_network": True, **fields},
    )
    if secret:
        store_credential(provider, secret)
    return provider


@transaction.atomic
def make_model(
    *providers: Provider,
    name: str = "",
    capabilities: tuple[str, ...] = CHAT,
    prices: dict[str, str] | None = PRICES,
    upstream_model: str = "",
) -> Model:
    """An approved model with one deployment at each provider, tried in the order given."""
    model = propose_model(Model(name=name or unique("model"), capabilities=list(capabilities)), by=None)
    for priority, provider in enumerate(providers, start=1):
        Deployment.objects.create(
            model=model, provider=provider, upstream_model=upstream_model or model.name, priority=priority
        )
    if providers:
        move_model(model, Lifecycle.APPROVED, by=None)
    if prices is not None:
        set_price(model, read_rates(prices))
    return model


def make_group(*models: Model, name: str = "") -> ModelGroup:
    group = ModelGroup.objects.create(name=name or unique("group"))
    for position, model in enumerate(models, start=1):
        GroupMember.objects.create(group=group, model=model, position=position)
    return group


def approve(tenant: Tenant, *targets: Model | ModelGroup) -> None:
    for target in targets:
        approve_for_tenant(tenant, target, by=None)
