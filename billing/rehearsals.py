"""What the ledger would answer to a call that nobody makes: the same function is asked, and nothing of it stays."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
from django.db import OperationalError, connection, transaction

from billing import sql
from billing.entries import Reservation
from billing.errors import BudgetExceededError, LedgerUnavailableError, Refusal
from billing.money import PICO_PER_NANO

TIMEOUTS = "SET LOCAL lock_timeout = '250ms'; SET LOCAL statement_timeout = '1s'"
"""Short: the windows asked about are those that real calls wait for."""

WINDOWS = "SELECT scope, subject, period, hard, ceiling, spent, reserved, room, ends_at FROM ledger_windows(%s::jsonb)"


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """A window that a call would be held in, as it stands now."""

    scope: str
    subject: str
    period: str
    hard: bool
    limit_nano_usd: int
    spent_nano_usd: int
    reserved_nano_usd: int
    room_nano_usd: int
    """What a further call may need at most; less than nothing where the limit was lowered below its use."""
    ends_at: dt.datetime | None


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """What would be held for a call, and in which windows."""

    needed_nano_usd: int
    """The most it may cost."""
    output_tokens: int | None
    """What its answer may have; None where no budget is about it."""
    rooms: list[Room]

    @property
    def binding(self) -> Room | None:
        """The hard window with the least room: what the limit comes to in effect."""
        return min((room for room in self.rooms if room.hard), key=lambda room: room.room_nano_usd, default=None)


def rehearse(reservation: Reservation) -> Rehearsal:
    """Ask the ledger for a reservation and take it back.

    Raises `BudgetExceededError` as the ledger does, and `LedgerUnavailableError` where the windows are too busy. The
    windows are locked for as long as that takes, some milliseconds.
    """
    try:
        with transaction.atomic():
            answers, rooms = _ask(reservation)
            transaction.set_rollback(True)
    except OperationalError as error:
        raise LedgerUnavailableError("The budget's windows are busy.") from error
    answer: dict[str, Any] = answers[0] if answers else {}
    if "refused" in answer:
        raise BudgetExceededError(msgspec.convert(answer["refused"], Refusal, strict=False))
    tokens = answer.get("tokens")
    return Rehearsal(
        needed_nano_usd=_amount(reservation, tokens), output_tokens=tokens if reservation.holds else None, rooms=rooms
    )


def _ask(reservation: Reservation) -> tuple[list[dict[str, Any]], list[Room]]:
    holds = msgspec.json.encode(reservation.holds).decode()
    with connection.cursor() as cursor:
        cursor.execute(TIMEOUTS)
        cursor.execute(sql.REPLAY, [msgspec.json.encode([reservation]).decode(), None])
        answers = cursor.fetchone()[0]
        cursor.execute(WINDOWS, [holds])
        rows = cursor.fetchall()
    found: list[dict[str, Any]] = msgspec.json.decode(answers) if isinstance(answers, str) else answers
    was_held = bool(found) and "refused" not in found[0]
    amount = _amount(reservation, found[0].get("tokens")) if was_held else 0
    return found, [_room(row, held=amount) for row in rows]


def _amount(reservation: Reservation, tokens: int | None) -> int:
    output = reservation.output_pico_usd * (tokens if tokens is not None else reservation.max_output_tokens or 0)
    return reservation.fixed_nano_usd - (-output // PICO_PER_NANO)


def _room(row: tuple[Any, ...], *, held: int) -> Room:
    """The window without what was just held in it."""
    scope, subject, period, hard, ceiling, spent, reserved, room, ends_at = row
    return Room(
        scope=scope,
        subject=subject,
        period=period,
        hard=hard,
        limit_nano_usd=ceiling,
        spent_nano_usd=spent,
        reserved_nano_usd=reserved - held,
        room_nano_usd=room + held,
        ends_at=ends_at,
    )
