"""What waits for an operator: each thing with what to do about it and the page where that is done.

Read from small tables, indexes of what is wrong, and the breakers' board in Redis: ten queries at most, whatever there
is of usage, and kept for some seconds.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.db.models import Count, Q, QuerySet, Value
from django.urls import reverse

from billing.models import (
    BooksCheck,
    Period,
    Price,
    PriceProposal,
    ProposalState,
    ReconciliationRun,
    UsageRecord,
    UsageSource,
)
from billing.money import usd
from billing.standings import running_out
from gateway.models import AuditCheck
from providers.breakers import read_board
from providers.models import ApprovalState, Credential, Deployment, Lifecycle, Model, TenantApproval
from providers.selectors import SERVING
from tenants.models import Delivery, DeliveryState

SHOWN = 10
"""Of each kind; of more, how many there are."""
AHEAD = dt.timedelta(days=7)
BACK = dt.timedelta(days=7)
RECONCILED_LATELY = dt.timedelta(days=35)
DRIFT_PERCENT = 1


class Level(StrEnum):
    """How much it hurts while nothing is done."""

    BROKEN = "broken"
    SOON = "soon"
    WAITS = "waits"


PERIODS: dict[str, str] = {
    Period.HOUR: "hourly",
    Period.DAY: "daily",
    Period.WEEK: "weekly",
    Period.MONTH: "monthly",
    Period.QUARTER: "quarterly",
    Period.TOTAL: "whole",
}
WORDS = {Level.BROKEN: "Broken", Level.SOON: "Soon", Level.WAITS: "Waits"}
ICONS = {Level.BROKEN: "error", Level.SOON: "schedule", Level.WAITS: "pending_actions"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One thing: what there is, what to do, and where."""

    level: Level
    says: str
    do: str
    link: str
    approval: int | None = None
    """The request that may be decided on the spot."""

    @property
    def word(self) -> str:
        return WORDS[self.level]

    @property
    def icon(self) -> str:
        return ICONS[self.level]


def find_needs(now: dt.datetime) -> list[Need]:
    """Everything that needs an operator now, what is broken first."""
    needs = [*_counted(now), *_books(), *_providers(), *_drift(now), *_budgets(now), *_approvals(), *_models()]
    order = list(Level)
    return sorted(needs, key=lambda need: order.index(need.level))


def _page(name: str, query: str = "") -> str:
    return reverse(f"admin:{name}_changelist") + query


# What is counted: one query for all ----------------------------------------------------------------------------------
def _counted(now: dt.datetime) -> Iterator[Need]:
    since = now - BACK
    found = _counts(
        dead=Delivery.objects.filter(state=DeliveryState.DEAD, notification__created_at__gte=since),
        quarantined=_doubtful(UsageSource.RESERVE_BOUND, since),
        unknown=_doubtful(UsageSource.UNKNOWN, since),
        prices=PriceProposal.objects.filter(state=ProposalState.OPEN),
    )
    if count := found["dead"]:
        yield Need(
            level=Level.BROKEN,
            says=f"{_some(count, 'notification')} given up in the last 7 days",
            do="See what the receiver answered, mend it and deliver again.",
            link=_page("tenants_delivery", "?state__exact=dead"),
        )
    if count := found["quarantined"]:
        yield Need(
            level=Level.BROKEN,
            says=f"{_some(count, 'charge')} quarantined in the last 7 days",
            do="The provider's figures cannot be true, so the bound was charged: compare, and adjust the charge.",
            link=_page("billing_usagerecord", "?usage_source__exact=reserve_bound"),
        )
    if count := found["unknown"]:
        yield Need(
            level=Level.BROKEN,
            says=f"{_some(count, 'call')} of unknown cost in the last 7 days",
            do="Nothing was charged for them: ask the provider what they cost, and adjust.",
            link=_page("billing_usagerecord", "?usage_source__exact=unknown"),
        )
    if count := found["prices"]:
        yield Need(
            level=Level.WAITS,
            says=f"{_some(count, 'price proposal')} to decide",
            do="Compare the public price with ours, then approve or reject it.",
            link=_page("billing_priceproposal", "?state__exact=open"),
        )


def _doubtful(source: UsageSource, since: dt.datetime) -> QuerySet[Any]:
    # Both sources are named so that the index of doubtful charges is used, which has no others.
    doubtful = UsageRecord.objects.filter(usage_source__in=[UsageSource.RESERVE_BOUND, UsageSource.UNKNOWN])
    return doubtful.filter(usage_source=source, created_at__gte=since)


def _counts(**what: QuerySet[Any]) -> dict[str, int]:
    """How many rows each has, in one query."""
    parts = [
        rows.order_by().values(what=Value(name)).annotate(found=Count("pk")).values_list("what", "found")
        for name, rows in what.items()
    ]
    return {**dict.fromkeys(what, 0), **dict(parts[0].union(*parts[1:], all=True))}


