"""`manage.py export` writes what `manage.py apply` reads, and no secrets."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command
from django.db import transaction
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from billing.models import Period
from billing.models.budgets import HIGHEST_LIMIT_NANO_USD
from billing.money import usd
from billing.pricing import UNITS
from gateway.configuration.apply import apply_document
from gateway.configuration.export import export_document
from gateway.configuration.parsing import parse
from providers.credentials import store_credential
from providers.models import ApprovalState, Capability, Lifecycle, Provider, TenantApproval
from providers.services import decide_approval
from tenants.models import ApiKey, Scope
from tenants.services import revoke_key
from tests.configuration.conftest import SMALL, Apply, nothing


def exported(**options: bool) -> str:
    printed = io.StringIO()
    call_command("export", stdout=printed, **options)
    return printed.getvalue()


def test_what_was_applied_comes_back(apply: Apply) -> None:
    apply(SMALL)
    document = yaml.safe_load(exported())
    assert document == {
        "providers": [{"name": "vendor", "kind": "openai_compatible", "base_url": "https://api.example.com/v1"}],
        "models": [
            {
                "name": "small",
                "capabilities": ["chat", "stream"],
                "context_window": 8000,
                "prices": {"input": "0.15", "output": "0.6"},
                "deployments": [{"provider": "vendor", "upstream_model": "small-1", "priority": 1, "weight": 1}],
            },
            {
                "name": "large",
                "capabilities": ["chat"],
                "deployments": [{"provider": "vendor", "upstream_model": "large-1", "priority": 1, "weight": 1}],
            },
        ],
        "groups": [{"name": "any", "strategy": "priority", "members": ["small", "large"]}],
        "agent_types": {"tester": "any"},
        "tenants": [
            {
                "name": "acme",
                "timezone": "UTC",
                "currency": "USD",
                "projects": ["web"],
                "approved": ["small", "any"],
                "limits": [],
                "budgets": [
                    {"scope": "tenant", "period": "month", "limit_usd": "100", "hard": True, "alert_at": [50, 80]}
                ],
                "keys": [
                    {
                        "name": "ci",
                        "project": "web",
                        "user": "u-1",
                        "scopes": ["chat"],
                        "ip_allow_list": ["192.0.2.0/24"],
                        "expires_at": "2030-01-01T00:00:00+00:00",
                    }
                ],
            }
        ],
    }
    assert json.loads(exported(json=True)) == document


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("prune", [False, True])
def test_applying_an_export_changes_nothing(apply: Apply, small: dict[str, Any], as_json: bool, prune: bool) -> None:
    small["models"][0] |= {"lifecycle": "retired", "successor": "large"}
    small["tenants"][0]["status"] = "suspended"
    small["providers"].append({"name": "off", "kind": "mock", "enabled": False})
    small["tenants"].append({"name": "empty"})
    small["tenants"][0]["budgets"].append(
        {"scope": "project", "subject": "web", "period": "day", "limit_usd": "0.000000001", "enabled": False}
    )
    small["tenants"][0]["budgets"].append({"scope": "user", "period": "total", "limit_usd": "5", "hard": False})
    apply(small)
    store_credential(Provider.objects.get(name="vendor"), "sk-another-secret", name="second")
    second = {"provider": "vendor", "upstream_model": "m", "credential": "second", "enabled": False}
    small["models"][1]["deployments"].append(second)
    small["tenants"][0]["keys"].append({"name": "gone"})
    apply(small)
    revoke_key(ApiKey.objects.get(name="gone"))
    decide_approval(TenantApproval.objects.get(group__name="any"), ApprovalState.REJECTED, by=None)

    text = exported(json=as_json)
    assert nothing(apply(text, prune=prune))
    assert "sk-" not in text
    assert exported(json=as_json) == text


def test_what_is_done_when_a_client_leaves_comes_back(apply: Apply, small: dict[str, Any]) -> None:
    small["providers"][0]["on_disconnect"] = "drain"
    apply(small)
    assert Provider.objects.get().on_disconnect == "drain"
    assert yaml.safe_load(exported())["providers"][0]["on_disconnect"] == "drain"
    del small["providers"][0]["on_disconnect"]
    apply(small)
    assert Provider.objects.get().on_disconnect == "", "as its kind does"
    small["providers"][0]["on_disconnect"] = "wait"
    with pytest.raises(CommandError, match="'wait' is not known here"):
        apply(small)


def test_another_database_gets_the_same_with_new_keys(apply: Apply) -> None:
    with transaction.atomic():
        apply(SMALL)
        text = exported()
        transaction.set_rollback(True)
    report = apply(text)
    assert [key["name"] for key in report["keys"]] == ["ci"]
    assert exported() == text


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
PRICES = st.integers(min_value=0, max_value=10**11).map(lambda pico: f"{pico // 10**6}.{pico % 10**6:06}")


def subset(values: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), unique=True)


KEYS = st.fixed_dictionaries(
    {"name": NAMES},
    optional={
        "project": NAMES,
        "user": st.text(st.characters(codec="utf-8"), max_size=128).filter(str.isprintable),
        "scopes": subset(Scope.values),
        "ip_allow_list": st.lists(st.ip_addresses().map(str), max_size=3, unique=True),
        "expires_at": st.datetimes(timezones=st.timezones())
        .filter(lambda at: at.year > 1000)
        .map(lambda at: at.isoformat()),
    },
)
BUDGETS = st.fixed_dictionaries(
    {
        "scope": st.just("user"),
        "subject": st.text(st.characters(codec="utf-8"), max_size=256).filter(str.isprintable),
        "period": st.sampled_from(Period.values),
        "limit_usd": st.integers(0, HIGHEST_LIMIT_NANO_USD).map(usd),
    },
    optional={
        "hard": st.booleans(),
        "alert_at": st.lists(st.integers(1, 1000), unique=True, max_size=3),
        "enabled": st.booleans(),
    },
)
TIERS = st.lists(
    st.fixed_dictionaries(
        {
            "name": NAMES,
            "service_tier": st.sampled_from(["flex", "priority", "batch"]),
            "prices": st.dictionaries(st.sampled_from(UNITS), PRICES, min_size=1),
        },
        optional={"utc": st.sampled_from(["16:30-00:30", "01:00-04:00"])},
    ),
    max_size=3,
    unique_by=(lambda tier: tier["name"], lambda tier: tier["service_tier"]),
)


def priced(model: dict[str, Any]) -> dict[str, Any]:
    """Examples share a database and their prices are random: say that they are meant."""
    if "prices" in model:
        return {**model, "confirm_prices": list(UNITS)}
    return {key: value for key, value in model.items() if key != "price_tiers"}


DOCUMENTS = st.fixed_dictionaries(
    {
        "models": st.lists(
            st.fixed_dictionaries(
                {
                    "name": NAMES.map("m:{}".format),
                    "capabilities": subset(Capability.values).filter(bool),
                    "lifecycle": st.sampled_from([Lifecycle.PROPOSED.value, Lifecycle.RETIRED.value]),
                },
                optional={
                    "context_window": st.integers(1, 2**31 - 1),
                    "prices": st.dictionaries(st.sampled_from(UNITS), PRICES, min_size=1),
                    "price_tiers": TIERS,
                },
            ).map(priced),
            max_size=3,
            unique_by=lambda model: model["name"],
        ),
        "tenants": st.lists(
            st.fixed_dictionaries(
                {"name": NAMES, "keys": st.lists(KEYS, max_size=3, unique_by=lambda key: key["name"])},
                optional={
                    "projects": st.lists(NAMES, unique=True, max_size=3),
                    "budgets": st.lists(
                        BUDGETS, max_size=3, unique_by=lambda budget: (budget["subject"], budget["period"])
                    ),
                },
            ),
            max_size=2,
            unique_by=lambda tenant: tenant["name"],
        ),
    }
)


# Without shrinking, which takes minutes against a database; what fails is small enough to read.
@hypothesis_settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(document=DOCUMENTS)
def test_any_document_survives_the_round_trip(db: None, document: dict[str, Any]) -> None:
    apply_document(parse(json.dumps(document)))
    report = apply_document(parse(yaml.safe_dump(export_document(), allow_unicode=True)), prune_unnamed=True)
    assert nothing(report.as_json())
