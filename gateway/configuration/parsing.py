"""From the file's text to the typed document: which keys there are, which may be left out, and what that means."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from django.core.exceptions import ValidationError

from gateway.configuration.budgets import read_budgets
from gateway.configuration.caching import read_cache
from gateway.configuration.document import (
    DeploymentEntry,
    Document,
    GroupEntry,
    KeyEntry,
    ModelEntry,
    ProviderEntry,
    TenantEntry,
)
from gateway.configuration.hooks import read_hooks
from gateway.configuration.limits import read_limits
from gateway.configuration.prices import read_prices
from gateway.configuration.secrets import read_secret
from gateway.configuration.source import Entry, Value, read_source
from gateway.configuration.types import read_types
from gateway.configuration.webhooks import read_webhooks
from providers.models import Capability, Lifecycle, Strategy
from providers.registry import ADAPTERS
from providers.selectors import TIMEOUTS
from providers.types import OnDisconnect
from tenants.models import Scope, TenantStatus, validate_network

_PROVIDER_CHOICES = ("allow_private_network", "on_disconnect", "timeouts", "enabled")
_SECTIONS = ("providers", "models", "groups", "agent_types", "types", "tenants")


class _Named(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def source(self) -> Entry: ...


_Item = TypeVar("_Item", bound=_Named)


def parse(text: str) -> Document:
    """Read a configuration file. Raises `ConfigurationError` naming the line, the path and the mend."""
    file = Entry(read_source(text), _SECTIONS)
    return Document(
        providers=_named_items(file, "providers", read=_provider),
        models=_named_items(file, "models", read=_model),
        groups=_named_items(file, "groups", read=_group),
        agent_types=_agent_types(file.get("agent_types")),
        types=read_types(file.get("types")),
        tenants=_named_items(file, "tenants", read=_tenant),
    )


def _provider(value: Value) -> ProviderEntry:
    entry = Entry(value, ("name", "kind", "base_url", "api_key", "api_key_env", *_PROVIDER_CHOICES))
    kind = entry.need("kind").choice(ADAPTERS)
    fixed_url = ADAPTERS[kind].fixed_base_url
    base_url = entry.text("base_url", fixed_url or "") or entry.need("base_url").text()
    if fixed_url is not None and base_url != fixed_url:
        raise entry.need("base_url").refuse(f"a provider of kind {kind} is always at {fixed_url}; take this out.")
    return ProviderEntry(
        source=entry,
        name=entry.need("name").text(),
        kind=kind,
        base_url=base_url,
        api_key=read_secret(entry, "api_key"),
        allow_private_network=entry.boolean("allow_private_network", default=False),
        on_disconnect=entry.choice("on_disconnect", tuple(OnDisconnect), default=""),
        timeouts=_timeouts(entry),
        enabled=entry.boolean("enabled", default=True),
    )


def _timeouts(entry: Entry) -> dict[str, int | None]:
    given = entry.get("timeouts")
    seconds = Entry(given, TIMEOUTS) if given is not None else None
    return {f"{name}_timeout_seconds": seconds.whole_number(name) if seconds else None for name in TIMEOUTS}


def _model(value: Value) -> ModelEntry:
    entry = Entry(
        value,
        (
            "name",
            "capabilities",
            "context_window",
            "max_output_tokens",
            "prices",
            "price_tiers",
            "confirm_prices",
            "lifecycle",
            "successor",
            "deployments",
        ),
    )
    deployments = entry.get("deployments")
    return ModelEntry(
        source=entry,
        name=entry.need("name").text(),
        capabilities=[item.choice(Capability.values) for item in _distinct(entry.need("capabilities").items())],
        context_window=entry.whole_number("context_window"),
        max_output_tokens=entry.whole_number("max_output_tokens"),
        prices=read_prices(entry),
        lifecycle=entry.choice("lifecycle", Lifecycle.values, default=Lifecycle.APPROVED.value),
        successor=entry.text("successor") or None,
        deployments=None if deployments is None else _deployments(deployments),
    )


def _deployments(value: Value) -> tuple[DeploymentEntry, ...]:
    """A model's deployments, each way to reach it once."""
    seen: dict[tuple[str, str, str | None], DeploymentEntry] = {}
    for item in value.items():
        entry = _deployment(item)
        identity = (entry.provider, entry.upstream_model, entry.credential)
        if identity in seen:
            first = seen[identity].source.value.place.line
            raise item.refuse(f"this deployment stands here twice, first in line {first}.")
        seen[identity] = entry
    return tuple(seen.values())


