"""How providers are doing, for `GET /health`: the last probes from the database, the breakers from Redis."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import redis.asyncio
import redis.exceptions
from django.db import DatabaseError, InterfaceError

from gateway.directory import Directory
from providers.breakers import KEY, Board, parse_board
from providers.models import ProbeStatus
from providers.selectors import ProviderStanding, provider_standings

FRESH_SECONDS = 5.0
"""Probes are a minute apart, and whoever asks for `/health` needs no key."""


class ProviderStandings:
    """What one process has read of the last probes; asks again when it is a few seconds old."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._standings: list[ProviderStanding] | None = None
        self._fresh_until = 0.0
        self._asking = asyncio.Lock()

    async def read(self) -> list[ProviderStanding] | None:
        """Every enabled provider; None while the database does not answer."""
        async with self._asking:
            if time.monotonic() >= self._fresh_until:
                try:
                    self._standings = await self._directory.query(provider_standings)
                except (DatabaseError, InterfaceError):
                    self._standings = None
                self._fresh_until = time.monotonic() + FRESH_SECONDS
            return self._standings


def count(standings: list[ProviderStanding]) -> dict[str, int]:
    """How many stand how: no names, so anybody may see it."""
    counted = Counter(standing.status for standing in standings)
    return {status: counted[status] for status in ProbeStatus.values}


async def read_board(client: redis.asyncio.Redis) -> Board:
    """The breakers as they are now; a board that knows nothing while Redis does not answer."""
    try:
        async with client.pipeline(transaction=False) as pipeline:
            pipeline.hgetall(KEY)
            pipeline.time()
            fields, (seconds, microseconds) = await pipeline.execute()
    except (redis.exceptions.RedisError, OSError):
        return Board()
    return parse_board(fields, now_ms=seconds * 1000 + microseconds // 1000)


def describe(standing: ProviderStanding, board: Board) -> dict[str, Any]:
    """All that operators see of a provider, as JSON has it."""
    return {
        "name": standing.name,
        "status": standing.status,
        "checked_at": standing.checked_at,
        "latency_ms": standing.latency_ms,
        "average_latency_ms": standing.average_latency_ms,
        "last_error": standing.last_error,
        "deployments": [
            {"id": number, "model": model, "breaker": board.describe(number)} for number, model in standing.deployments
        ],
    }
