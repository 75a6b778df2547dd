"""The ledger: an attempt is committed before any byte goes to a provider, and ends once, settled or voided.

`reserve` waits for the commit, because nothing may be spent before it. `settle` and `void` queue their row and return:
the answer does not wait for the books, and a row is kept until the database has taken it.
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
from billing.entries import Reservation, Settlement, Void
from billing.errors import BudgetExceededError, LedgerUnavailableError, Refusal
from billing.flight_recorder import FlightRecorder

logger = logging.getLogger(__name__)

RESERVE_TRIES = 3
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
        process_id = recorder.process_id if recorder is not None else None
        self._reserving = StatementConnection(conninfo, {"reserve": sql.reserve(process_id)})
        self._settling = StatementConnection(conninfo, {"settle": sql.SETTLE})
        self._voiding = StatementConnection(conninfo, {"void": sql.VOID})
        self._reserve: Coalescer[Reservation, int | None] = Coalescer(self._write_reservations)
        self._settle: Coalescer[Settlement, None] = Coalescer(self._write_settlements)
        self._void: Coalescer[Void, None] = Coalescer(self._write_voids)

    async def reserve(self, reservation: Reservation) -> int | None:
        """Commit an attempt and return the output tokens it may use: fewer than asked for where the headroom affords no
        more, None where no budget is about it.

        Raises `BudgetExceededError` or `LedgerUnavailableError`; then no provider may be called for it.
        """
        if self._recorder is not None:
            self._recorder.begin(reservation.id)
        committing = self._reserve.add(reservation)
        try:
            return await asyncio.shield(committing)
        except asyncio.CancelledError:  # the client left, and the row may be committed all the same
            committing.add_done_callback(lambda done: self._void_abandoned(reservation, done))
            raise
        except (BudgetExceededError, LedgerUnavailableError):
            self._forget(reservation.id)
            raise

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
        return self._settle.add(settlement)

    def void(self, void: Void) -> asyncio.Future[None]:
        """End an attempt that cost nothing."""
        if self._recorder is not None:
            self._recorder.voided(void)
        return self._void.add(void)

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
                await connection.run(name, _encode(rows))
                for row in rows:
                    self._forget(row.attempt_id)
                return [None] * len(rows)
            except StatementError as error:
                if not error.may_retry and len(rows) > 1:
                    return [(await self._write_until_taken(connection, name, rows=[row]))[0] for row in rows]
                if not error.may_retry:
                    # Kept in the log whole: it is the only other copy of this charge.
                    logger.critical(
                        "ledger.row_refused", extra={"row": _encode(rows[0]).decode(), "reason": str(error)}
                    )
                    return [error]
                reason: Exception = error
            except CONNECTION_ERRORS as error:
                reason = error
            logger.warning("ledger.write_repeated", extra={"statement": name, "rows": len(rows), "reason": str(reason)})
            await asyncio.sleep(pause)
            pause = min(pause * 2, END_PAUSE_LONGEST_SECONDS)


def _outcomes(rows: Sequence[Reservation], answer: bytes) -> Sequence[int | Exception | None]:
    """Sort the function's answers to the reservations they are about."""
    outcomes: list[int | Exception | None] = [None] * len(rows)
    if answer != b"[]":
        for one in _decode_answers(answer):
            outcomes[one.place] = one.tokens if one.refused is None else BudgetExceededError(one.refused)
    return outcomes


_decode_answers = msgspec.json.Decoder(list[_Answer]).decode
