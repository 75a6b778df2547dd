"""Attempts that the database could not be asked about: on disk before anything is dispatched for them.

One file for each process, made when it is first needed. A line is a reservation; `add` returns when it is fsynced. The
attempts' marks and charges are where all others are, in the flight recorder. The file is emptied when the database has
all of it; what a dead process leaves is replayed by another on its host (`billing.replay`), which knows by the lock on
the file that its owner is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import msgspec

from billing.coalescer import Coalescer
from billing.entries import Reservation
from billing.fault_points import fault_point

logger = logging.getLogger(__name__)

_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Reservation).decode


class SpoolError(OSError):
    """A reservation could not be put on disk: nothing may be dispatched for it."""


class Spool:
    """The reservations of this process that are not in the database."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._size = 0
        self._written: dict[str, Reservation] = {}
        self._lines: Coalescer[Reservation, None] = Coalescer(self._write)

    def __contains__(self, attempt_id: str) -> bool:
        return attempt_id in self._written

    def get(self, attempt_id: str) -> Reservation | None:
        """The reservation of an attempt that the database does not have yet."""
        return self._written.get(attempt_id)

    async def add(self, reservation: Reservation) -> None:
        """Put a reservation on disk. Raises `SpoolError` where there is no room for it; no part of it is left then."""
        self._written[reservation.id] = reservation
        try:
            await asyncio.shield(self._lines.add(reservation))
        except SpoolError:
            del self._written[reservation.id]
            raise
        fault_point("spool_written")

    def replayed(self, attempt_id: str) -> None:
        """The database has it now. With the last one gone the file is emptied."""
        self._written.pop(attempt_id, None)
        if not self._written and self._size and not self._lines.busy:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
                self._size = 0

    async def close(self) -> None:
        """Let go of the file; it stays for another process to replay unless it is empty."""
        await self._lines.idle()
        if self._descriptor >= 0:
            if not self._written:
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    async def _write(self, rows: list[Reservation]) -> Sequence[SpoolError | None]:
        """One write and one fsync for all that came together, off the loop."""
        content = b"".join(_encode(row) + b"\n" for row in rows)
        try:
            await asyncio.to_thread(self._append, content)
        except OSError as error:
            logger.error("spool.refused", extra={"reason": str(error), "rows": len(rows)})
            return [SpoolError(str(error))] * len(rows)
        return [None] * len(rows)

    def _append(self, content: bytes) -> None:
        if self._descriptor < 0:
            self._open()
        try:
            if os.write(self._descriptor, content) != len(content):
                raise OSError("The disk is full.")
            os.fsync(self._descriptor)
        except OSError:
            with contextlib.suppress(OSError):  # takes no room; a half line would be skipped by whoever reads it
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(content)

    def _open(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # else a crash of the machine may leave the data without its name
        finally:
            os.close(folder)
        self._descriptor = descriptor


def spool_path(folder: Path, process_id: UUID) -> Path:
    """Where a process has its spool."""
    return folder / f"{process_id}.spool"


class Leftover(NamedTuple):
    """The spool of a process that is gone. Its lock is held until `close`."""

    path: Path
    process_id: UUID
    reservations: list[Reservation]
    descriptor: int

    def close(self, *, remove: bool) -> None:
        """Let go of it, once the database has all of it or for the next who tries."""
        if remove:
            self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


def leftovers(folder: Path) -> list[Leftover]:
    """The spools here whose processes are gone. A line that was cut short was never answered for, and is skipped."""
    found = []
    for path in sorted(folder.glob("*.spool")):
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            descriptor = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                raise
            found.append(Leftover(path, UUID(path.stem), _read(path), descriptor))
    return found


def _read(path: Path) -> list[Reservation]:
    reservations, torn = [], 0
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            reservations.append(_decode(line if line.endswith(b"\n") else b""))
        except (msgspec.DecodeError, UnicodeDecodeError):
            torn += 1
    if torn:
        logger.warning("spool.line_torn", extra={"file": str(path), "lines": torn})
    return reservations
