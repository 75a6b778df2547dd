"""A tenant's cache rules as the hot path holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from gateway.caching.models import CacheRule as CacheRuleRow

EVERYTHING = ""
"""In the place of a name: the rule about all that a tenant may ask for."""


@dataclass(frozen=True, slots=True)
class CacheRule:
    """How answers are kept. An entry made in another `epoch` is not found any more."""

    id: int
    ttl_seconds: int
    any_temperature: bool
    epoch: UUID


def cache_rules(tenant_id: int) -> dict[str, CacheRule]:
    """The tenant's enabled rules, by the model's or group's name. One query."""
    rows = CacheRuleRow.objects.filter(tenant=tenant_id, enabled=True)
    return {
        model or group or EVERYTHING: CacheRule(rule, ttl_seconds, any_temperature, epoch)
        for model, group, rule, ttl_seconds, any_temperature, epoch in rows.values_list(
            "model__name", "group__name", "id", "ttl_seconds", "any_temperature", "epoch"
        )
    }


def rule_for(rules: Mapping[str, CacheRule], name: str) -> CacheRule | None:
    """The rule about a model or group: its own before the one about everything."""
    return rules.get(name) or rules.get(EVERYTHING)
