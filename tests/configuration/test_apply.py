"""What `manage.py apply` makes of a file."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.models import Price
from providers.credentials import decrypt_secret, store_credential
from providers.models import (
    AgentType,
    ApprovalState,
    Credential,
    Deployment,
    Lifecycle,
    LifecycleChange,
    Model,
    ModelGroup,
    Provider,
    TenantApproval,
)
from providers.services import decide_approval, move_model
from tenants.keys import digest_key, generate_key
from tenants.models import ApiKey, Tenant
from tenants.selectors import config_revisions
from tenants.services import revoke_key
from tests.configuration.conftest import SMALL, Apply, nothing


def test_everything_the_file_names_is_there(apply: Apply) -> None:
    report = apply(SMALL)

    provider = Provider.objects.get()
    assert (provider.name, provider.kind, provider.enabled) == ("vendor", "openai_compatible", True)
    assert decrypt_secret(Credential.objects.get()) == "sk-1234567890123456"
    small = Model.objects.get(name="small")
    assert (small.capabilities, small.context_window, small.lifecycle) == (["chat", "stream"], 8000, "approved")
    assert Price.objects.get(model=small).usd_per_million() == {"input": "0.15", "output": "0.6"}
    assert not Price.objects.filter(model__name="large").exists()
    assert [member.model.name for member in ModelGroup.objects.get().members.all()] == ["small", "large"]
    assert AgentType.objects.get().target == "any"
    assert {approval.target_name for approval in TenantApproval.objects.filter(state="approved")} == {"small", "any"}
    key = ApiKey.objects.get()
    assert (str(key.project), key.user, key.scopes) == ("acme/web", "u-1", ["chat"])
    [shown] = report["keys"]
    assert (shown["tenant"], shown["name"]) == ("acme", "ci")
    assert bytes(key.digest) == digest_key(shown["key"], settings.API_KEY_PEPPER)
    assert "model small" in report["created"]
    assert report["changed"] == report["pruned"] == []


def test_lifecycle_moves_are_recorded(apply: Apply) -> None:
    apply(SMALL)
    changes = LifecycleChange.objects.filter(model__name="small").order_by("pk")
    assert [(change.to_state, change.reason) for change in changes] == [("proposed", "apply"), ("approved", "apply")]


def test_the_second_time_nothing_is_written(apply: Apply) -> None:
    apply(SMALL)
    with CaptureQueriesContext(connection) as queries:
        assert nothing(apply(SMALL))
    written = [query["sql"] for query in queries if query["sql"].startswith(("INSERT", "UPDATE", "DELETE"))]
    assert written == []


@pytest.mark.django_db(transaction=True)
def test_the_second_time_no_revision_moves(apply: Apply) -> None:
    apply(SMALL)
    revisions = config_revisions()
    assert revisions
    apply(SMALL, prune=True)
    assert config_revisions() == revisions


def test_dry_run_tells_and_does_nothing(apply: Apply) -> None:
    report = apply(SMALL, dry_run=True)
    assert "key acme/ci" in report["created"]
    assert report["keys"] == []
    assert not Model.objects.exists()
    assert not Tenant.objects.exists()


def test_values_that_are_left_out_take_their_defaults(apply: Apply, small: dict[str, Any]) -> None:
    apply(SMALL)
    del small["models"][0]["context_window"]
    key = small["tenants"][0]["keys"][0]
    for name in ("project", "user", "scopes", "ip_allow_list", "expires_at"):
        del key[name]
    report = apply(small)
    assert report["changed"] == [
        "model small: context_window",
        "key acme/ci: project, user, scopes, ip_allow_list, expires_at",
    ]
    assert Model.objects.get(name="small").context_window is None
    assert ApiKey.objects.get().ip_allow_list == []


def test_lists_and_secrets_that_are_left_out_are_left_alone(apply: Apply, small: dict[str, Any]) -> None:
    apply(SMALL)
    del small["providers"][0]["api_key"]
    del small["models"][0]["prices"]
    for entry, name in ((small["models"][0], "deployments"), (small["groups"][0], "members")):
        del entry[name]
    for name in ("approved", "keys"):
        del small["tenants"][0][name]
    assert nothing(apply(small))
    assert nothing(apply("{}"))
    assert nothing(apply(small, prune=True))


def test_a_new_price_is_a_new_version(apply: Apply, small: dict[str, Any]) -> None:
    apply(SMALL)
    small["models"][0]["prices"]["input"] = "0.20"
    assert apply(small)["changed"] == ["model small: prices"]
    versions = Price.objects.filter(model__name="small").order_by("valid_from")
    assert [version.usd_per_million()["input"] for version in versions] == ["0.15", "0.2"]


def test_prices_need_no_quotes_and_lose_nothing(apply: Apply, small: dict[str, Any]) -> None:
    apply(SMALL.replace('"0.15"', "0.1").replace('"0.60"', "0.000003"))
    assert Price.objects.get().usd_per_million() == {"input": "0.1", "output": "0.000003"}


def test_another_api_key_replaces_the_secret(apply: Apply, small: dict[str, Any]) -> None:
    apply(SMALL)
    before = Credential.objects.get().ciphertext
    small["providers"][0]["api_key"] = "sk-another-secret"
    assert apply(small)["changed"] == ["provider vendor: api_key"]
    credential = Credential.objects.get()
    assert decrypt_secret(credential) == "sk-another-secret"
    assert credential.ciphertext != before
    assert nothing(apply(small))


def test_a_secret_that_cannot_be_opened_is_written_again(apply: Apply) -> None:
    apply(SMALL)
    Credential.objects.update(ciphertext="00000000.AAAA")
    assert apply(SMALL)["changed"] == ["provider vendor: api_key"]
    assert decrypt_secret(Credential.objects.get()) == "sk-1234567890123456"


def test_secrets_come_from_the_environment(
    apply: Apply, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = generate_key(), generate_key()
    monkeypatch.setenv("VENDOR_KEY", "sk-from-the-environment")
    monkeypatch.setenv("ACME_KEY", first)
    del small["providers"][0]["api_key"]
    small["providers"][0]["api_key_env"] = "VENDOR_KEY"
    small["tenants"][0]["keys"][0]["secret_env"] = "ACME_KEY"
    assert apply(small)["keys"] == []  # a key that was given needs no showing
    assert decrypt_secret(Credential.objects.get()) == "sk-from-the-environment"
    assert bytes(ApiKey.objects.get().digest) == digest_key(first, settings.API_KEY_PEPPER)

    monkeypatch.setenv("ACME_KEY", second)
    report = apply(small)
    assert (report["changed"], report["keys"]) == (["key acme/ci: secret"], [])
    key = ApiKey.objects.get()
    assert bytes(key.digest) == digest_key(second, settings.API_KEY_PEPPER)
    assert key.hint.startswith(second[:13])
    assert nothing(apply(small))


def test_a_secret_that_the_file_names_is_switched_on(apply: Apply) -> None:
    apply(SMALL)
    Credential.objects.update(enabled=False)
    assert apply(SMALL)["changed"] == ["provider vendor: api_key"]
    assert Credential.objects.get().enabled


def test_the_order_of_capabilities_says_nothing(apply: Apply, small: dict[str, Any]) -> None:
    apply(SMALL)
    small["models"][0]["capabilities"].reverse()
    assert nothing(apply(small))


def test_one_at_a_time(apply: Apply) -> None:
    """Two that run at once would create the same rows; the lock ends with the transaction, here the test's."""
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid()"
    apply("{}")
    with connection.cursor() as cursor:
        cursor.execute(locks)
        assert cursor.fetchone() == (1,)


