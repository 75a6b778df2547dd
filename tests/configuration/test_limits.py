"""Rate limits in the configuration file."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tenants.models import RateLimit
from tests.configuration.conftest import SMALL, Apply, nothing
from tests.configuration.test_export import exported

TENANT = {"name": "acme"}


def rows() -> list[tuple[Any, ...]]:
    fields = ("scope", "subject", "requests_per_minute", "requests_per_day", "tokens_per_minute", "tokens_per_day")
    return list(RateLimit.objects.order_by("pk").values_list(*fields, "concurrency", "enabled"))


def test_a_mapping_is_the_whole_tenants(apply: Apply) -> None:
    limits = {"rpm": 600, "rpd": 7000, "tpm": 1_000_000, "tpd": 50_000_000, "concurrency": 100}
    assert apply({"tenants": [{**TENANT, "limits": limits}]})["created"] == ["tenant acme", "limits of acme, tenant"]
    assert rows() == [("tenant", "", 600, 7000, 1_000_000, 50_000_000, 100, True)]
    assert nothing(apply({"tenants": [{**TENANT, "limits": limits}]}))
    changed = apply({"tenants": [{**TENANT, "limits": {"rpm": 5}}]})["changed"]
    assert rows() == [("tenant", "", 5, None, None, None, None, True)], "what is left out is not limited"
    assert len(changed) == 1 and changed[0].startswith("limits of acme, tenant: ")


LISTED = [
    {"scope": "tenant", "rpm": 100},
    {"scope": "user", "rpm": 10, "concurrency": 2},
    {"scope": "user", "subject": "u-1", "tpm": 1000, "enabled": False},
]


def test_a_list_has_each_scope_and_comes_back(apply: Apply) -> None:
    document = {"tenants": [{**TENANT, "limits": LISTED}]}
    apply(document)
    assert [row[:3] for row in rows()] == [("tenant", "", 100), ("user", "", 10), ("user", "u-1", None)]
    assert json.loads(exported(json=True))["tenants"][0]["limits"] == LISTED
    assert nothing(apply(exported(json=True), prune=True))


@pytest.mark.parametrize("prune", [False, True])
def test_only_prune_takes_away(apply: Apply, prune: bool) -> None:
    apply({"tenants": [{**TENANT, "limits": LISTED}]})
    assert nothing(apply({"tenants": [TENANT]}, prune=prune)), "a file that says nothing of limits leaves them"
    report = apply({"tenants": [{**TENANT, "limits": LISTED[:1]}]}, prune=prune)
    gone = ["limits of acme, user: deleted", "limits of acme, user u-1: deleted"]
    assert report["pruned"] == (gone if prune else [])
    assert len(rows()) == (1 if prune else 3)


def test_limits_live_beside_the_rest(apply: Apply) -> None:
    apply(SMALL)
    assert rows() == []
