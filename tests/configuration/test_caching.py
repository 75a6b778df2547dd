"""Cache rules of tenants in the configuration file."""

from __future__ import annotations

import io
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command

from gateway.caching.models import CacheRule
from tests.configuration.conftest import Apply, nothing

RULES = [{"model": "small", "ttl_seconds": 60}, {"model": "any", "any_temperature": True}, {"enabled": False}]


def with_rules(small: dict[str, Any], *rules: Any) -> dict[str, Any]:
    small["tenants"][0]["cache"] = list(rules)
    return small


def test_rules_are_made_changed_and_left(apply: Apply, small: dict[str, Any]) -> None:
    made = apply(with_rules(small, *RULES))["created"]
    assert [one for one in made if one.startswith("cache rule")] == [
        "cache rule acme/small", "cache rule acme/any", "cache rule acme/everything",
    ]  # fmt: skip
    rules = {row.target_name: row for row in CacheRule.objects.all()}
    assert (rules["small"].ttl_seconds, rules["any"].ttl_seconds, rules["any"].any_temperature) == (60, 3600, True)
    assert rules["small"].enabled and not rules["everything"].enabled
    kept = rules["small"].epoch
    assert nothing(apply(small))
    assert apply(with_rules(small, {"model": "small"}))["changed"] == ["cache rule acme/small: ttl_seconds"]
    assert CacheRule.objects.get(model__name="small").epoch == kept, "what is kept stays"
    pruned = apply(small, prune=True)["pruned"]
    assert pruned == ["cache rule acme/any: deleted", "cache rule acme/everything: deleted"]
    del small["tenants"][0]["cache"]
    assert nothing(apply(small, prune=True))


def test_an_export_is_applied_without_a_change(apply: Apply, small: dict[str, Any]) -> None:
    apply(with_rules(small, *RULES))
    out = io.StringIO()
    call_command("export", stdout=out)
    exported = yaml.safe_load(out.getvalue())
    assert exported["tenants"][0]["cache"] == [
        {"model": "small", "ttl_seconds": 60},
        {"model": "any", "ttl_seconds": 3600, "any_temperature": True},
        {"ttl_seconds": 3600, "enabled": False},
    ]
    assert nothing(apply(exported, prune=True))
    CacheRule.objects.all().delete()
    apply(exported)
    assert {row.target_name for row in CacheRule.objects.all()} == {"small", "any", "everything"}


@pytest.mark.parametrize(
    ("rules", "place", "message"),
    [
        ([{"model": "smal"}], "cache[0].model", "did you mean 'small'"),
        ([{"ttl_seconds": 0}], "cache[0].ttl_seconds", "greater than or equal to 1"),
        ([{"ttl_seconds": 9_999_999}], "cache[0].ttl_seconds", "less than or equal to 2592000"),
        ([{"ttl_seconds": "long"}], "cache[0].ttl_seconds", "whole number"),
        ([{"model": "small"}, {"model": "small"}], "cache[1]", "'small' stands here twice"),
        ([{}, {}], "cache[1]", "'everything' stands here twice"),
        ([{"ttl": 5}], "cache[0].ttl", "not known here"),
        ({"model": "small"}, "cache", "a list"),
    ],
)
def test_a_mistake_names_its_place(rules: Any, place: str, message: str, apply: Apply, small: dict[str, Any]) -> None:
    small["tenants"][0]["cache"] = rules
    with pytest.raises(CommandError) as refused:
        apply(small)
    assert place in str(refused.value) and message in str(refused.value)
    assert not CacheRule.objects.exists()
