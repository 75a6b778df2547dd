"""What a tenant used over a stretch of time, grouped: exact sums, or none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from django.db import models

from billing.errors import UsageReportError
from billing.usage_sums import BY_DAY, BY_USER, Stretch, UsageSums, group_usage
from tenants.models import ApiKey, Project

MOST_GROUPS = 10_000

GROUPS = {"model": "model_name", "day": BY_DAY, "project": "project_id", "user": BY_USER, "api_key": "api_key_id"}
"""What usage may be grouped by, as the buckets' column; days are those of the tenant's time zone."""

NAMED: dict[str, type[models.Model]] = {"project": Project, "api_key": ApiKey}
"""Groups that buckets know by id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageGroup:
    """The sums of one group; `name` is None for what belongs to none, such as calls without a project."""

    name: str | None
    sums: UsageSums


def report_usage(tenant_id: int, group_by: str, *, stretch: Stretch, zone: str) -> list[UsageGroup]:
    """A tenant's usage, grouped by one of `GROUPS`, in the order of their names. Two queries at most.

    Raises `UsageReportError` for more than `MOST_GROUPS` groups: a part would look like all.
    """
    found = group_usage(
        [GROUPS[group_by]],
        stretch,
        narrow=lambda rows: rows.filter(tenant_id=tenant_id),
        zone=ZoneInfo(zone),
        most=MOST_GROUPS + 1,
    )
    if len(found) > MOST_GROUPS:
        raise UsageReportError(f"This is more than {MOST_GROUPS:,} groups: ask for a shorter range.")
    names = _names(group_by, [key for (key,), _ in found])
    groups = [UsageGroup(name=names[key] or None, sums=sums) for (key,), sums in found]
    return sorted(groups, key=lambda group: (group.name is None, group.name or ""))


def _names(group_by: str, keys: Iterable[Any]) -> dict[Any, str]:
    """What each group is called."""
    if group_by not in NAMED:
        return {key: str(key) for key in keys}
    rows = NAMED[group_by]._default_manager.filter(pk__in=[key for key in keys if key is not None])
    return {None: "", **dict(rows.values_list("pk", "name"))}
