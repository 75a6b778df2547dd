"""Rows that nothing waits for, written by the hundred: what is told of calls once they are over.

While the database is away rows are kept up to a bound, then dropped and counted.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from billing.connection import CONNECTION_ERRORS, StatementConnection, StatementError

FLUSH_SECONDS = 0.5
"""Rows of half a second leave together: one statement for hundreds of calls."""

RETRY_SECONDS = 5.0
NUL = b"\\u0000"
"""As JSON writes it. PostgreSQL has none in its texts."""

Row = TypeVar("Row", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many rows leave in one statement, and how many wait for a database that is away."""

    at_once: int = 500
    kept: int = 20_000


USUAL = Bounds()


class BatchedRows(ABC, Generic[Row]):
    """Collects rows and writes them through a statement whose one parameter is a JSON array of them."""

    waits_for_disk = True

    def __init__(self, conninfo: str, statement: str, *, application_name: str, bounds: Bounds = USUAL) -> None:
        self._connection = StatementConnection(
            conninfo,
            {"write": statement},
            application_name=application_name,
            waits_for_disk=self.waits_for_disk,
        )
        self._bounds = bounds
        self._rows: list[Row] = []
        self._dropped = 0
        self._using = asyncio.Lock()
        self._writing: asyncio.Task[None] | None = None

    @abstractmethod
    def _say_repeated(self, reason: str) -> None:
        """The database did not take a batch now; it is tried again."""

    @abstractmethod
    def _say_dropped(self, rows: int) -> None:
        """So many rows were lost."""

    @abstractmethod
    def _say_refused(self, rows: int, reason: str) -> None:
        """The database will never take these rows, which is a bug; they are lost."""

    def start(self) -> None:
        """Begin to write."""
        self._writing = asyncio.get_running_loop().create_task(self._keep_writing())

    async def close(self) -> None:
        """Write what is left, unless the database is away."""
        if self._writing is not None:
            async with self._using:  # a batch that is cut off may be committed, and would be written twice
                self._writing.cancel()
            await asyncio.wait([self._writing])
        while self._rows and await self._write():
            pass
        if lost := self._dropped + len(self._rows):
            self._say_dropped(lost)
        await self._connection.close()

    def _put(self, row: Row) -> None:
        """Add a row to the next batch."""
        if len(self._rows) >= self._bounds.kept:
            self._dropped += 1
        else:
            self._rows.append(row)

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            while self._rows:
                async with self._using:
                    is_there = await self._write()
                if not is_there:
                    await asyncio.sleep(RETRY_SECONDS)

    async def _write(self) -> bool:
        """Write one batch; False while the database is away."""
        batch = self._rows[: self._bounds.at_once]
        try:
            await self._run(batch)
        except CONNECTION_ERRORS as error:
            self._say_repeated(str(error))
            return False
        except StatementError as error:
            if error.may_retry:
                self._say_repeated(str(error))
                return False
            await self._write_singly(batch, reason=str(error))
        del self._rows[: len(batch)]
        if self._dropped:
            self._say_dropped(self._dropped)
            self._dropped = 0
        return True

    async def _write_singly(self, batch: Sequence[Row], *, reason: str) -> None:
        """One row that the database does not take must not take the others with it."""
        refused = 0
        for row in batch if len(batch) > 1 else ():
            try:
                await self._run([row])
            except (*CONNECTION_ERRORS, StatementError) as error:
                refused, reason = refused + 1, str(error)
        self._say_refused(refused or len(batch), reason)

    async def _run(self, batch: Sequence[Row]) -> None:
        await self._connection.run("write", encode(batch))


def encode(rows: Sequence[msgspec.Struct]) -> bytes:
    """Rows as PostgreSQL takes them: texts of clients and providers may have a NUL in them."""
    encoded = msgspec.json.encode(rows)
    return msgspec.json.encode(_without_nul(msgspec.json.decode(encoded))) if NUL in encoded else encoded


def _without_nul(value: object) -> object:
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    return {name: _without_nul(item) for name, item in value.items()} if isinstance(value, dict) else value
