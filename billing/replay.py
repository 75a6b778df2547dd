"""Attempts from a spool on their way into the database."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec
from django.db import DataError, IntegrityError, connection, transaction

from billing import sql
from billing.entries import Reservation
from billing.spool import Leftover, leftovers

logger = logging.getLogger(__name__)

_encode = msgspec.json.encode


def softened(reservation: Reservation) -> Iterator[Reservation]:
    """A reservation that was let through without being gated, in the forms to try in turn.

    As it was. Holding nothing, when its budget has become hard meanwhile and is full: the window still gets the charge,
    as an overrun. In no window, when that is refused too: the call has been made, and its charge belongs in the books.
    """
    yield reservation
    yield msgspec.structs.replace(reservation, fixed_nano_usd=0, output_pico_usd=0)
    yield msgspec.structs.replace(reservation, fixed_nano_usd=0, output_pico_usd=0, holds=[])


def replay_leftovers(folder: Path) -> int:
    """Commit what dead processes of this host left in their spools, as open attempts of theirs: the sweep then ends
    them by their marks. How many. Raises `django.db.DatabaseError`; what is not committed then is the next time."""
    replayed = 0
    for leftover in leftovers(folder):
        done = False
        try:
            replayed += sum(_commit(reservation, leftover) for reservation in leftover.reservations)
            done = True
        finally:
            leftover.close(remove=done)
    if replayed:
        logger.warning("spool.replayed", extra={"attempts": replayed})
    return replayed


def _commit(reservation: Reservation, leftover: Leftover) -> int:
    for row in softened(reservation):
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(sql.REPLAY, [_encode([row]).decode(), leftover.process_id])
                answers = cursor.fetchone()[0]
        except (DataError, IntegrityError) as error:
            logger.warning("spool.softened", extra={"request_id": row.request_id, "reason": str(error)})
            continue
        if "refused" not in str(answers):
            return 1
    logger.critical("spool.row_refused", extra={"row": _encode(reservation).decode()})
    return 0
