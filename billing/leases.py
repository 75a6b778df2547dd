"""The verb of calls that last: an open attempt's hold grows, if its budgets have room for that.

A voice session cannot say beforehand what it will cost. It holds a minute's worth and asks for more before that is
used; a budget that has no room ends it. What was held and not used comes free when the attempt is settled, as always.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from uuid import UUID

import msgspec

from billing import sql
from billing.coalescer import Coalescer
from billing.connection import CONNECTION_ERRORS, StatementConnection, StatementError
from billing.errors import BudgetExceededError, LedgerUnavailableError, Refusal

logger = logging.getLogger(__name__)

TRIES = 3
CLOSE_SECONDS = 5.0


class Extension(msgspec.Struct, frozen=True, kw_only=True):
    """What an open attempt is to hold besides: `billing.entries.Reservation` says what each field means. Fewer tokens
    are held where the headroom affords no more."""

    attempt_id: str
    fixed_nano_usd: int
    output_pico_usd: int
    max_output_tokens: int
    smallest_output_tokens: int


class Extended(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt holds besides now."""

    attempt_id: UUID
    tokens: int = 0
    nano_usd: int = 0
    refused: Refusal | None = None
    is_open: bool = True


class Leases:
    """Extends attempts over a connection of its own, which is opened with the first."""

    def __init__(self, conninfo: str) -> None:
        self._connection = StatementConnection(conninfo, {"extend": sql.EXTEND})
        self._extend: Coalescer[Extension, Extended] = Coalescer(self._write)

    async def extend(self, extension: Extension) -> Extended:
        """Hold more. Asking for nothing is always granted. Asked again after a lost answer it may hold twice as much,
        which its settlement gives back.

        Raises `BudgetExceededError`, or `LedgerUnavailableError` also where the attempt is not open any more.
        """
        return await asyncio.shield(self._extend.add(extension))

    async def close(self) -> None:
        """Wait for what is under way, then let go of the connection."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._extend.idle()
        except TimeoutError:
            await self._extend.abandon()
        await self._connection.close()

    async def _write(self, rows: list[Extension]) -> Sequence[Extended | Exception]:
        reason: Exception = LedgerUnavailableError("It was not asked.")
        for attempt in range(TRIES):
            try:
                answer = await self._connection.run("extend", msgspec.json.encode(rows))
                return _outcomes(rows, _decode(answer))
            except StatementError as error:
                reason = error
                if not error.may_retry:
                    break
            except CONNECTION_ERRORS as error:
                reason = error
            await asyncio.sleep(random.uniform(0, 0.05 * 2**attempt))
        logger.error("ledger.extend_failed", extra={"reason": str(reason), "rows": len(rows)})
        return [LedgerUnavailableError(str(reason))] * len(rows)


def _outcomes(rows: Sequence[Extension], answers: Sequence[Extended]) -> list[Extended | Exception]:
    by_attempt = {answer.attempt_id.hex: answer for answer in answers}
    return [_outcome(by_attempt.get(row.attempt_id)) for row in rows]


def _outcome(answer: Extended | None) -> Extended | Exception:
    if answer is None or not answer.is_open:
        return LedgerUnavailableError("The attempt is not open.")
    return answer if answer.refused is None else BudgetExceededError(answer.refused)


_decode = msgspec.json.Decoder(list[Extended]).decode
