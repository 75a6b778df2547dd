"""The ledger: an attempt is committed before any byte goes to a provider, and ends once, settled or voided.

`reserve` waits for the commit, because nothing may be spent before it. `settle` and `void` queue their row and return:
the answer does not wait for the books, and a row is kept until the database has taken it.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import os
import random
import time
from collections.abc import Sequence

import msgspec

from billing import sql
from billing.budgets import Hold
from billing.coalescer import Coalescer
from billing.connection import CONNECTION_ERRORS, StatementConnection, StatementError
from billing.errors import BudgetExceededError, LedgerUnavailableError, Refusal
from billing.estimates import SMALLEST_ANSWER_TOKENS

logger = logging.getLogger(__name__)

RESERVE_TRIES = 3
END_PAUSE_SECONDS = 0.2
END_PAUSE_LONGEST_SECONDS = 5.0

_encode = msgspec.json.encode


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt's row as it is committed before dispatch."""

    id: str
    request_id: str
    tenant_id: int
    api_key_id: int
    deployment_id: int
    operation: str
    model_name: str
    provider_name: str
    created_at: dt.datetime
    fixed_nano_usd: int = 0
    output_pico_usd: int = 0
    max_output_tokens: int | None = None
    smallest_output_tokens: int = SMALLEST_ANSWER_TOKENS
    may_shrink: bool = False
    holds: list[Hold] = []


class _Answer(msgspec.Struct):
    """What became of one reservation of a batch that a budget is about."""

    place: int
    tokens: int | None = None
    refused: Refusal | None = None


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """A charge: `billing.models.UsageRecord` says what each field means."""

    attempt_id: str
    created_at: dt.datetime
    request_id: str
    tenant_id: int
    project_id: int | None
    api_key_id: int
    user: str
    conversation: str
    agent: str
    agent_type: str
    operation: str
    requested_model: str
    model_name: str
    provider_name: str
    upstream_model: str
    stream: bool
    ending: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    units: dict[str, int]
    provider_usage: msgspec.Raw
    usage_source: str
    price_id: int | None
    cost_nano_usd: int
    latency_ms: int
    first_content_ms: int | None


class Void(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that cost nothing, and why."""

    attempt_id: str
    failure: str


def new_attempt_id() -> str:
    """A UUIDv7 as 32 hexadecimal digits: made here, so that a reservation may be repeated, and ordered by time, so that
    the index grows at its end."""
    milliseconds = time.time_ns() // 1_000_000
    noise = int.from_bytes(os.urandom(10))
    number = milliseconds << 80 | noise
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return f"{number:032x}"


class Ledger:
    """The verbs, over three connections of its own: what ends must not wait behind what begins."""

    def __init__(self, conninfo: str) -> None:
        self._reserving = StatementConnection(conninfo, {"reserve": sql.RESERVE})
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
        committing = self._reserve.add(reservation)
        try:
            return await asyncio.shield(committing)
        except asyncio.CancelledError:  # the client left, and the row may be committed all the same
            committing.add_done_callback(lambda done: self._void_abandoned(reservation, done))
            raise

    def _void_abandoned(self, reservation: Reservation, committing: asyncio.Future[int | None]) -> None:
        if committing.exception() is None:
            self.void(Void(attempt_id=reservation.id, failure="client_left"))

    def settle(self, settlement: Settlement) -> asyncio.Future[None]:
        """End an attempt with a charge. The future need not be awaited: the row is written again until it is taken."""
        return self._settle.add(settlement)

    def void(self, void: Void) -> asyncio.Future[None]:
        """End an attempt that cost nothing."""
        return self._void.add(void)

    @property
    def pending(self) -> int:
        """How many charges and voids wait to be written."""
        return self._settle.pending + self._void.pending

    async def close(self) -> None:
        """Write what is queued, then let go of the connections."""
        for coalescer in (self._reserve, self._settle, self._void):
            await coalescer.idle()
        for connection in (self._reserving, self._settling, self._voiding):
            await connection.close()

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
