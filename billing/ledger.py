"""The ledger: an attempt is committed before any byte goes to a provider, and ends once, settled or voided.

`reserve` waits for the commit, because nothing may be spent before it. `settle` and `void` queue their row and return:
the answer does not wait for the books, and a row is kept until the database has taken it.

While the database is away a call that no hard budget is about is put into the spool instead, and its reservation goes
to the database just before its end does. Ends wait in memory, and in the flight recorder on the disk itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence

import msgspec

from billing import sql
from billing.coalescer import Coalescer
from billing.connection import CONNECTION_ERRORS, StatementConnection, StatementError
from billing.entries import Reservation, Settlement, Void, without_providers_words
from billing.errors import BudgetExceededError, LedgerUnavailableError, Refusal
from billing.fault_points import fault_point
from billing.flight_recorder import FlightRecorder
from billing.replay import softened
from billing.spool import Spool, SpoolError, spool_path

logger = logging.getLogger(__name__)

RESERVE_TRIES = 3
SETTLE_WITHIN_SECONDS = 0.02
"""How long a charge may wait for others to be committed with it: at 200 calls a second four of them share a commit."""
ROOM_WAIT_SECONDS = 1.0
"""How long a call that a budget refuses waits for the charges before it: what they hold too much may be its room."""
AWAY_SECONDS = 1.0
"""After a batch of reservations that the database did not take, this long nobody waits for it: the next call after that
tries again."""
END_PAUSE_SECONDS = 0.2
END_PAUSE_LONGEST_SECONDS = 5.0
CLOSE_SECONDS = 15.0
"""How long a process that ends waits for a database that is away. Its flight recorder has what is not written then."""

_encode = msgspec.json.encode


class _Answer(msgspec.Struct):
    """What became of one reservation of a batch that a budget is about."""

    place: int
    tokens: int | None = None
    refused: Refusal | None = None


class Ledger:
    """The verbs, over three connections of its own: what ends must not wait behind what begins."""

    def __init__(self, conninfo: str, recorder: FlightRecorder | None = None) -> None:
        """With a recorder, every end is on file before it is queued: a sweep finds it there if this process dies."""
        self._recorder = recorder
        self._spool: Spool | None = None
        if recorder is not None:
            self._spool = Spool(spool_path(recorder.path.parent, recorder.process_id))
        self._away_until = 0.0
        self._ends_wait = False
        reserve = {"reserve": sql.reserve(recorder.process_id if recorder is not None else None)}
        self._reserving = StatementConnection(conninfo, reserve)
        self._settling = StatementConnection(conninfo, {"settle": sql.SETTLE, **reserve})
        self._voiding = StatementConnection(conninfo, {"void": sql.VOID, **reserve})
        self._reserve: Coalescer[Reservation, int | None] = Coalescer(self._write_reservations)
        self._settle: Coalescer[Settlement, None] = Coalescer(self._write_settlements)
        self._void: Coalescer[Void, None] = Coalescer(self._write_voids)

    async def reserve(self, reservation: Reservation) -> int | None:
        """Commit an attempt and return the output tokens it may use: fewer than asked for where the headroom affords no
        more, None where no budget is about it.

        Raises `BudgetExceededError` or `LedgerUnavailableError`; then no provider may be called for it.
        """
        if asyncio.get_running_loop().time() < self._away_until:
            raise LedgerUnavailableError("The database did not answer a moment ago.")
        if self._recorder is not None:
            self._recorder.begin(reservation.id)
        try:
            try:
                return await self._committed(reservation)
            except BudgetExceededError:
                if not self._settle.busy:
                    raise
                await self._settle.urge(wait_seconds=ROOM_WAIT_SECONDS)
                return await self._committed(reservation)
        except (BudgetExceededError, LedgerUnavailableError):
            self._forget(reservation.id)
            raise

    async def _committed(self, reservation: Reservation) -> int | None:
        committing = self._reserve.add(reservation)
        try:
            return await asyncio.shield(committing)
        except asyncio.CancelledError:  # the client left, and the row may be committed all the same
            committing.add_done_callback(lambda done: self._void_abandoned(reservation, done))
            raise

    async def put_aside(self, reservation: Reservation) -> int | None:
        """Fsync an attempt here that the database could not take; for a call that no hard budget is about. Returns what
        `reserve` does. Raises `LedgerUnavailableError` where that cannot be done either.
        """
        if self._recorder is None or self._spool is None:
            raise LedgerUnavailableError("This ledger has no spool.")
        self._recorder.begin(reservation.id)
        try:
            await self._spool.add(reservation)
        except SpoolError as error:
            self._forget(reservation.id)
            raise LedgerUnavailableError(f"Nor can the spool be written: {error}") from error
        except asyncio.CancelledError:  # the client left
            self.void(Void(attempt_id=reservation.id, failure="client_left"))
            raise
        return reservation.max_output_tokens if reservation.holds else None

    def _void_abandoned(self, reservation: Reservation, committing: asyncio.Future[int | None]) -> None:
        if committing.cancelled():
            return  # the ledger was closed first, and a sweep ends what was committed
        if committing.exception() is not None:
            self._forget(reservation.id)
        else:
            self.void(Void(attempt_id=reservation.id, failure="client_left"))

    def settle(self, settlement: Settlement) -> asyncio.Future[None]:
        """End an attempt with a charge. The future need not be awaited: the row is written again until it is taken."""
        if self._recorder is not None:
            self._recorder.settled(settlement)
            if self._ends_wait:
                self._recorder.sync()
        fault_point("after_settle_mark")
        return self._settle.add(settlement, within_seconds=SETTLE_WITHIN_SECONDS)

    def void(self, void: Void) -> asyncio.Future[None]:
        """End an attempt that cost nothing."""
        if self._recorder is not None:
            self._recorder.voided(void)
            if self._ends_wait:
                self._recorder.sync()
        return self._void.add(void)

    def let_go(self, attempt_id: str) -> None:
        """Somebody else ends this attempt, whose row names no process any more."""
        self._forget(attempt_id)

    @property
    def pending(self) -> int:
        """How many charges and voids wait to be written."""
        return self._settle.pending + self._void.pending

    async def close(self) -> None:
        """Write what is queued, for `CLOSE_SECONDS` at most, then let go of the connections."""
        coalescers = (self._reserve, self._settle, self._void)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                for coalescer in coalescers:
                    await coalescer.idle()
        except TimeoutError:
            unwritten = sum([await coalescer.abandon() for coalescer in coalescers])
            logger.error("ledger.closed_with_rows", extra={"rows": unwritten})
        for connection in (self._reserving, self._settling, self._voiding):
            await connection.close()
        if self._spool is not None:
            await self._spool.close()

    def _forget(self, attempt_id: str) -> None:
        if self._recorder is not None:
            self._recorder.forget(attempt_id)

    async def _write_reservations(self, rows: list[Reservation]) -> Sequence[int | Exception | None]:
        for attempt in range(RESERVE_TRIES):
            try:
                return _outcomes(rows, await self._reserving.run("reserve", _encode(rows)))
            except StatementError as error:
                if not error.may_retry:
                    return [await self._reserve_alone(row) for row in rows]
                last: Exception = error
            except CONNECTION_ERRORS as error:
                last = error
            await asyncio.sleep(random.uniform(0, 0.05 * 2**attempt))
        logger.error("ledger.reserve_failed", extra={"reason": str(last), "rows": len(rows)})
        self._away_until = asyncio.get_running_loop().time() + AWAY_SECONDS
        return [LedgerUnavailableError(str(last))] * len(rows)

    async def _reserve_alone(self, row: Reservation) -> int | Exception | None:
        """A batch the server refuses holds a row it cannot store: the others pass one by one."""
        try:
            return _outcomes([row], await self._reserving.run("reserve", _encode([row])))[0]
        except (StatementError, *CONNECTION_ERRORS) as error:
            logger.error("ledger.reservation_refused", extra={"request_id": row.request_id, "reason": str(error)})
            return LedgerUnavailableError(str(error))

    async def _write_settlements(self, rows: list[Settlement]) -> Sequence[Exception | None]:
        return await self._write_until_taken(self._settling, "settle", rows=rows)

    async def _write_voids(self, rows: list[Void]) -> Sequence[Exception | None]:
        return await self._write_until_taken(self._voiding, "void", rows=rows)

    async def _write_until_taken(
        self, connection: StatementConnection, name: str, *, rows: Sequence[Settlement | Void]
    ) -> Sequence[Exception | None]:
        pause = END_PAUSE_SECONDS
        while True:
            try:
                await self._replay(connection, rows)
                await connection.run(name, _encode(rows))
                fault_point("after_settle_commit" if name == "settle" else "")
                for row in rows:
                    self._forget(row.attempt_id)
                self._ends_wait = False
                self._away_until = 0.0  # it is back
                return [None] * len(rows)
            except StatementError as error:
                if not error.may_retry and len(rows) > 1:
                    return [(await self._write_until_taken(connection, name, rows=[row]))[0] for row in rows]
                if not error.may_retry and (plainer := without_providers_words(rows[0])) is not None:
                    rows = [plainer]
                    continue
                if not error.may_retry:
                    # Kept in the log whole: it is the only other copy of this charge.
                    logger.critical(
                        "ledger.row_refused", extra={"row": _encode(rows[0]).decode(), "reason": str(error)}
                    )
                    return [error]
                reason: Exception = error
            except CONNECTION_ERRORS as error:
                reason = error
            self._ends_wait = True
            if self._recorder is not None:
                self._recorder.sync()
            logger.warning("ledger.write_repeated", extra={"statement": name, "rows": len(rows), "reason": str(reason)})
            await asyncio.sleep(pause)
            pause = min(pause * 2, END_PAUSE_LONGEST_SECONDS)

    async def _replay(self, connection: StatementConnection, ends: Sequence[Settlement | Void]) -> None:
        """Commit the attempts about to end that are only in the spool so far."""
        spool = self._spool
        if spool is None:
            return
        waiting = [row for row in map(spool.get, (end.attempt_id for end in ends)) if row is not None]
        for reservation in waiting:
            for row in softened(reservation):
                try:
                    (outcome,) = _outcomes([row], await connection.run("reserve", _encode([row])))
                except StatementError as error:
                    if error.may_retry:
                        raise
                    outcome = error
                if not isinstance(outcome, Exception):
                    break
                logger.warning("spool.softened", extra={"request_id": row.request_id, "reason": str(outcome)})
            else:
                logger.critical("spool.row_refused", extra={"row": _encode(reservation).decode()})
            spool.replayed(reservation.id)


def _outcomes(rows: Sequence[Reservation], answer: bytes) -> Sequence[int | Exception | None]:
    """Sort the function's answers to the reservations they are about."""
    outcomes: list[int | Exception | None] = [None] * len(rows)
    if answer != b"[]":
        for one in _decode_answers(answer):
            outcomes[one.place] = one.tokens if one.refused is None else BudgetExceededError(one.refused)
    return outcomes


_decode_answers = msgspec.json.Decoder(list[_Answer]).decode
