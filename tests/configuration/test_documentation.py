"""docs/reference/configuration.md names what there is, and its example applies as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from billing.pricing import UNITS
from gateway.configuration import caching, hooks, parsing, webhooks
from gateway.configuration.errors import ConfigurationError
from providers.models import Capability, Lifecycle, Strategy
from providers.registry import ADAPTERS
from tenants.keys import generate_key
from tenants.models import Scope, TenantStatus
from tests.configuration.conftest import Apply, nothing

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/reference/configuration.md").read_text()
EXAMPLE = re.search(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


def test_the_example_applies(apply: Apply, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1234567890123456")
    monkeypatch.setenv("ACME_KEY", generate_key())
    assert EXAMPLE is not None
    report = apply(EXAMPLE[1])
    assert [key["name"] for key in report["keys"]] == ["office"]
    assert nothing(apply(EXAMPLE[1], prune=True))


def test_the_error_shown_is_the_error_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1234567890123456")
    assert EXAMPLE is not None
    shown = re.search(r"CommandError: bursar\.yaml, (.*)\n", TEXT)
    assert shown is not None
    with pytest.raises(ConfigurationError) as caught:
        parsing.parse(EXAMPLE[1].replace("tools", "tols"))
    assert str(caught.value) == shown[1]


def test_every_word_is_there() -> None:
    words = {*UNITS, *Capability.values, *Lifecycle.values, *Strategy.values, *Scope.values, *TenantStatus.values}
    missing = {word for word in words | set(ADAPTERS) if f"`{word}`" not in TEXT}
    assert not missing


def test_every_key_is_there() -> None:
    source = "".join(Path(module.__file__ or "").read_text() for module in (parsing, webhooks, hooks, caching))
    keys = set(re.findall(r'entry\.(?:get|need|text|boolean|whole_number|choice)\("(\w+)"', source))
    assert len(keys) > 25
    assert not {key for key in keys if f"`{key}`" not in TEXT}
