"""Who uses a model and what they would lose with it: from sums and approvals, never from single calls."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils import timezone

from billing.money import usd
from billing.usage_sums import Stretch, UsageSums, group_usage
from providers.models import AgentType, ApprovalState, GroupMember, Model, TenantApproval
from providers.selectors import SERVING
from tenants.models import Tenant

DAYS = 30
NAMED = 10
"""So many tenants are named; the others are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """What hangs on a model."""

    users: Sequence[tuple[Tenant, UsageSums]]
    """Tenants that called it in the last thirty days, the dearest first."""
    approved: Sequence[str]
    """Names of the tenants for which it is approved by name: to them it is refused."""
    groups: Sequence[tuple[str, int]]
    """Groups it is in, with how many other members serve."""
    agent_types: Sequence[str]

    @property
    def total(self) -> UsageSums:
        return sum((sums for _, sums in self.users), UsageSums())


def impact_of(model: Model) -> Impact:
    """Five queries, over days' buckets and small tables."""
    midnight = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    stretch = Stretch(start=midnight - dt.timedelta(days=DAYS))
    groups = group_usage(("tenant_id",), stretch, narrow=lambda rows: rows.filter(model_name=model.name))
    tenants = Tenant.objects.in_bulk([key[0] for key, _ in groups])
    users = [(tenants[key[0]], sums) for key, sums in groups if key[0] in tenants and sums.calls]
    approvals = TenantApproval.objects.filter(model=model, state=ApprovalState.APPROVED)
    members = GroupMember.objects.filter(group__members__model=model).select_related("group", "model")
    others: dict[str, int] = {}
    for member in members.order_by("group__name"):
        serves = member.model_id != model.pk and member.model.lifecycle in SERVING
        others[member.group.name] = others.get(member.group.name, 0) + serves
    return Impact(
        users=sorted(users, key=lambda pair: -pair[1].cost_nano_usd),
        approved=list(approvals.order_by("tenant__name").values_list("tenant__name", flat=True)),
        groups=list(others.items()),
        agent_types=list(AgentType.objects.filter(target=model.name).values_list("name", flat=True)),
    )


def impact_in_numbers(model: Model) -> list[str]:
    """What a deprecation or retirement meets, as lines of the page that asks for it."""
    impact = impact_of(model)
    total = impact.total
    lines = [
        f"In the last {DAYS} days {len(impact.users):,} tenants made {total.calls:,} calls to it, "
        f"for {usd(total.cost_nano_usd)} USD."
    ]
    for tenant, sums in impact.users[:NAMED]:
        lines.append(f"{tenant.name}: {sums.calls:,} calls, {usd(sums.cost_nano_usd)} USD.")
    if len(impact.users) > NAMED:
        lines.append(f"And {len(impact.users) - NAMED:,} tenants more.")
    lines.append(
        f"{len(impact.approved):,} tenants may ask for it by name{_named(impact.approved)}: once it is retired "
        f"they are refused{_instead(model)}."
    )
    for group, others in impact.groups:
        left = f"{others} other members go on" if others else "nobody else in it serves, so that it refuses every call"
        lines.append(f"Group {group}: {left}.")
    lines += [f"Agent type {name} leads to it, and to nothing afterwards." for name in impact.agent_types]
    return lines


def _named(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f" ({', '.join(names[:NAMED])}{more})"


def _instead(model: Model) -> str:
    return f" and told of {model.successor.name}" if model.successor else ", and no successor is named to them"
