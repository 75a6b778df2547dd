"""What one process did with its attempts, in a file that outlives `kill -9`.

One line for each mark, written with a plain `write`: once that has returned, the kernel has the line, whatever becomes
of the process, and it costs about a microsecond. A crash of the whole machine may lose lines. So the file says during
which run of the machine it was written: read during another, a mark that is not there proves nothing
(docs/decisions/0016-what-survives-which-crash.md). A charge is here before it is queued for the database, so this file
is also the spool of charges that never got there: while the database is away, `sync` puts them on the disk itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
from collections.abc import Callable, Collection, KeysView, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import msgspec
import psutil

from billing.entries import Settlement, Void

logger = logging.getLogger(__name__)

COMPACT_ABOVE_BYTES = 64 * 1024 * 1024
WHOLE, HOLED = b"bursar-flight-2 whole", b"bursar-flight-2 holed"
"""How the first line begins: of one length, so that the one is written over the other the moment a mark is lost. The
machine's run follows."""
BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")

_encode = msgspec.json.encode


class Dispatch(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What a charge needs that the attempt's row does not have, known before the provider is asked."""

    input_bytes: int
    stream: bool
    project_id: int | None
    user: str
    conversation: str
    agent: str
    agent_type: str
    requested_model: str
    upstream_model: str
    price_id: int | None
    service_tier: str = ""
    """As asked for; the default reads the files of processes that did not write it yet."""
    units: dict[str, int] = {}
    """What is charged beside tokens: characters to be spoken, seconds to be heard."""


@dataclass(slots=True)
class Flight:
    """The marks of one attempt."""

    dispatch: Dispatch | None = None
    output_bytes: int | None = None
    """How much the model had said; 0 once an answer has begun, None while there is no sign of one."""
    end: Settlement | Void | None = None
    units: dict[str, int] | None = None
    """What the gateway had counted in billable units, of calls that are not counted by bytes."""


@dataclass(slots=True)
class FlightLog:
    """What could be read of a process's file."""

    whole: bool
    flights: dict[str, Flight] = field(default_factory=dict)

    def flight(self, attempt_id: str) -> Flight | None:
        """An attempt's marks; none at all is evidence too, unless marks were lost: then None."""
        return self.flights.get(attempt_id, Flight() if self.whole else None)


class FlightRecorder:
    """Writes the marks of this process. For the event loop's thread only."""

    def __init__(self, folder: Path, process_id: UUID) -> None:
        """Raises OSError where the file cannot be made."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.process_id = process_id
        self.path = flight_path(folder, process_id)
        self._marks: dict[str, list[bytes]] = {}
        self._torn = False
        self._holed = False
        self._syncing: asyncio.Task[None] | None = None
        self._descriptor = -1
        self._replace_file()

    @property
    def open_attempts(self) -> KeysView[str]:
        """The attempts of this process that have not ended in the database."""
        return self._marks.keys()

    def begin(self, attempt_id: str) -> None:
        """An attempt is about to be committed. Kept in memory only: an attempt without a mark was not dispatched."""
        self._marks[attempt_id] = []

    def forget(self, attempt_id: str) -> None:
        """An attempt has ended in the database, or was never in it."""
        self._marks.pop(attempt_id, None)

    def dispatched(self, attempt_id: str, dispatch: Dispatch) -> None:
        """The first byte is about to go to the provider."""
        line = b"D %b %b\n" % (attempt_id.encode(), _encode(dispatch))
        self._marks[attempt_id] = [line]
        self._write(line)

    def progressed(self, attempt_id: str, output_bytes: int) -> None:
        """So much has the model said by now; 0: its answer begins."""
        line = b"P %b %d\n" % (attempt_id.encode(), output_bytes)
        self._marks[attempt_id][1:] = [line]
        self._write(line)

    def counted(self, attempt_id: str, units: Mapping[str, int]) -> None:
        """So much has been used by now, in billable units, as far as it is not charged yet."""
        line = b"U %b %b\n" % (attempt_id.encode(), _encode(units))
        self._marks[attempt_id][1:] = [line]
        self._write(line)

    def settled(self, settlement: Settlement) -> None:
        """The attempt's charge is known."""
        # A provider's own usage object may be written over several lines; in JSON's strings a line feed is escaped.
        charge = _encode(settlement).replace(b"\n", b" ")
        self._end(settlement.attempt_id, b"S %b %b\n" % (settlement.attempt_id.encode(), charge))

    def voided(self, void: Void) -> None:
        """The attempt cost nothing."""
        self._end(void.attempt_id, b"V %b %b\n" % (void.attempt_id.encode(), _encode(void)))

    def maintain(self) -> None:
        """Drop the marks of ended attempts once the file is large or has a hole. Call it every few seconds."""
        try:
            os.utime(self._descriptor)
            if self._holed or self._size > max(COMPACT_ABOVE_BYTES, 2 * self._kept):
                self._replace_file()
        except OSError as error:
            logger.warning("recorder.compact_failed", extra={"reason": str(error)})

    def sync(self) -> None:
        """Have all that is written so far put on the disk itself, in a thread; what comes meanwhile waits its turn."""
        if self._syncing is None:
            self._syncing = asyncio.get_running_loop().create_task(self._sync())

    async def _sync(self) -> None:
        size = -1
        while size != self._size and self._descriptor >= 0:
            size = self._size
            duplicate = os.dup(self._descriptor)  # compacting may replace the file under the thread
            try:
                await asyncio.to_thread(os.fsync, duplicate)
            except OSError as error:
                self._admit_hole(str(error))
            finally:
                os.close(duplicate)
        self._syncing = None

    def close(self, *, keep: bool) -> None:
        """Close the file, and remove it unless something of this process is still open in the database."""
        os.close(self._descriptor)
        self._descriptor = -1  # the number may soon be another file's, and a call may still be under way
        if not keep:
            self.path.unlink(missing_ok=True)

    def _end(self, attempt_id: str, line: bytes) -> None:
        self._marks[attempt_id] = [line]
        self._write(line)

    def _write(self, line: bytes) -> None:
        if self._torn:
            line = b"\n" + line
        try:
            written = os.write(self._descriptor, line)
        except OSError as error:
            self._admit_hole(str(error))
            return
        self._size += written
        self._torn = written != len(line)
        if self._torn:
            self._admit_hole("The disk is full.")

    def _admit_hole(self, reason: str) -> None:
        """From now on a missing mark proves nothing: say so where no space is needed."""
        if not self._holed:
            self._holed = True
            logger.error("recorder.mark_lost", extra={"reason": reason})
            with contextlib.suppress(OSError):
                os.pwrite(self._descriptor, HOLED, 0)

    def _replace_file(self) -> None:
        """Write what is still needed into a new file and put it in the place of the old, all or nothing."""
        content = WHOLE + _this_run() + b"".join(line for marks in self._marks.values() for line in marks)
        fresh = self.path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            if os.write(descriptor, content) != len(content):
                raise OSError("The disk is full.")
            fresh.rename(self.path)
        except OSError:
            os.close(descriptor)
            raise
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._size = self._kept = len(content)
        self._torn = self._holed = False


@functools.cache
def _this_run() -> bytes:
    """What tells this run of the machine from those before: the end of the first line."""
    boot_id = BOOT_ID_FILE.read_text().strip() if BOOT_ID_FILE.exists() else f"{psutil.boot_time():.0f}"
    return f" {boot_id}\n".encode()


def flight_path(folder: Path, process_id: UUID) -> Path:
    """Where a process of this host has its recorder. The name says whose it is, so no other host's is taken for it."""
    return folder / f"{process_id}.flight"


def read_flights(path: Path, attempt_ids: Collection[str]) -> FlightLog | None:
    """The marks of some attempts; None when there is no such file here. A line cut short by a full disk is skipped."""
    try:
        with path.open("rb") as file:
            first = file.readline()
            if not first.startswith((WHOLE, HOLED)):
                return None
            log = FlightLog(whole=first == WHOLE + _this_run())
            for line in file:
                attempt_id = line[2:34].decode("ascii", "replace")
                if attempt_id in attempt_ids and line.endswith(b"\n"):
                    with contextlib.suppress(msgspec.DecodeError, ValueError):
                        _add(log, attempt_id, kind=line[:1], payload=line[35:-1])
    except OSError:
        return None
    return log


def _add(log: FlightLog, attempt_id: str, *, kind: bytes, payload: bytes) -> None:
    """Raises where the line is no mark; it has left no trace then."""
    mark = _READERS[kind](payload) if kind in _READERS else None
    if mark is None:
        return
    flight = log.flights.setdefault(attempt_id, Flight())
    if isinstance(mark, Dispatch):
        flight.dispatch = mark
    elif isinstance(mark, int):
        flight.output_bytes = mark
    elif isinstance(mark, dict):
        flight.units = mark
    elif flight.end is None:
        flight.end = mark


_READERS: dict[bytes, Callable[[bytes], Dispatch | int | dict[str, int] | Settlement | Void]] = {
    b"D": msgspec.json.Decoder(Dispatch).decode,
    b"P": int,
    b"U": msgspec.json.Decoder(dict[str, int]).decode,
    b"S": msgspec.json.Decoder(Settlement).decode,
    b"V": msgspec.json.Decoder(Void).decode,
}
