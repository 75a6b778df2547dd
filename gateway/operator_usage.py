"""What the home page says of usage: today and this month, and who and what it was, in UTC."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from billing.money import usd
from billing.usage_sums import Stretch, UsageSums, group_usage
from tenants.models import Tenant

SHOWN = 5
"""Of each kind, the dearest this month."""

GROUP_BY = ("tenant_id", "model_name", "provider_name")
NO_NAME = "no charge"
"""What an adjustment is about that corrects none."""


@dataclass(frozen=True, slots=True)
class Line:
    """One tenant, model or provider."""

    name: str
    today: UsageSums
    month: UsageSums

    @property
    def figures(self) -> tuple[str, str, str]:
        """Calls this month, and USD today and this month."""
        return f"{self.month.calls:,}", usd(self.today.cost_nano_usd), usd(self.month.cost_nano_usd)


@dataclass(frozen=True, slots=True)
class UsagePanel:
    """Sums, and below them the dearest tenants, models and providers."""

    today: UsageSums
    month: UsageSums
    tables: list[tuple[str, list[Line]]]


def usage_panel(now: dt.datetime) -> UsagePanel:
    """Three queries, over days' buckets and the tenants' names."""
    midnight = now.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    today = group_usage(GROUP_BY, Stretch(start=midnight))
    month = group_usage(GROUP_BY, Stretch(start=midnight.replace(day=1)))
    names: dict[Any, str] = dict(Tenant.objects.filter(pk__in={key[0] for key, _ in month}).values_list("pk", "name"))
    tables = []
    for place, title in enumerate(("Tenant", "Model", "Provider")):
        of_today, of_month = _by(place, today), _by(place, month)
        dearest = sorted(of_month, key=lambda key: (-of_month[key].cost_nano_usd, str(key)))[:SHOWN]
        lines = [Line(str(names.get(key, key) or NO_NAME), of_today[key], of_month[key]) for key in dearest]
        tables.append((title, lines))
    return UsagePanel(_total(today), _total(month), tables)


Groups = list[tuple[tuple[Any, ...], UsageSums]]


def _by(place: int, groups: Groups) -> defaultdict[Any, UsageSums]:
    found: defaultdict[Any, UsageSums] = defaultdict(UsageSums)
    for key, sums in groups:
        found[key[place]] += sums
    return found


def _total(groups: Groups) -> UsageSums:
    return sum((sums for _, sums in groups), UsageSums())
