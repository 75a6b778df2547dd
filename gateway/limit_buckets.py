"""What a call is counted in: pure, from rules and the facts of the call, with the words of answers about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tenants.selectors import Principal, RateLimitRule


class Measure(NamedTuple):
    """One kind of limit. A window is `intervals` of `interval_seconds`; concurrency has none."""

    field: str
    what: str
    window: str
    interval_seconds: int
    intervals: int


MEASURES = (
    Measure("requests_per_minute", "requests", "minute", 1, 60),
    Measure("requests_per_day", "requests", "day", 900, 96),
    Measure("tokens_per_minute", "tokens", "minute", 1, 60),
    Measure("tokens_per_day", "tokens", "day", 900, 96),
    Measure("concurrency", "concurrency", "", 0, 0),
)


class Bucket(NamedTuple):
    """A count that a call goes into, with its limit and what the call adds."""

    key: str
    measure: Measure
    scope: str
    subject: str
    limit: int
    amount: int


class Standing(NamedTuple):
    """How far a bucket is used, and in how long none of it is."""

    bucket: Bucket
    used: int
    limit: int
    """The bucket's limit, or this process's share of it."""
    reset_ms: int


@dataclass(slots=True, kw_only=True)
class Lease:
    """What an admitted call holds until it is over: its places in concurrency, and tokens that were only estimated."""

    id: str
    buckets: Sequence[Bucket]
    tokens: int
    admitted_at_us: int
    local: bool
    """Whether this process counted it, Redis being away."""
    renewed_at: float
    """By the monotonic clock."""


def buckets_for(rules: Iterable[RateLimitRule], principal: Principal, *, user: str, tokens: int) -> list[Bucket]:
    """Every bucket of every rule that is about this call; empty when none is."""
    buckets = []
    for rule in rules:
        subject = rule.subject_of(principal, user=user)
        if subject is None:
            continue
        # The braces keep a tenant's keys in one slot of a Redis Cluster.
        prefix = f"{{t:{principal.tenant_id}}}:limit:{rule.id}"
        for measure in MEASURES:
            limit: int | None = getattr(rule, measure.field)
            if limit is not None:
                amount = tokens if measure.what == "tokens" else 1
                key = f"{prefix}:{measure.field}:{subject}"
                buckets.append(Bucket(key, measure, rule.scope, subject, limit, amount))
    return buckets


def headers_for(standings: Iterable[Standing]) -> dict[str, str]:
    """OpenAI's headers, for requests and for tokens: those of the bucket that is nearest its limit."""
    headers = {}
    nearest: dict[str, Standing] = {}
    for standing in standings:
        what = standing.bucket.measure.what
        if what != "concurrency" and (what not in nearest or _room(standing) < _room(nearest[what])):
            nearest[what] = standing
    for what, standing in nearest.items():
        headers[f"x-ratelimit-limit-{what}"] = str(standing.bucket.limit)
        headers[f"x-ratelimit-remaining-{what}"] = str(max(0, standing.limit - standing.used))
        headers[f"x-ratelimit-reset-{what}"] = duration(standing.reset_ms)
    return headers


def _room(standing: Standing) -> float:
    return (standing.limit - standing.used) / standing.limit


def duration(milliseconds: int) -> str:
    """As OpenAI writes it: `12ms`, `1s`, `6m0s`, `24h15m0s`; whole seconds from one second on, rounded up."""
    if milliseconds < 1000:
        return f"{max(0, milliseconds)}ms"
    seconds = -(-milliseconds // 1000)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    if hours:
        return f"{hours}h{minutes}m{seconds % 60}s"
    return f"{minutes}m{seconds % 60}s" if minutes else f"{seconds}s"


def owner(bucket: Bucket) -> str:
    """Whose limit it is, for people."""
    return f"{bucket.scope} {bucket.subject!r}" if bucket.subject else bucket.scope
