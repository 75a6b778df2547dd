"""Whether the database has every migration that this code was written against.

More than those are fine: while a release is rolled out, the old processes serve over the new schema.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import cache

from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from gateway.directory import Directory

logger = logging.getLogger(__name__)

RECHECK_SECONDS = 30.0
RECHECK_BEHIND_SECONDS = 1.0


@cache
def expected_migrations() -> frozenset[tuple[str, str]]:
    """App and name of every migration that comes with the code; read from its files once."""
    return frozenset(MigrationLoader(None).graph.nodes)


def missing_migrations() -> list[str]:
    """Migrations that are not applied, such as `billing.0002_x`, sorted. One small query.

    Raises `DatabaseError`.
    """
    applied = MigrationRecorder(connection).applied_migrations().keys()
    return sorted(f"{app}.{name}" for app, name in expected_migrations() - applied)


class SchemaGuard:
    """What one process knows of the schema. It asks again now and then: somebody may migrate backwards."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._missing: list[str] = []
        self._fresh_until = 0.0
        self._asking = asyncio.Lock()

    async def missing(self) -> list[str]:
        """See `missing_migrations`; a minute's calls cost two queries. Raises `DatabaseError`."""
        async with self._asking:
            if time.monotonic() >= self._fresh_until:
                missing = await self._directory.query(missing_migrations)
                if missing and missing != self._missing:
                    logger.error("schema.behind", extra={"missing": missing})
                self._missing = missing
                kept = RECHECK_BEHIND_SECONDS if missing else RECHECK_SECONDS
                self._fresh_until = time.monotonic() + kept
            return self._missing
