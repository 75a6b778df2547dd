"""How each provider and deployment is doing: probes, breakers, what is under way, and how calls went of late.

How calls went is read from each provider's newest requests, so many and no more: the page costs the same after ten
million. Every figure says over how many it is.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import orjson
from django.db import connection
from django.db.models import Count, Prefetch
from django.utils import timezone

from billing.models import Attempt, AttemptState
from providers.breakers import Board, read_board
from providers.models import Credential, Deployment, Provider, ProviderHealth
from providers.selectors import worst_of

NEWEST = 200
"""Requests of each provider that are looked at."""

RECENT = """
SELECT provider.id, recent.attempts, recent.created_at FROM providers_provider provider CROSS JOIN LATERAL (
    SELECT attempts, created_at FROM gateway_requestrecord
    WHERE provider_name = provider.name AND created_at >= %s ORDER BY created_at DESC, id DESC LIMIT %s
) recent
"""


@dataclass(slots=True)
class Recent:
    """How some calls went; times in milliseconds."""

    outcomes: Counter[str] = field(default_factory=Counter)
    elapsed_ms: list[int] = field(default_factory=list)
    last_answer_at: dt.datetime | None = None

    @property
    def calls(self) -> int:
        """How many of them there are."""
        return self.outcomes.total()

    def add(self, note: dict[str, Any], at: dt.datetime) -> None:
        """Count an attempt."""
        self.outcomes[note["outcome"]] += 1
        if note["outcome"] != "answered":
            return
        if note.get("elapsed_ms") is not None:
            self.elapsed_ms.append(note["elapsed_ms"])
        self.last_answer_at = max(at, self.last_answer_at or at)

    def latency(self) -> str:
        """The middle and the 95th percentile in words."""
        if not self.elapsed_ms:
            return "no answer"
        ordered = sorted(self.elapsed_ms)
        return f"{_share(ordered, 0.5):,} / {_share(ordered, 0.95):,} ms"

    def failures(self) -> str:
        """What went wrong, and how often."""
        wrong = [(kind, count) for kind, count in self.outcomes.most_common() if kind != "answered"]
        return ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in wrong) or "none"


def _share(ordered: list[int], share: float) -> int:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentState:
    """One deployment as it stands."""

    row: Deployment
    state: str
    """asked, drained, open, half-open, cooling, off or unknown."""
    words: str
    in_flight: int
    recent: Recent


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderState:
    """One provider as it stands."""

    row: Provider
    health: ProviderHealth | None
    age_seconds: int | None
    """Of the last probe."""
    credentials: list[tuple[Credential, str]]
    deployments: list[DeploymentState]


@dataclass(frozen=True, slots=True)
class State:
    """All of it, at one moment."""

    providers: list[ProviderState]
    at: dt.datetime
    board: Board


def read_state() -> State:
    """Six queries and one look into Redis, however many requests there are."""
    now, board = timezone.now(), read_board()
    deployments = Prefetch(
        "deployments", Deployment.objects.select_related("model", "provider").order_by("model__name")
    )
    providers = Provider.objects.prefetch_related("health", "credentials", deployments).order_by("name")
    recent, under_way = _recent(now), in_flight()
    return State([_provider(row, board, now=now, recent=recent, under_way=under_way) for row in providers], now, board)


def in_flight() -> Counter[int]:
    """Attempts that have begun and not ended, by deployment, over all processes. One query, by an index of those."""
    rows = Attempt.objects.filter(state=AttemptState.OPEN).values_list("deployment_id").annotate(calls=Count("pk"))
    return Counter(dict(rows.order_by()))


def _recent(now: dt.datetime) -> dict[int, Recent]:
    found: dict[int, Recent] = {}
    with connection.cursor() as cursor:
        cursor.execute(RECENT, [now - dt.timedelta(hours=24), NEWEST])
        for _, attempts, at in cursor.fetchall():
            for note in _loaded(attempts):
                found.setdefault(note["deployment"], Recent()).add(note, at)
    return found


def _loaded(attempts: Any) -> list[dict[str, Any]]:
    """Django's cursor leaves jsonb as text."""
    notes: list[dict[str, Any]] = orjson.loads(attempts)
    return notes


def _provider(
    row: Provider, board: Board, *, now: dt.datetime, recent: dict[int, Recent], under_way: Counter[int]
) -> ProviderState:
    health = worst_of(row.health.all())
    return ProviderState(
        row=row,
        health=health,
        age_seconds=int((now - health.checked_at).total_seconds()) if health else None,
        credentials=[(one, _standing(one, board)) for one in row.credentials.all()],
        deployments=[
            DeploymentState(
                row=one,
                **_state_of(one, board, now=now),
                in_flight=under_way[one.pk],
                recent=recent.get(one.pk, Recent()),
            )
            for one in row.deployments.all()
        ],
    )


def _standing(credential: Credential, board: Board) -> str:
    if not credential.enabled:
        return "switched off"
    if not board.is_known:
        return "not known"
    return "refused by its provider" if board.refuses(credential) else "in use"


def _state_of(deployment: Deployment, board: Board, *, now: dt.datetime) -> dict[str, str]:
    if not (deployment.enabled and deployment.provider.enabled):
        return {"state": "off", "words": "switched off"}
    if deployment.is_drained(now):
        until = f"until {deployment.drained_until:%Y-%m-%d %H:%M} UTC" if deployment.drained_until else "until resumed"
        since = f"since {deployment.drained_at:%H:%M:%S} UTC, {until}"
        return {"state": "drained", "words": f"{since}: {deployment.drain_reason}"}
    if not board.is_known:
        return {"state": "unknown", "words": "Redis does not answer, so each process judges by itself"}
    standing = board.standing(deployment.pk)
    words = standing.as_text()
    if standing.breaker != "closed":
        return {"state": standing.breaker, "words": words}
    return {"state": "cooling" if standing.cooldown_seconds else "asked", "words": f"breaker {words}"}
