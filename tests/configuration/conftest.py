"""Applying configuration as an operator does: through the command."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import call_command

Apply = Callable[..., dict[str, Any]]

SMALL = """\
providers:
  - {name: vendor, kind: openai_compatible, base_url: https://api.example.com/v1, api_key: sk-1234567890123456}
models:
  - name: small
    capabilities: [chat, stream]
    context_window: 8000
    prices: {input: "0.15", output: "0.60"}
    deployments:
      - {provider: vendor, upstream_model: small-1}
  - name: large
    capabilities: [chat]
    deployments:
      - {provider: vendor, upstream_model: large-1}
groups:
  - {name: any, members: [small, large]}
agent_types: {tester: any}
tenants:
  - name: acme
    approved: [small, any]
    keys:
      - name: ci
        project: web
        user: u-1
        scopes: [chat]
        ip_allow_list: [192.0.2.0/24]
        expires_at: "2030-01-01T00:00:00Z"
    budgets:
      - {limit_usd: 100, alert_at: [80, 50]}
"""


@pytest.fixture
def small() -> dict[str, Any]:
    """The configuration `SMALL` as data to change."""
    loaded: dict[str, Any] = yaml.safe_load(SMALL)
    return loaded


@pytest.fixture
def apply(db: None, tmp_path: Path) -> Apply:
    """Apply a text, or data, and return what `--json` prints; keywords are the command's options."""

    def apply(document: str | dict[str, Any], **options: bool) -> dict[str, Any]:
        file = tmp_path / "bursar.yaml"
        file.write_text(document if isinstance(document, str) else json.dumps(document))
        printed = io.StringIO()
        call_command("apply", str(file), json=True, stdout=printed, **options)
        report: dict[str, Any] = json.loads(printed.getvalue())
        return report

    return apply


def nothing(report: dict[str, Any]) -> bool:
    """Whether a report says that nothing was done."""
    return report == {"created": [], "changed": [], "pruned": [], "keys": [], "webhook_secrets": []}