def _deployment(value: Value) -> DeploymentEntry:
    entry = Entry(value, ("provider", "upstream_model", "credential", "priority", "weight", "timeouts", "enabled"))
    return DeploymentEntry(
        source=entry,
        provider=entry.need("provider").text(),
        upstream_model=entry.need("upstream_model").text(),
        credential=entry.text("credential") or None,
        priority=entry.whole_number("priority", 1),
        weight=entry.whole_number("weight", 1),
        timeouts=_timeouts(entry),
        enabled=entry.boolean("enabled", default=True),
    )


def _group(value: Value) -> GroupEntry:
    entry = Entry(value, ("name", "strategy", "members"))
    return GroupEntry(
        source=entry,
        name=entry.need("name").text(),
        strategy=entry.choice("strategy", Strategy.values, default=Strategy.PRIORITY.value),
        members=_names(entry.get("members")),
    )


def _agent_types(value: Value | None) -> dict[str, Value] | None:
    if value is None:
        return None
    targets = value.members()
    for target in targets.values():
        target.text()  # refuses what is none
    return targets


def _tenant(value: Value) -> TenantEntry:
    entry = Entry(
        value,
        (
            "name",
            "status",
            "timezone",
            "currency",
            "notify_emails",
            "projects",
            "approved",
            "limits",
            "budgets",
            "webhooks",
            "types",
            "hooks",
            "cache",
            "keys",
        ),
    )
    notify_emails = entry.get("notify_emails")
    return TenantEntry(
        source=entry,
        name=entry.need("name").text(),
        status=entry.choice("status", TenantStatus.values, default=TenantStatus.ACTIVE.value),
        timezone=entry.text("timezone", "UTC"),
        currency=entry.text("currency", "USD"),
        notify_emails=None if notify_emails is None else [item.text() for item in _distinct(notify_emails.items())],
        projects=_names(entry.get("projects")),
        approved=_names(entry.get("approved")),
        limits=read_limits(entry.get("limits")),
        budgets=read_budgets(entry.get("budgets")),
        webhooks=read_webhooks(entry.get("webhooks")),
        types=read_types(entry.get("types")),
        hooks=read_hooks(entry.get("hooks")),
        cache=read_cache(entry.get("cache")),
        keys=_named_items(entry, "keys", read=_key),
    )


def _key(value: Value) -> KeyEntry:
    entry = Entry(value, ("name", "project", "user", "scopes", "ip_allow_list", "expires_at", "secret", "secret_env"))
    scopes, networks, expires_at = entry.get("scopes"), entry.get("ip_allow_list"), entry.get("expires_at")
    return KeyEntry(
        source=entry,
        name=entry.need("name").text(),
        project=entry.text("project") or None,
        user=entry.text("user"),
        scopes=[item.choice(Scope.values) for item in _distinct(scopes.items())] if scopes else [],
        ip_allow_list=[_network(item) for item in _distinct(networks.items())] if networks else [],
        expires_at=expires_at.moment() if expires_at else None,
        secret=read_secret(entry, "secret"),
    )


def _network(value: Value) -> str:
    text = value.text()
    try:
        validate_network(text)
    except ValidationError as error:
        raise value.refuse(error.messages[0]) from error
    return text


def _named_items(entry: Entry, key: str, *, read: Callable[[Value], _Item]) -> tuple[_Item, ...] | None:
    """The entries of a list, in which a name may stand once."""
    section = entry.get(key)
    if section is None:
        return None
    items = tuple(read(value) for value in section.items())
    _distinct(item.source.need("name") for item in items)
    return items


def _names(value: Value | None) -> tuple[Value, ...] | None:
    return None if value is None else tuple(_distinct(value.items()))


def _distinct(values: Iterable[Value]) -> list[Value]:
    """The values; two equal ones are refused, as one of them must be a slip."""
    seen: dict[str, Value] = {}
    for value in values:
        text = value.text()
        if text in seen:
            raise value.refuse(f"{text!r} stands here twice, first in line {seen[text].place.line}.")
        seen[text] = value
    return list(seen.values())