def test_operators_decisions_give_way_to_the_file(apply: Apply) -> None:
    apply(SMALL)
    for approval in TenantApproval.objects.all():
        decide_approval(approval, ApprovalState.SUSPENDED, by=None)
    move_model(Model.objects.get(name="large"), Lifecycle.RETIRED, by=None)
    Tenant.objects.update(status="suspended")
    Provider.objects.update(enabled=False)
    report = apply(SMALL)
    assert set(report["changed"]) == {
        "provider vendor: enabled",
        "model large: lifecycle",
        "tenant acme: status",
        "approval of small for acme: state",
        "approval of any for acme: state",
    }
    large = Model.objects.get(name="large")
    states = large.lifecycle_changes.order_by("pk").values_list("to_state", flat=True)
    assert list(states) == ["proposed", "approved", "retired", "proposed", "approved"]


@pytest.mark.parametrize("start", Lifecycle.values)
@pytest.mark.parametrize("goal", Lifecycle.values)
def test_every_lifecycle_state_leads_to_every_other(apply: Apply, small: dict[str, Any], start: str, goal: str) -> None:
    for state in (start, goal):
        small["models"][0]["lifecycle"] = state
        apply(small)
    assert Model.objects.get(name="small").lifecycle == goal


def test_a_successor_may_stand_further_down(apply: Apply, small: dict[str, Any]) -> None:
    small["models"][0]["successor"] = "large"
    apply(small)
    assert str(Model.objects.get(name="small").successor) == "large"
    del small["models"][0]["successor"]
    assert apply(small)["changed"] == ["model small: successor"]


