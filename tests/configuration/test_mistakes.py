"""Every mistake in a file names its line, its path and the mend, and changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from gateway.configuration.errors import ConfigurationError
from gateway.configuration.parsing import parse
from providers.models import Provider
from tenants.keys import generate_key
from tenants.models import ApiKey
from tests.configuration.conftest import SMALL, Apply

KEY = "tenants: [{name: a, keys: [{name: k, %s}]}]"
BUDGET = "tenants: [{name: a, budgets: [{%s}]}]"
MODEL = "models: [{name: m, capabilities: [chat], %s}]"
TIER = "models: [{name: m, capabilities: [chat], prices: {input: 1}, price_tiers: [{%s}]}]"
DEPLOYMENT = "models: [{name: m, capabilities: [chat], deployments: [{provider: %s}]}]"
PROVIDER = "providers: [{name: p, kind: openai, %s}]"

FORM = [
    ("", "there is nothing in it"),
    ("# only a comment", "there is nothing in it"),
    ("models: [", "line 1: this is not YAML or JSON"),
    ("models:\n  - name: a\n   kind: b", "line 3: this is not YAML or JSON"),
    ("models: \0", "line 1: this is not YAML or JSON"),
    ("a: 1\n---\nb: 1", "line 2: this is not YAML or JSON"),
    ("[" * 5000, "nested far too deeply"),
    ("- models", "line 1: write a mapping"),
    ("models: many", "line 1, models: write a list here, not a text."),
    ("models: {a: b}", "line 1, models: write a list here, not a mapping."),
    ("models: [text]", "line 1, models[0]: write a mapping"),
    ("model: []", "line 1, model: the key 'model' is not known here; did you mean 'models'?"),
    ("\nzzz: []", "line 2, zzz: the key 'zzz' is not known here; there is agent_types, groups, models, providers"),
    ("models: []\nmodels: []", "line 2, models: this key stands here twice, first in line 1."),
    ("models: [{? [a] : b}]", "line 1, models[0]: write a text here, not a list."),
    ("agent_types: {a: [b]}", "line 1, agent_types.a: write a text here, not a list."),
    ("agent_types:\n  a:\n", "line 2, agent_types.a: write a text here, not nothing."),
    ("tenants: [{name: !vault x}]", "tenants[0].name: the tag !vault is not known here"),
    ('{"tenants": [{"name": "\\ud83d"}]}', "tenants[0].name: this text has a character that cannot be printed"),
    ('tenants: [{name: "a\\nb"}]', "tenants[0].name: this text has a character that cannot be printed"),
]

FIELDS = [
    ("providers: [{kind: openai}]", "providers[0]: the key 'base_url' is missing."),
    ("providers: [{name: p}]", "providers[0]: the key 'kind' is missing."),
    ("providers: [{name: p, kind: opnai}]", "providers[0].kind: 'opnai' is not known here; did you mean 'openai'?"),
    (
        "providers: [{name: p, kind: mock, base_url: 'https://a.b'}]",
        "[0].base_url: a provider of kind mock is always at",
    ),
    (PROVIDER % "base_url: 'https://a.b', api_key: a, api_key_env: B", "[0].api_key_env: api_key is given too"),
    (PROVIDER % "base_url: 'https://a.b', api_key: ''", "[0].api_key: this is empty"),
    (PROVIDER % "base_url: 'https://a.b', enabled: 'true'", "[0].enabled: write true or false here, without quotes."),
    (
        PROVIDER % "base_ulr: 'https://a.b'",
        "[0].base_ulr: the key 'base_ulr' is not known here; did you mean 'base_url'?",
    ),
    (MODEL % "context_window: 1.5", "models[0].context_window: write a whole number here"),
    (MODEL % "context_window: 0x10", "models[0].context_window: write a whole number here"),
    (MODEL % "prices: {inptu: 1}", "models[0].prices.inptu: the key 'inptu' is not known here; did you mean 'input'?"),
    (MODEL % "prices: {input: cheap}", "models[0].prices.input: 'cheap' is not a price; write USD per million units"),
    (MODEL % "prices: {input: -1}", "models[0].prices.input: '-1' is not a price: it must be zero or more."),
    (MODEL % "prices: {input: 1e6}", "models[0].prices.input: 1e6 USD per million units is beyond 100000"),
    (MODEL % "prices: {}", "models[0].prices: name at least one unit"),
    (MODEL % "price_tiers: []", "models[0].price_tiers: this goes with prices"),
    (MODEL % "confirm_prices: [input]", "models[0].confirm_prices: this goes with prices"),
    (TIER % "name: t, prices: {input: 2}", "price_tiers[0]: tier t: give a condition"),
    (TIER % "name: t, utc: 8-9, prices: {input: 2}", "price_tiers[0]: '8-9' is not a time of day"),
    (TIER % "name: t, utc: 08:00-09:00", "price_tiers[0]: the key 'prices' is missing."),
    (TIER % "name: t, utc: 08:00-09:00, prices: {input: NaN}", "price_tiers[0].prices.input: 'NaN' is not a price"),
    (
        TIER % "name: t, service_tier: auto, prices: {input: 2}",
        "tier t: the service tier 'auto' is charged at the base",
    ),
    (TIER % "name: t, above_input_tokens: many, prices: {input: 2}", "[0].above_input_tokens: write a whole number"),
    (
        TIER % "name: a, service_tier: f, prices: {input: 2}}, {name: b, service_tier: f, prices: {input: 3}",
        "price_tiers[1]: tier b: it can never win, because a stands before it",
    ),
    (MODEL % "lifecycle: aproved", "models[0].lifecycle: 'aproved' is not known here; did you mean 'approved'?"),
    (MODEL % "deployments: [{provider: p}]", "models[0].deployments[0]: the key 'upstream_model' is missing."),
    (
        MODEL % "deployments: [{provider: p, upstream_model: u}, {provider: p, upstream_model: u, weight: 2}]",
        "models[0].deployments[1]: this deployment stands here twice, first in line 1.",
    ),
    ("models: [{name: m, capabilities: [chat, chat]}]", "models[0].capabilities[1]: 'chat' stands here twice"),
    (
        "models:\n- {name: m, capabilities: [chat]}\n- {name: m, capabilities: [chat]}",
        "line 3, models[1].name: 'm' stands",
    ),
    (
        "groups: [{name: g, strategy: random}]",
        "groups[0].strategy: 'random' is not known here; there is least_busy, ",
    ),
    ("groups: [{name: g, members: [a, a]}]", "groups[0].members[1]: 'a' stands here twice, first in line 1."),
    ("tenants: [{name: a, limits: {rpm: .nan}}]", "tenants[0].limits.rpm: write a whole number"),
    ("tenants: [{name: a, limits: {tpm: 1e6}}]", "tenants[0].limits.tpm: write a whole number"),
    ("tenants: [{name: a, limits: {rmp: 1}}]", "tenants[0].limits.rmp: the key 'rmp' is not known here; did you mean"),
    ("tenants: [{name: a, limits: {}}]", "tenants[0].limits: set at least one of rpm"),
    ("tenants: [{name: a, limits: [{scope: model, rpm: 1}]}]", "tenants[0].limits[0].scope: 'model' is not known"),
    ("tenants: [{name: a, limits: [{rpm: 1}, {tpm: 1}]}]", "tenants[0].limits[1]: this scope and subject stand here"),
    (BUDGET % "scope: tenant", "tenants[0].budgets[0]: the key 'limit_usd' is missing."),
    (BUDGET % "limit_usd: -1", "tenants[0].budgets[0].limit_usd: '-1' is not an amount: it must be zero or more."),
    (BUDGET % "limit_usd: .nan", "[0].limit_usd: '.nan' is not an amount; write USD, such as 100 or 0.25."),
    (BUDGET % "limit_usd: NaN", "[0].limit_usd: 'NaN' is not an amount: it must be zero or more."),
    (BUDGET % "limit_usd: much", "tenants[0].budgets[0].limit_usd: 'much' is not an amount; write USD"),
    (BUDGET % "limit_usd: 1e12", "[0].limit_usd: 1e12 USD is beyond 10000000: was it meant in another unit?"),
    (BUDGET % "limit_usd: 1e-10", "tenants[0].budgets[0].limit_usd: 1e-10 is finer than a billionth of a USD."),
    (BUDGET % "limit_usd: 1, period: months", "[0].period: 'months' is not known here; did you mean 'month'?"),
    (BUDGET % "limit_usd: 1, scope: team", "budgets[0].scope: 'team' is not known here"),
    (BUDGET % "limit_usd: 1, hard: 'yes'", "budgets[0].hard: write true or false here, without quotes."),
    (BUDGET % "limit_usd: 1, alert_at: [50, 50]", "budgets[0].alert_at[1]: 50 stands here twice."),
    (BUDGET % "limit_usd: 1}, {limit_usd: 2", "budgets[1]: this budget stands here twice, first in line 1."),
    (KEY % "scopes: chat", "tenants[0].keys[0].scopes: write a list here, not a text."),
    (KEY % "scopes: [chats]", "tenants[0].keys[0].scopes[0]: 'chats' is not known here; did you mean 'chat'?"),
    (KEY % "ip_allow_list: [10.0.0.1/8]", "tenants[0].keys[0].ip_allow_list[0]: '10.0.0.1/8' is not an address"),
    (KEY % "expires_at: 2030-01-01", "tenants[0].keys[0].expires_at: '2030-01-01' is not a moment"),
    (KEY % "expires_at: soon", "tenants[0].keys[0].expires_at: 'soon' is not a moment"),
    (KEY % "secret_env: BURSAR_NOT_SET", "secret_env: the environment variable BURSAR_NOT_SET is not set"),
]

ROWS = [
    (PROVIDER % "base_url: 'http://a.b'", "providers[0].base_url: Use https"),
    (PROVIDER % "base_url: 'https://127.0.0.1'", "providers[0].base_url: This address is private"),
    ("providers: [{name: 'a b', kind: mock}]", "providers[0].name: Use 1 to 100 letters"),
    ("models: [{name: m, capabilities: []}]", "models[0].capabilities: This field cannot be blank."),
    (MODEL % "context_window: 0", "models[0].context_window: Ensure this value is greater than or equal to 1."),
    (MODEL % "context_window: 99999999999", "models[0].context_window: Ensure this value is less than or equal to"),
    ("tenants: [{name: a, limits: {rpm: 0}}]", "tenants[0].limits.rpm: Ensure this value is greater than or equal to"),
    ("tenants: [{name: a, limits: {rpm: -1}}]", "tenants[0].limits.rpm: Ensure this value is greater than or equal to"),
    ("tenants: [{name: a, limits: {tpd: 100000000000}}]", "tenants[0].limits.tpd: Ensure this value is less than"),
    (f"tenants: [{{name: a, limits: {{rpd: 1{'0' * 30}}}}}]", "tenants[0].limits.rpd: Ensure this value is less than"),
    ("tenants: [{name: a, limits: [{subject: x, rpm: 1}]}]", "tenants[0].limits[0].subject: A limit of the whole"),
    (MODEL % "lifecycle: proposed, successor: n", "successor: no model is called 'n'; there is large, m, small."),
    (MODEL % "max_output_tokens: 5", "models[0]: m has no enabled deployment: add one before approving it."),
    (DEPLOYMENT % "vendr, upstream_model: m", "[0].provider: no provider is called 'vendr'; did you mean 'vendor'?"),
    (DEPLOYMENT % "vendor, upstream_model: ''", "deployments[0].upstream_model: This field cannot be blank."),
    (DEPLOYMENT % "vendor, upstream_model: m, weight: 0", "deployments[0].weight: Ensure this value is greater than"),
    (DEPLOYMENT % "vendor, upstream_model: m, priority: 40000", "deployments[0].priority: Ensure this value is less"),
    (DEPLOYMENT % "vendor, upstream_model: m, credential: x", "no credential of vendor is called 'x'; there is"),
    ("groups: [{name: small}]", "groups[0].name: A model has this name"),
    ("models: [{name: any, capabilities: [chat]}]", "models[0].name: A model group has this name"),
    ("groups: [{name: g, members: [smal]}]", "groups[0].members[0]: no model is called 'smal'; did you mean 'small'?"),
    ("agent_types: {a: nobody}", "agent_types.a: There is no model or group called 'nobody'."),
    ("agent_types: {'a b': small}", "agent_types.a b: Use 1 to 100 letters"),
    ("tenants: [{name: a, timezone: Mars}]", "tenants[0].timezone: 'Mars' is not an IANA time zone"),
    ("tenants: [{name: a, currency: usd}]", "tenants[0].currency: Use an ISO 4217 code"),
    ("tenants: [{name: a, projects: ['?']}]", "tenants[0].projects[0]: Use 1 to 100 letters"),
    ("tenants: [{name: a, approved: [smal]}]", "[0]: no model or group is called 'smal'; did you mean 'small'?"),
    (KEY % "project: '?'", "tenants[0].keys[0].project: Use 1 to 100 letters"),
    (KEY % f"user: {'u' * 129}", "tenants[0].keys[0].user: Ensure this value has at most 128 characters"),
    (KEY % "secret: bsr_live_short", "tenants[0].keys[0].secret: a key is bsr_live_ followed by"),
    (BUDGET % "limit_usd: 1, subject: x", "budgets[0].subject: A budget of the whole tenant has no subject."),
    (BUDGET % "limit_usd: 1, scope: project, subject: x", "[0].subject: No project of this tenant is called 'x'."),
    (BUDGET % "limit_usd: 1, scope: model, subject: any", "[0].subject: No model is called 'any'. A group is not"),
    (BUDGET % "limit_usd: 1, alert_at: [0]", "budgets[0].alert_at: Item 1 in the array did not validate"),
    ("tenants: [{name: a, keys: [{name: '?'}]}]", "tenants[0].keys[0].name: Use 1 to 100 letters"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), FORM + FIELDS)
def test_what_the_file_says_wrongly(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(("text", "message"), ROWS)
def test_what_does_not_fit_the_database(apply: Apply, text: str, message: str) -> None:
    apply(SMALL)
    # The first line has to be undone as well.
    text = f"agent_types: {{tester: small}}\n{text}" if not text.startswith("agent_types") else f"\n{text}"
    with pytest.raises(CommandError) as caught:
        apply(text)
    assert message in str(caught.value)
    assert "line 2, " in str(caught.value)
    report = apply(SMALL)
    assert report["created"] == report["changed"] == []


def test_two_keys_cannot_share_a_secret(apply: Apply, small: dict[str, Any]) -> None:
    secret = generate_key()
    keys = [{"name": "one", "secret": secret}, {"name": "two", "secret": secret}]
    with pytest.raises(CommandError, match=r"keys\[1\]\.secret: another API key has this secret already") as caught:
        apply({"tenants": [{"name": "a", "keys": keys}]})
    assert secret not in str(caught.value)


def test_a_variable_that_is_not_set_is_named(apply: Apply, small: dict[str, Any]) -> None:
    del small["providers"][0]["api_key"]
    small["providers"][0]["api_key_env"] = "BURSAR_NOT_SET"
    with pytest.raises(CommandError, match="the environment variable BURSAR_NOT_SET is not set; set it"):
        apply(small)
    assert not Provider.objects.exists()


def test_a_secret_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_KEY_FILE", "/nowhere/acme")
    with pytest.raises(ConfigurationError, match=r"secret_env: ACME_KEY_FILE cannot be read"):
        parse(KEY % "secret_env: ACME_KEY")


def test_json_may_be_indented_with_tabs(apply: Apply, small: dict[str, Any]) -> None:
    apply(json.dumps(small, indent="\t"))
    assert Provider.objects.get().name == "vendor"


def test_json_may_write_characters_as_escapes(apply: Apply, small: dict[str, Any]) -> None:
    small["tenants"][0]["keys"][0]["user"] = "Ὄ 🐢"
    apply(json.dumps(small, ensure_ascii=True))
    assert ApiKey.objects.get().user == "Ὄ 🐢"


def test_lines_are_those_of_json_too(apply: Apply, small: dict[str, Any]) -> None:
    small["models"][0]["colour"] = "blue"
    text = json.dumps(small, indent="\t")
    line = text[: text.index('"blue"')].count("\n") + 1
    with pytest.raises(CommandError, match=rf"line {line}, models\[0\]\.colour: the key 'colour' is not known here"):
        apply(text)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read: No such file"), (b"\xff", "not text in UTF-8")]
)
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "bursar.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CommandError, match=message):
        call_command("apply", str(file))


def test_secrets_are_in_no_representation() -> None:
    document = parse(SMALL.replace("- name: ci", f"- name: ci\n        secret: {generate_key()}"))
    assert "sk-1234567890123456" not in repr(document.providers)
    assert "bsr_live_" not in repr(document.tenants)