def _some(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


# What is looked at one by one ----------------------------------------------------------------------------------------
def _books() -> Iterator[Need]:
    books, chains = BooksCheck.objects.first(), AuditCheck.objects.first()
    if books is not None and not books.ok:
        names = ", ".join(str(finding["check"]) for finding in books.findings)
        yield Need(
            level=Level.BROKEN,
            says=f"The books do not balance: {names}, checked {books.at:%Y-%m-%d %H:%M} UTC",
            do="Run manage.py verify_money: it names the rows.",
            link=reverse("admin:index") + "#books",
        )
    if chains is not None and not chains.ok:
        yield Need(
            level=Level.BROKEN,
            says=f"{_some(len(chains.breaks), 'audit chain')} broken, checked {chains.at:%Y-%m-%d %H:%M} UTC",
            do="Run manage.py verify_audit: it names the first bad event of each.",
            link=_page("tenants_auditevent"),
        )


def _providers() -> Iterator[Need]:
    board = read_board()
    if not board.is_known:
        yield Need(
            level=Level.BROKEN,
            says="Redis does not answer: breakers and limits are each process's own",
            do="See that Redis runs and that REDIS_URL leads there.",
            link=_page("providers_deployment"),
        )
        return
    open_ones = [number for number, standing in board.standings.items() if standing.breaker != "closed"]
    if open_ones:
        rows = Deployment.objects.filter(pk__in=open_ones, enabled=True).select_related("model", "provider")
        for row in rows.order_by("provider__name", "model__name")[:SHOWN]:
            yield Need(
                level=Level.BROKEN,
                says=f"{row.model.name} at {row.provider.name}: breaker {board.describe(row.pk)}",
                do="Calls go to the other deployments. See what the provider answers.",
                link=reverse("admin:providers_provider_change", args=[row.provider_id]),
            )
    if board.refused:
        for credential in Credential.objects.filter(pk__in=board.refused, enabled=True).select_related("provider"):
            if board.refuses(credential):
                yield Need(
                    level=Level.BROKEN,
                    says=f"{credential.provider.name} refuses the credential {credential.name}",
                    do="Store another secret, or mend it there and use it again.",
                    link=reverse("admin:providers_credential_change", args=[credential.pk]),
                )


def _drift(now: dt.datetime) -> Iterator[Need]:
    latest = ReconciliationRun.objects.order_by("provider_id", "-created_at").distinct("provider_id")
    for run in latest.filter(created_at__gte=now - RECONCILED_LATELY).select_related("provider"):
        difference = run.their_cost_nano_usd - run.our_cost_nano_usd
        if abs(difference) * 100 > DRIFT_PERCENT * abs(run.our_cost_nano_usd):
            yield Need(
                level=Level.BROKEN,
                says=f"{run.provider.name} asks {usd(abs(difference))} USD {'more' if difference > 0 else 'less'} than "
                f"the ledger has, {run.first_day} to {run.last_day}",
                do="See which model and day it is, then mend the price or adjust.",
                link=reverse("admin:billing_reconciliationrun_change", args=[run.pk]),
            )


def _budgets(now: dt.datetime) -> Iterator[Need]:
    ending = running_out(now, within=AHEAD, most=5 * SHOWN)
    for budget, standing in ending[:SHOWN]:
        end = standing.exhausted_at(now)
        assert end is not None
        whose = f"{budget.scope} {standing.subject}".rstrip()
        when = "is spent" if end <= now else f"runs out about {end:%Y-%m-%d %H:%M} UTC"
        yield Need(
            level=Level.SOON if end > now or not budget.hard else Level.BROKEN,
            says=f"{budget.tenant.name}: the {PERIODS[budget.period]} budget of the {whose} {when}, "
            f"{usd(standing.spent_nano_usd)} of {usd(standing.limit_nano_usd)} USD",
            do="Calls are refused then: allow more or raise the limit." if budget.hard else "It only alerts.",
            link=reverse("admin:billing_budget_change", args=[budget.pk]),
        )
    if len(ending) > SHOWN:
        yield Need(
            level=Level.SOON,
            says=f"{len(ending) - SHOWN} or more further budgets run out this week",
            do="See all budgets.",
            link=_page("billing_budget"),
        )


def _approvals() -> Iterator[Need]:
    waiting = TenantApproval.objects.filter(state=ApprovalState.REQUESTED).select_related("tenant", "model", "group")
    rows = list(waiting.order_by("requested_at")[: SHOWN + 1])
    for row in rows[:SHOWN]:
        yield Need(
            level=Level.WAITS,
            says=f"{row.tenant.name} asks for {row.target_name}",
            do=f"Since {row.requested_at:%Y-%m-%d %H:%M} UTC." if row.requested_at else "Decide.",
            link=reverse("admin:providers_tenantapproval_change", args=[row.pk]),
            approval=row.pk,
        )
    if len(rows) > SHOWN:
        yield Need(
            level=Level.WAITS,
            says="More tenants ask for models",
            do="See all requests.",
            link=_page("providers_tenantapproval", "?state__exact=requested"),
        )


def _models() -> Iterator[Need]:
    unpriced = Q(lifecycle__in=SERVING) & ~Q(pk__in=Price.objects.values("model_id"))
    rows = Model.objects.filter(Q(lifecycle=Lifecycle.PROPOSED) | unpriced).order_by("created_at")
    for model in rows[: 2 * SHOWN]:
        if model.lifecycle == Lifecycle.PROPOSED:
            yield Need(
                level=Level.WAITS,
                says=f"Model {model.name} is proposed",
                do=f"Approve it, or leave it. Since {model.created_at:%Y-%m-%d %H:%M} UTC.",
                link=reverse("admin:providers_model_change", args=[model.pk]),
            )
        else:
            yield Need(
                level=Level.BROKEN,
                says=f"Model {model.name} serves without a price",
                do="Its calls are booked at no cost: set a price.",
                link=f"{reverse('admin:billing_price_add')}?model={model.pk}",
            )
