"""Webhooks and e-mail addresses of tenants in the configuration file."""

from __future__ import annotations

import io
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command

from tenants.models import Tenant, WebhookEndpoint
from tenants.webhooks import current_secret, make_secret
from tests.configuration.conftest import Apply, nothing

URL = "https://hooks.example.com/token-1"
OTHER = "https://hooks.example.org/token-2"


def file(*webhooks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"tenants": [{"name": "acme", "webhooks": list(webhooks), **fields}]}


def test_a_webhook_is_made_and_its_secret_shown_once(apply: Apply) -> None:
    asked = file({"url": URL, "events": ["budget.alert"]}, notify_emails=["ops@acme.example"])
    report = apply(asked)
    endpoint = WebhookEndpoint.objects.get()
    assert report["webhook_secrets"] == [{"tenant": "acme", "url": URL, "secret": current_secret(endpoint)}]
    assert (endpoint.events, endpoint.enabled, endpoint.allow_private_network) == (["budget.alert"], True, False)
    assert Tenant.objects.get().notify_emails == ["ops@acme.example"]
    assert "token-1" not in str(report["created"])
    assert nothing(apply(asked))
    assert apply(file({"url": OTHER}), dry_run=True)["webhook_secrets"] == []


def test_a_secret_of_ones_own_and_its_renewal(apply: Apply, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = make_secret(), make_secret()
    asked = file({"url": URL, "secret_env": "HOOK_SECRET"})
    monkeypatch.setenv("HOOK_SECRET", first)
    assert apply(asked)["webhook_secrets"] == []
    monkeypatch.setenv("HOOK_SECRET", second)
    assert apply(asked)["changed"] == ["webhook of acme at hooks.example.com: secret"]
    endpoint = WebhookEndpoint.objects.get()
    assert current_secret(endpoint) == second and endpoint.previous_until
    assert nothing(apply(asked))
    assert nothing(apply(file({"url": URL}))), "a secret that is left out stays"


def test_pruning_switches_off(apply: Apply) -> None:
    apply(file({"url": URL}, {"url": OTHER}))
    assert nothing(apply(file({"url": OTHER})))
    assert apply(file({"url": OTHER}), prune=True)["pruned"] == ["webhook of acme at hooks.example.com: disabled"]
    assert not WebhookEndpoint.objects.get(url=URL).enabled


def test_an_export_is_applied_without_a_change(apply: Apply) -> None:
    asked = file(
        {"url": URL, "events": ["budget.alert"], "enabled": False},
        {"url": "http://10.0.0.1/x", "allow_private_network": True},
        notify_emails=["ops@acme.example"],
    )
    secrets = [new["secret"] for new in apply(asked)["webhook_secrets"]]
    printed = io.StringIO()
    call_command("export", stdout=printed)
    assert yaml.safe_load(printed.getvalue())["tenants"][0]["webhooks"] == asked["tenants"][0]["webhooks"]
    assert not any(secret in printed.getvalue() for secret in secrets)
    assert nothing(apply(printed.getvalue(), prune=True))


@pytest.mark.parametrize(
    ("webhook", "said"),
    [
        ({"url": "http://hooks.example.com"}, r"webhooks\[0\].url: Use https"),
        ({"url": "https://127.0.0.1/"}, "private"),
        ({"events": []}, "url"),
        ({"url": URL, "events": ["budget.alrt"]}, "did you mean 'budget.alert'"),
        ({"url": URL, "secret": "hunter2"}, "whsec_"),
        ({"url": URL, "secret": "whsec_c2hvcnQ="}, "24 to 64"),
        ({"url": URL, "secret_env": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE is not set"),
        ({"url": URL, "method": "GET"}, "method"),
    ],
)
def test_mistakes_are_named(webhook: dict[str, Any], said: str, apply: Apply) -> None:
    with pytest.raises(CommandError, match=said):
        apply(file(webhook))
    assert not Tenant.objects.exists()


def test_further_mistakes_are_named(apply: Apply) -> None:
    with pytest.raises(CommandError, match="twice"):
        apply(file({"url": URL}, {"url": URL}))
    with pytest.raises(CommandError, match="notify_emails"):
        apply(file(notify_emails=["nobody"]))
