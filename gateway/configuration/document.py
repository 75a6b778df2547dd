"""The configuration file as types: each entry with what it says and the `source` that error messages point to.

None stands for a list or section that the file leaves out, which is then left alone; an empty one says there is none.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from billing.tiers import Tier
from gateway.configuration.source import Entry, Source, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderEntry:
    """A provider; `api_key` is None when the file does not speak of it."""

    source: Entry
    name: str
    kind: str
    base_url: str
    api_key: str | None = field(repr=False)
    allow_private_network: bool
    on_disconnect: str
    timeouts: dict[str, int | None]
    """By the name of each field, None for the default."""
    enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentEntry:
    """A model at a provider."""

    source: Entry
    provider: str
    upstream_model: str
    credential: str | None
    priority: int | None
    weight: int | None
    timeouts: dict[str, int | None]
    enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PricesEntry:
    """A model's whole price: base rates in pico-USD by unit, and tiers.

    `confirmed` names the units whose figures are meant, however far they are from what is known.
    """

    source: Source
    rates: dict[str, int]
    tiers: tuple[Tier, ...]
    confirmed: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A model; `prices` is None when the file does not speak of them."""

    source: Entry
    name: str
    capabilities: list[str]
    context_window: int | None
    max_output_tokens: int | None
    prices: PricesEntry | None
    lifecycle: str
    successor: str | None
    deployments: tuple[DeploymentEntry, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupEntry:
    """A group and its members' names, first choice first."""

    source: Entry
    name: str
    strategy: str
    members: tuple[Value, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEntry:
    """An API key; `secret` is None when one is to be made."""

    source: Entry
    name: str
    project: str | None
    user: str
    scopes: list[str]
    ip_allow_list: list[str]
    expires_at: dt.datetime | None
    secret: str | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetEntry:
    """A budget; scope, subject and period tell it from the tenant's others."""

    source: Entry
    scope: str
    subject: str
    period: str
    limit_nano_usd: int
    hard: bool
    alert_at: list[int]
    enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitEntry:
    """Rate limits of one scope and subject; `limits` has each by its field's name, None for unlimited."""

    source: Source
    value: Value
    scope: str
    subject: str
    limits: dict[str, int | None]
    enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEntry:
    """A webhook; its URL tells it from the tenant's others. `secret` is None when one is to be made or stays."""

    source: Entry
    url: str
    events: list[str]
    enabled: bool
    allow_private_network: bool
    secret: str | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeEntry:
    """A version of a schema type; `schema` is JSON."""

    source: Entry
    name: str
    version: int
    description: str
    schema: str
    state: str

    @property
    def reference(self) -> str:
        """How requests name it."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HookEntry:
    """A hook that is bound; its name tells it from the tenant's others."""

    source: Entry
    name: str
    hook: str
    project: Value | None
    model: str
    order: int
    settings: Any
    timeout_ms: int
    on_failure: str
    enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """A cache rule; the model or group that it names tells it from the tenant's others."""

    source: Entry
    model: str
    """Empty for everything the tenant may use."""
    ttl_seconds: int
    any_temperature: bool
    enabled: bool

    @property
    def target(self) -> str:
        """What it is about, in words."""
        return self.model or "everything"


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantEntry:
    """A tenant with its projects, what it may use and spend, and its keys."""

    source: Entry
    name: str
    status: str
    timezone: str
    currency: str
    notify_emails: list[str] | None
    projects: tuple[Value, ...] | None
    approved: tuple[Value, ...] | None
    limits: tuple[LimitEntry, ...] | None
    budgets: tuple[BudgetEntry, ...] | None
    webhooks: tuple[WebhookEntry, ...] | None
    types: tuple[TypeEntry, ...] | None
    hooks: tuple[HookEntry, ...] | None
    cache: tuple[CacheEntry, ...] | None
    keys: tuple[KeyEntry, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The whole file. `agent_types` maps a name to the value that names a model or group."""

    providers: tuple[ProviderEntry, ...] | None
    models: tuple[ModelEntry, ...] | None
    groups: tuple[GroupEntry, ...] | None
    agent_types: dict[str, Value] | None
    types: tuple[TypeEntry, ...] | None
    tenants: tuple[TenantEntry, ...] | None
