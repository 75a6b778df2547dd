"""How often answers were there, by rule and day: counted in memory, written every few seconds in one statement."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections import Counter

import orjson
from django.db import DatabaseError, InterfaceError, connection

from gateway.directory import Directory

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 2.0

ADD = """
INSERT INTO gateway_cacheday AS held (rule_id, day, hits, misses, saved_nano_usd)
SELECT rule.id, day, coalesce(came.hits, 0), coalesce(came.misses, 0), coalesce(came.saved_nano_usd, 0)
FROM jsonb_to_recordset(%s) AS came(rule_id bigint, day date, hits bigint, misses bigint, saved_nano_usd bigint)
JOIN gateway_cacherule rule ON rule.id = came.rule_id
ORDER BY 1, 2
ON CONFLICT (rule_id, day) DO UPDATE SET hits = held.hits + excluded.hits, misses = held.misses + excluded.misses,
    saved_nano_usd = held.saved_nano_usd + excluded.saved_nano_usd
"""


class Tallies:
    """Counts of one process. They are for people: what a process that is killed had not written is lost."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._counts: dict[tuple[int, str], Counter[str]] = {}
        self._writing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._writing = asyncio.get_running_loop().create_task(self._keep_writing())

    async def close(self) -> None:
        """Write what is left, unless the database is away."""
        if self._writing is not None:
            self._writing.cancel()
        await self._write()

    def hit(self, rule_id: int, *, saved_nano_usd: int) -> None:
        """An answer was there, which had cost so much."""
        self._of_today(rule_id).update(hits=1, saved_nano_usd=saved_nano_usd)

    def miss(self, rule_id: int) -> None:
        """None was."""
        self._of_today(rule_id).update(misses=1)

    def _of_today(self, rule_id: int) -> Counter[str]:
        return self._counts.setdefault((rule_id, dt.datetime.now(dt.UTC).date().isoformat()), Counter())

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self._write()

    async def _write(self) -> None:
        counts, self._counts = self._counts, {}
        if not counts:
            return
        rows = [{"rule_id": rule_id, "day": day, **counted} for (rule_id, day), counted in counts.items()]
        try:
            await self._directory.query(_add, orjson.dumps(rows).decode())
        except (DatabaseError, InterfaceError) as error:
            logger.warning("response_cache.tally_repeated", extra={"reason": str(error)})
            for key, counted in counts.items():
                self._counts.setdefault(key, Counter()).update(counted)


def _add(rows: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(ADD, [rows])