def test_members_follow_the_order_of_the_file(apply: Apply, small: dict[str, Any]) -> None:
    apply(SMALL)
    small["groups"][0]["members"] = ["large"]
    assert apply(small)["changed"] == ["group any: members"]
    members = ModelGroup.objects.get().members
    assert [member.model.name for member in members.all()] == ["large", "small"]
    members.filter(model__name="small").update(position=9)
    assert nothing(apply(small))


def test_deployments_of_one_provider_are_told_apart_by_credential(apply: Apply, small: dict[str, Any]) -> None:
    apply(SMALL)
    store_credential(Provider.objects.get(), "sk-another-secret", name="second")
    second = {"provider": "vendor", "upstream_model": "small-1", "credential": "second", "weight": 3}
    small["models"][0]["deployments"].append(second)
    assert apply(small)["created"] == ["deployment small at vendor as small-1 with second"]
    small["models"][0]["deployments"][0]["enabled"] = False
    assert apply(small)["changed"] == ["deployment small at vendor as small-1: enabled"]
    rows = Deployment.objects.filter(model__name="small").order_by("pk").values_list("weight", "enabled")
    assert list(rows) == [(1, False), (3, True)]


def test_a_provider_with_a_fixed_address_needs_none(apply: Apply) -> None:
    document = "providers: [{name: mock, kind: mock}]"
    apply(document)
    assert Provider.objects.get().base_url == "mock://local"
    assert nothing(apply(document))


def test_a_revoked_key_is_not_given_back(apply: Apply) -> None:
    apply(SMALL)
    revoke_key(ApiKey.objects.get())
    with pytest.raises(CommandError, match=r"line 21, tenants\[0\]\.keys\[0\]\.name: key acme/ci was revoked"):
        apply(SMALL)


def test_people_get_lines_and_a_warning(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SMALL.encode())))
    printed = io.StringIO()
    call_command("apply", "-", stdout=printed)
    text = printed.getvalue()
    assert "created  model small\n" in text
    assert "They are shown this once" in text
    assert "acme/ci  bsr_live_" in text


@pytest.mark.django_db(transaction=True)
def test_a_failure_is_one_clean_message_and_status_1() -> None:
    command = [sys.executable, "manage.py", "apply", "-", "--json"]
    wrong = SMALL.replace("capabilities: [chat]", "capabilities: [chatt]")
    done = subprocess.run(command, cwd=settings.BASE_DIR, input=wrong, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "CommandError: standard input, line 11, models[1].capabilities[0]: 'chatt' is not known here; "
        "did you mean 'chat'?\nNothing was changed.\n"
    )
    assert not Provider.objects.exists()
