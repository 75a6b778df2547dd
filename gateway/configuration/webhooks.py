"""A tenant's webhooks in the file: reading them, making the database match, and writing them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.configuration.document import WebhookEntry
from gateway.configuration.errors import ConfigurationError
from gateway.configuration.report import NewWebhookSecret, Report
from gateway.configuration.rows import put, validate
from gateway.configuration.secrets import read_secret
from gateway.configuration.source import Entry, Value
from tenants.models import EVENTS, Tenant, WebhookEndpoint
from tenants.webhooks import WebhookSecretError, check_secret, create_endpoint, has_secret, rotate_secret

_KEYS = ("url", "events", "enabled", "allow_private_network", "secret", "secret_env")


def read_webhooks(value: Value | None) -> tuple[WebhookEntry, ...] | None:
    """The entries of a tenant's `webhooks`, each URL once. Raises `ConfigurationError`."""
    if value is None:
        return None
    seen: dict[str, WebhookEntry] = {}
    for item in value.items():
        entry = _webhook(item)
        if entry.url in seen:
            first = seen[entry.url].source.value.place.line
            raise item.refuse(f"this URL stands here twice, first in line {first}.")
        seen[entry.url] = entry
    return tuple(seen.values())


def _webhook(value: Value) -> WebhookEntry:
    entry = Entry(value, _KEYS)
    events = entry.get("events")
    return WebhookEntry(
        source=entry,
        url=entry.need("url").text(),
        events=sorted({item.choice(EVENTS) for item in events.items()}) if events else [],
        enabled=entry.boolean("enabled", default=True),
        allow_private_network=entry.boolean("allow_private_network", default=False),
        secret=_secret(entry),
    )


def _secret(entry: Entry) -> str | None:
    secret = read_secret(entry, "secret")
    try:
        return None if secret is None else check_secret(secret)
    except WebhookSecretError as error:
        place = entry.place_of("secret_env" if entry.get("secret_env") else "secret")
        raise ConfigurationError(str(error), place) from error


def apply_webhooks(tenant: Tenant, entries: Sequence[WebhookEntry], *, report: Report) -> None:
    """Create or change webhooks. Another secret than the one in use replaces it as a renewal does."""
    for entry in entries:
        endpoint = WebhookEndpoint.objects.filter(tenant=tenant, url=entry.url).first()
        if endpoint is None:
            _create(tenant, entry, report=report)
            continue
        subject = _subject(endpoint)
        put(endpoint, _fields(entry), source=entry.source, subject=subject, report=report)
        if entry.secret is not None and not has_secret(endpoint, entry.secret):
            rotate_secret(endpoint, secret=entry.secret)
            report.changed(subject, ["secret"])


def _create(tenant: Tenant, entry: WebhookEntry, *, report: Report) -> None:
    """Store a webhook; only a secret that was made here is reported, as a given one is known already."""
    endpoint = WebhookEndpoint(tenant=tenant, url=entry.url, **_fields(entry))
    validate(endpoint, entry.source)
    secret = create_endpoint(endpoint, secret=entry.secret)
    report.created(_subject(endpoint))
    if entry.secret is None:
        report.webhook_secrets.append(NewWebhookSecret(tenant.name, endpoint.url, secret))


def _fields(entry: WebhookEntry) -> dict[str, Any]:
    return {
        "events": entry.events,
        "enabled": entry.enabled,
        "allow_private_network": entry.allow_private_network,
    }


def _subject(endpoint: WebhookEndpoint) -> str:
    """How a report names a webhook: without its path, which may be a secret."""
    return f"webhook of {endpoint.tenant.name} at {endpoint.host}"


def disable_webhooks(tenant: Tenant, named: Sequence[WebhookEntry], *, report: Report) -> None:
    """Switch off the tenant's webhooks that the file does not name: their deliveries stay on record."""
    kept = {entry.url for entry in named}
    for endpoint in WebhookEndpoint.objects.filter(tenant=tenant, enabled=True).select_related("tenant").order_by("pk"):
        if endpoint.url not in kept:
            endpoint.enabled = False
            endpoint.save(update_fields=["enabled"])
            report.pruned(_subject(endpoint), "disabled")


def export_webhooks(tenant: Tenant) -> list[dict[str, Any]]:
    """The tenant's webhooks in the form that `read_webhooks` reads, without their secrets."""
    return [_form(endpoint) for endpoint in WebhookEndpoint.objects.filter(tenant=tenant).order_by("pk")]


def _form(endpoint: WebhookEndpoint) -> dict[str, Any]:
    form: dict[str, Any] = {"url": endpoint.url}
    if endpoint.events:
        form["events"] = endpoint.events
    if endpoint.allow_private_network:
        form["allow_private_network"] = True
    if not endpoint.enabled:
        form["enabled"] = False
    return form
