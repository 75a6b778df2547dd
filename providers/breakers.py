"""What processes have told each other about deployments through Redis, read for operators: breakers, cooldowns and
refused credentials. `gateway/health/health.lua` writes it and says what each field holds; nothing is written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import redis
from django.conf import settings

from providers.models import Credential

KEY = "bursar:health"
TIMEOUT_SECONDS = 0.3
STATES = {0: "closed", 1: "open", 2: "half-open"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one deployment stands."""

    breaker: str = "closed"
    """closed, open or half-open. A deployment that nothing has been told about is closed."""
    open_seconds: float = 0
    """Until an open breaker lets calls try."""
    cooldown_seconds: float = 0
    """Until it is asked again after a 429."""

    def as_text(self) -> str:
        """In words, such as "open for 12 s, cooling down for 3 s"."""
        breaker = self.breaker
        if breaker == "open":
            breaker = f"open for {self.open_seconds:.0f} s" if self.open_seconds else "open, due to be tried"
        cooldown = f", cooling down for {self.cooldown_seconds:.0f} s" if self.cooldown_seconds else ""
        return breaker + cooldown


@dataclass(frozen=True, slots=True)
class Board:
    """All that is known at one moment; what is not on it is well."""

    is_known: bool = False
    """Off while Redis does not answer: then nobody can say."""
    standings: Mapping[int, Standing] = field(default_factory=dict)
    refused: Mapping[int, int] = field(default_factory=dict)
    """By credential: the version of the secret that its provider refused."""

    def standing(self, deployment_id: int) -> Standing:
        """Of one deployment."""
        return self.standings.get(deployment_id, Standing())

    def describe(self, deployment_id: int) -> str:
        """Of one deployment, in words."""
        return self.standing(deployment_id).as_text() if self.is_known else "not known"

    def refuses(self, credential: Credential) -> bool:
        """Whether a provider has refused the secret that the credential now has."""
        return self.refused.get(credential.pk) == int(credential.changed_at.timestamp() * 1000)


def read_board() -> Board:
    """The board as it is now; one that knows nothing while Redis does not answer."""
    client = redis.Redis.from_url(
        settings.REDIS_CONNECTION, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
    )
    try:
        with client, client.pipeline(transaction=False) as pipeline:
            pipeline.hgetall(KEY)
            pipeline.time()
            fields, (seconds, microseconds) = pipeline.execute()
    except (redis.RedisError, OSError):
        return Board()
    return parse_board(fields, now_ms=seconds * 1000 + microseconds // 1000)


def parse_board(fields: Mapping[bytes, bytes], *, now_ms: int) -> Board:
    """The board from the fields of its hash, at a moment of Redis' clock; what cannot be read is left out."""
    breakers: dict[int, tuple[str, float]] = {}
    cooldowns: dict[int, float] = {}
    refused: dict[int, int] = {}
    for name, value in fields.items():
        kind, _, number = name.decode(errors="replace").partition(":")
        try:
            key, numbers = int(number), [int(part) for part in value.split()]
            if kind == "b":
                breakers[key] = (STATES[numbers[0]], _seconds_until(numbers[1], now_ms))
            elif kind == "c":
                cooldowns[key] = _seconds_until(numbers[0], now_ms)
            elif kind == "k":
                refused[key] = numbers[0]
        except (ValueError, IndexError, KeyError):
            continue
    standings = {}
    for key in breakers.keys() | cooldowns.keys():
        state, open_seconds = breakers.get(key, ("closed", 0.0))
        standings[key] = Standing(
            breaker=state,
            open_seconds=open_seconds if state == "open" else 0.0,
            cooldown_seconds=cooldowns.get(key, 0.0),
        )
    return Board(True, standings, refused)


def _seconds_until(moment_ms: int, now_ms: int) -> float:
    return max(moment_ms - now_ms, 0) / 1000
