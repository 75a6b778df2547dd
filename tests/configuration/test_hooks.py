"""Hooks of tenants in the configuration file."""

from __future__ import annotations

import io
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command

from gateway.hooks.models import HookBinding
from tests.configuration.conftest import Apply, nothing

REDACT = {
    "name": "personal data",
    "hook": "pii_redaction",
    "settings": {
        "names": ["Anna", "no"],
        "patterns": [{"label": "STAFF", "pattern": "EMP-\\d{6}"}],
        "reinsert": False,
    },
}


def file(*hooks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"tenants": [{"name": "acme", "hooks": list(hooks), **fields}]}


def test_hooks_are_made_changed_and_left(apply: Apply) -> None:
    asked = file(REDACT, {"name": "n", "hook": "noop", "project": "web"}, projects=["web"])
    assert "hook acme/personal data" in apply(asked)["created"]
    assert nothing(apply(asked))
    row = HookBinding.objects.get(name="personal data")
    assert row.settings == REDACT["settings"]
    assert (row.position, row.timeout_ms, row.on_failure, row.enabled) == (100, 1000, "closed", True)
    changed = {**REDACT, "order": 5, "on_failure": "open", "settings": {"email": False}}
    assert apply(file(changed))["changed"] == ["hook acme/personal data: position, settings, on_failure"]
    assert apply(file(changed), prune=True)["pruned"] == ["hook acme/n: deleted"]


def test_a_webhook_of_the_same_file(apply: Apply) -> None:
    url = "https://moderation.example/x"
    hook = {"name": "theirs", "hook": "webhook", "settings": {"url": url}}
    apply(file(hook, webhooks=[{"url": url, "events": ["hook.moderation"]}]))
    assert HookBinding.objects.get().settings == {"url": url}


@pytest.mark.parametrize(
    ("hook", "place", "message"),
    [
        ({"name": "x", "hook": "moop"}, "hooks[0].hook", "did you mean 'noop'"),
        ({"name": "x", "hook": "noop", "settings": {"a": 1}}, "hooks[0].settings", "unknown field `a`"),
        ({"name": "x", "hook": "noop", "project": "web"}, "hooks[0].project", "no project of this tenant is called"),
        ({"name": "x", "hook": "noop", "model": "gpt"}, "hooks[0].model", "no model or group called 'gpt'"),
        ({"name": "x", "hook": "noop", "timeout_ms": 0}, "hooks[0].timeout_ms", "greater than or equal to 10"),
        ({**REDACT, "settings": {"names": [True]}}, "hooks[0].settings", "names[0]: Expected `str`"),
        ({**REDACT, "settings": {"patterns": [{"label": "STAFF", "pattern": "\\d+"}]}}, "settings", "say how many"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_place(hook: dict[str, Any], place: str, message: str, apply: Apply) -> None:
    with pytest.raises(CommandError) as refused:
        apply(file(hook))
    assert place in str(refused.value) and message in str(refused.value)
    assert not HookBinding.objects.exists()


def test_an_export_is_applied_without_a_change(apply: Apply) -> None:
    apply(file(REDACT, {"name": "n", "hook": "noop", "project": "web", "enabled": False}, projects=["web"]))
    out = io.StringIO()
    call_command("export", stdout=out)
    exported = yaml.safe_load(out.getvalue())
    [acme] = exported["tenants"]
    assert [hook["name"] for hook in acme["hooks"]] == ["personal data", "n"]
    assert nothing(apply(exported, prune=True))
    HookBinding.objects.all().delete()
    apply(exported)
    assert HookBinding.objects.get(name="personal data").settings == REDACT["settings"]
