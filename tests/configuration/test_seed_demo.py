"""The demo: the same access on every run, and nothing undone that an operator decided."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from billing.public_prices import Place, public_price
from billing.services import read_rates, set_price
from gateway.demo import VENDORS, ollama_url
from gateway.demo_seed import seed_demo
from providers.credentials import decrypt_secret
from providers.models import (
    AgentType,
    ApprovalState,
    Credential,
    GroupMember,
    Lifecycle,
    Model,
    ModelGroup,
    Provider,
    TenantApproval,
)
from providers.selectors import approved_names, load_catalogue
from providers.services import decide_approval, move_model
from tenants.keys import digest_key
from tenants.models import ApiKey, Operator, Tenant
from tenants.selectors import config_revisions, find_principal
from tenants.services import revoke_key
from tests.factories import make_model

URL = "http://127.0.0.1:5005/v1"
GROUPS = {"high-reasoning", "fast-response", "cost-optimized"}
MOCKS = {
    "mock-chat", "mock-embed", "mock-image", "mock-speech", "mock-transcribe", "mock-video", "mock-voice",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _fresh_folder(db: None, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DATA_DIR = tmp_path
    # Django's own million rounds take a second each time, and these tests do not attack the password.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    for vendor in VENDORS:
        monkeypatch.delenv(vendor.environment_variable, raising=False)
    settings.LLM_BACKEND = ""


def members(group: str) -> list[str]:
    return list(GroupMember.objects.filter(group__name=group).values_list("model__name", flat=True))


def test_the_command_prints_one_json_object(tmp_path: Path) -> None:
    printed = io.StringIO()
    call_command("seed_demo", base_url=URL, pid=42, stdout=printed)
    demo = json.loads(printed.getvalue())
    assert set(demo) == {"base_url", "api_key", "admin_url", "admin_user", "admin_password", "pid"}
    assert (demo["base_url"], demo["admin_url"], demo["pid"]) == (URL, "http://127.0.0.1:5005/admin/", 42)
    operator = Operator.objects.get(username=demo["admin_user"])
    assert (operator.role, operator.is_staff) == ("owner", True)
    assert operator.check_password(demo["admin_password"])
    kept = tmp_path / "secrets" / "demo_admin_password"
    assert kept.stat().st_mode & 0o777 == 0o600


def test_the_key_opens_the_demo(settings: Any) -> None:
    key = seed_demo(URL, 1).api_key
    assert key is not None
    principal = find_principal(digest_key(key, settings.API_KEY_PEPPER))
    assert principal is not None
    assert principal.tenant_name == "demo"
    assert str(ApiKey.objects.get().project) == "demo/playground"
    assert approved_names(principal.tenant_id) == {*MOCKS, *GROUPS}
    catalogue = load_catalogue()
    assert all(model.serves and model.deployments for model in catalogue.models.values())
    assert {name: group.members for name, group in catalogue.groups.items()} == dict.fromkeys(GROUPS, ("mock-chat",))
    assert catalogue.agent_types["software-architect"] == "high-reasoning"
    assert catalogue.agent_types["qa-engineer"] == "fast-response"


@pytest.mark.django_db(transaction=True)
def test_the_second_run_gives_the_same_and_changes_nothing() -> None:
    first = seed_demo(URL, 1)
    revisions = config_revisions()
    assert seed_demo(URL, 1) == first
    assert config_revisions() == revisions


def test_a_revoked_key_and_another_password_stay_so() -> None:
    seed_demo(URL, 1)
    revoke_key(ApiKey.objects.get())
    operator = Operator.objects.get()
    operator.set_password("another password")
    operator.save()
    access = seed_demo(URL, 1)
    assert access.api_key is None
    assert access.admin_password is None
    assert access.note is not None
    assert "revoked" in access.note
    assert "password" in access.note
    assert "note" in access.as_json()
    assert ApiKey.objects.get().revoked_at is not None
    assert Operator.objects.get().check_password("another password")


def test_a_closed_account_stays_closed() -> None:
    seed_demo(URL, 1)
    Operator.objects.update(is_active=False)
    assert seed_demo(URL, 1).admin_password is None
    assert not Operator.objects.get().is_active


def test_what_operators_decided_stays() -> None:
    seed_demo(URL, 1)
    Tenant.objects.update(status="suspended", timezone="Europe/Berlin")
    Provider.objects.update(enabled=False)
    decide_approval(TenantApproval.objects.get(model__name="mock-embed"), ApprovalState.SUSPENDED, by=None)
    mock_chat = Model.objects.get(name="mock-chat")
    move_model(mock_chat, Lifecycle.RETIRED, by=None)
    set_price(mock_chat, read_rates({"input": "7"}))
    ApiKey.objects.update(ip_allow_list=["192.0.2.1"])
    AgentType.objects.filter(name="qa-engineer").update(target="mock-chat")
    own = make_model(name="own")
    GroupMember.objects.create(group=ModelGroup.objects.get(name="fast-response"), model=own, position=0)

    assert seed_demo(URL, 1).note is None

    tenant = Tenant.objects.get()
    assert (tenant.status, tenant.timezone) == ("suspended", "Europe/Berlin")
    assert not Provider.objects.get().enabled
    assert "mock-embed" not in approved_names(tenant.pk)
    mock_chat.refresh_from_db()
    assert mock_chat.lifecycle == "retired"
    assert mock_chat.prices.latest("valid_from").usd_per_million() == {"input": "7"}
    assert ApiKey.objects.get().ip_allow_list == ["192.0.2.1"]
    assert AgentType.objects.get(name="qa-engineer").target == "mock-chat"
    assert members("fast-response") == ["own", "mock-chat"]


def test_the_mock_learns_what_the_release_teaches_it() -> None:
    seed_demo(URL, 1)
    Model.objects.filter(name="mock-chat").update(capabilities=["chat"])
    seed_demo(URL, 1)
    assert "tools" in Model.objects.get(name="mock-chat").capabilities


def test_a_new_data_folder_gets_a_working_key(settings: Any, tmp_path: Path) -> None:
    first = seed_demo(URL, 1)
    settings.DATA_DIR = tmp_path / "another"
    second = seed_demo(URL, 1)
    assert second.api_key not in (None, first.api_key)
    assert find_principal(digest_key(str(second.api_key), settings.API_KEY_PEPPER)) is not None
    assert second.admin_password is None  # the password still works as it was; nobody may take an owner's account


def test_a_vendor_with_a_key_is_registered_and_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    seed_demo(URL, 1)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-first-12345678")
    seed_demo(URL, 1)
    assert members("high-reasoning") == ["gpt-6.1-sol", "mock-chat"]
    assert members("fast-response") == members("cost-optimized") == ["gpt-6-luna", "mock-chat"]
    assert {"gpt-6.1-sol", "gpt-6-luna", "text-embedding-3-small"} <= approved_names(Tenant.objects.get().pk)

    GroupMember.objects.filter(model__name="gpt-6.1-sol").delete()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-second-12345678")
    seed_demo(URL, 1)
    assert decrypt_secret(Credential.objects.get()) == "sk-second-12345678"
    assert members("high-reasoning") == ["mock-chat"]

    monkeypatch.delenv("OPENAI_API_KEY")
    seed_demo(URL, 1)
    assert members("fast-response") == ["gpt-6-luna", "mock-chat"]


def every_vendor(monkeypatch: pytest.MonkeyPatch) -> None:
    for vendor in VENDORS:
        monkeypatch.setenv(vendor.environment_variable, "10.0.0.7" if vendor.address_env else f"key-of-{vendor.name}")


def test_the_chains_of_all_vendors(monkeypatch: pytest.MonkeyPatch) -> None:
    every_vendor(monkeypatch)
    seed_demo(URL, 1)
    assert {group: members(group) for group in GROUPS} == {
        "high-reasoning": [
            "claude-opus-5-5", "gpt-6.1-sol", "gemini-4-argon", "deepseek-flash", "llama3.2", "mock-chat"],
        "fast-response": ["claude-haiku-5-5", "gpt-6-luna", "gemini-3.8-flash", "deepseek-flash", "mock-chat"],
        "cost-optimized": [
            "llama3.2", "claude-haiku-5-5", "deepseek-flash", "gpt-6-luna", "gemini-3.8-flash", "mock-chat"],
    }  # fmt: skip
    server = Provider.objects.get(name="ollama")
    assert (server.base_url, server.allow_private_network) == ("http://10.0.0.7:11434", True)
    assert not server.credentials.exists()
    catalogue = load_catalogue()
    assert all(model.serves and model.deployments for model in catalogue.models.values())
    Provider.objects.filter(name="ollama").update(base_url="http://10.0.0.8:11434")
    seed_demo(URL, 1)
    assert Provider.objects.get(name="ollama").base_url == "http://10.0.0.8:11434"


def test_prices_are_the_public_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    every_vendor(monkeypatch)
    seed_demo(URL, 1)
    now = timezone.now()
    for vendor in VENDORS:
        for model in vendor.models:
            price = Model.objects.get(name=model.name).prices.get()
            public = public_price([Place(vendor.kind, vendor.base_url, model.name)], now)
            if vendor.address_env:
                assert price.usd_per_million() == {"requests": "0"}
            else:
                assert public is not None, f"{model.name} is not in genai-prices"
                assert (price.rates, len(price.tiers)) == (dict(public.rates), len(public.tiers))


@pytest.mark.parametrize(
    ("backend", "chain"), [("mock", ["mock-chat", "gpt-6-luna"]), ("api", ["gpt-6-luna", "mock-chat"])]
)
def test_what_the_groups_prefer(backend: str, chain: list[str], settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.LLM_BACKEND = backend
    seed_demo(URL, 1)
    assert members("fast-response") == ["mock-chat"]
    monkeypatch.setenv("OPENAI_API_KEY", "sk-first-12345678")
    seed_demo(URL, 1)
    assert members("fast-response") == chain


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:11434"),
        ("gpu.local:8080", "http://gpu.local:8080"),
        ("0.0.0.0:11434", "http://127.0.0.1:11434"),
        ("http://[::1]:9", "http://[::1]:9"),
        ("https://ollama.example/api/", "https://ollama.example:443/api"),
        (":9000", "http://127.0.0.1:9000"),
    ],
)
def test_how_ollama_is_addressed(host: str, url: str) -> None:
    assert ollama_url(host) == url


def test_a_name_that_is_taken_is_said(db: None) -> None:
    ModelGroup.objects.create(name="mock-chat")
    with pytest.raises(CommandError, match=r"The demo does not fit what is in the database: .*A model group has this"):
        call_command("seed_demo", base_url=URL, pid=42)


def test_the_cli_is_asked_first_where_it_is_wanted(settings: Any) -> None:
    settings.LLM_BACKEND, settings.LLM_CLI_COMMAND = "cli", ("echo",)
    seed_demo(URL, pid=1)
    assert Provider.objects.get(kind="cli").base_url == "cli://pool"
    assert all(members(group) == ["cli-chat", "mock-chat"] for group in GROUPS)
    assert "cli-chat" in approved_names(Tenant.objects.get(name="demo").pk)


def test_the_cli_comes_to_a_demo_that_is_there(settings: Any) -> None:
    seed_demo(URL, pid=1)
    assert members("fast-response") == ["mock-chat"] and not Provider.objects.filter(kind="cli").exists()
    settings.LLM_BACKEND, settings.LLM_CLI_COMMAND = "cli", ("echo",)
    seed_demo(URL, pid=1)
    assert members("fast-response") == ["cli-chat", "mock-chat"]


def test_the_cli_without_a_command_is_noted(settings: Any) -> None:
    settings.LLM_BACKEND, settings.LLM_CLI_COMMAND = "cli", ()
    access = seed_demo(URL, pid=1)
    assert access.note is not None and "LLM_CLI_COMMAND" in access.note
    assert not Provider.objects.filter(kind="cli").exists()
