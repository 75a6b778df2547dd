"""Processes that say they live, and the end of what the dead ones left open."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from django.db import DataError, IntegrityError, connection, transaction
from django.db.models import DateTimeField, DurationField, Exists, ExpressionWrapper, F, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce, Now

from billing import sql
from billing.entries import Settlement, Void, without_providers_words
from billing.flight_recorder import Flight, FlightRecorder, flight_path, read_flights
from billing.models import Attempt, AttemptState, GatewayProcess, Price
from billing.pricing import PriceVersion
from billing.recovery import ending_of, unknown_charge
from billing.replay import replay_leftovers

logger = logging.getLogger(__name__)

UNKNOWN_AFTER = 2
"""In multiples of the time after which a process is dead: until then its own host may know more."""
ORPHANED_AFTER = 4
"""So many times as long an attempt may be open that its own living process knows nothing of."""
BATCH = 200
"""Attempts ended in one transaction: live calls wait for its windows no longer than for a batch of their own."""
FILES_KEPT_SECONDS = 24 * 3600

_encode = msgspec.json.encode


def beat(recorder: FlightRecorder, started_at: dt.datetime) -> None:
    """Say that this process lives; the first time, that there is one."""
    process = (recorder.process_id, socket.gethostname(), os.getpid(), started_at, str(recorder.path))
    with connection.cursor() as cursor:
        cursor.execute(sql.BEAT, process)


def end_process(process_id: UUID) -> bool:
    """Whether a process leaves nothing open: then it has ended in order, and its row goes."""
    ended, _ = GatewayProcess.objects.filter(pk=process_id).exclude(Exists(_open_attempts_of_it())).delete()
    return ended > 0


def orphans(process_id: UUID, dead_after_seconds: float) -> list[str]:
    """The attempts of a living process that have been open for so long that it ought to know of them: those it does not
    know were committed by a reservation whose answer was lost, and nothing was dispatched for them."""
    age = dt.timedelta(seconds=ORPHANED_AFTER * dead_after_seconds)
    found = Attempt.objects.filter(state=AttemptState.OPEN, process=process_id, created_at__lt=Now() - age)
    return [attempt_id.hex for attempt_id in found.values_list("id", flat=True)]


def sweep(folder: Path, dead_after_seconds: float) -> Counter[str]:
    """End the open attempts of dead processes, by their recorders where those can be read here.

    Returns how many ended in which way. A process is dead when its row has not been touched for so long, or is gone.
    Raises `django.db.DatabaseError`; what has not ended then does the next time.
    """
    replay_leftovers(folder)
    swept: Counter[str] = Counter()
    while True:
        found, ended = _sweep_batch(folder, dt.timedelta(seconds=dead_after_seconds))
        swept += ended
        if found < BATCH or not ended:
            break
    if swept:
        logger.warning("recovery.swept", extra=dict(swept))
    _tidy(folder, dt.timedelta(seconds=dead_after_seconds))
    return swept


def _sweep_batch(folder: Path, dead_after: dt.timedelta) -> tuple[int, Counter[str]]:
    """How many abandoned attempts were found, and how those ended that could be ended now."""
    found = _abandoned(dead_after)
    evidence = _evidence(found, folder)
    prices = _prices_of(evidence.values())
    charges: list[tuple[Attempt, Settlement]] = []
    voids: list[tuple[Attempt, Void]] = []
    for attempt in found:
        flight = evidence[attempt.pk]
        if flight is None and attempt.silence <= UNKNOWN_AFTER * dead_after:
            continue
        end = ending_of(attempt, flight, prices=prices)
        if isinstance(end, Void):
            voids.append((attempt, end))
        else:
            charges.append((attempt, end))
    return len(found), _write(sql.SWEEP_SETTLE, charges) + _write(sql.SWEEP_VOID, voids)


def _abandoned(dead_after: dt.timedelta) -> Sequence[Any]:
    """Open attempts whose process has not been heard of, the oldest first, each with its `silence` and `recorder`."""
    process = GatewayProcess.objects.filter(pk=OuterRef("process"))
    heard = Coalesce(Subquery(process.values("beat_at")), F("created_at"), output_field=DateTimeField())
    silence = ExpressionWrapper(Now() - heard, output_field=DurationField())
    attempts = Attempt.objects.filter(state=AttemptState.OPEN, process__isnull=False, created_at__lt=Now() - dead_after)
    annotated = attempts.annotate(silence=silence, recorder=Subquery(process.values("recorder")))
    return list(annotated.filter(silence__gt=dead_after).order_by("created_at")[:BATCH])


def _evidence(found: Iterable[Any], folder: Path) -> dict[UUID, Flight | None]:
    """The marks of each attempt, from one reading of each recorder."""
    by_recorder: dict[Path, list[Attempt]] = {}
    for attempt in found:
        path = Path(attempt.recorder) if attempt.recorder else flight_path(folder, attempt.process)
        by_recorder.setdefault(path, []).append(attempt)
    evidence: dict[UUID, Flight | None] = {}
    for path, attempts in by_recorder.items():
        log = read_flights(path, {attempt.pk.hex for attempt in attempts})
        evidence |= {attempt.pk: log.flight(attempt.pk.hex) if log is not None else None for attempt in attempts}
    return evidence


def _prices_of(flights: Iterable[Flight | None]) -> dict[int, PriceVersion]:
    dispatches = [flight.dispatch for flight in flights if flight is not None and flight.dispatch is not None]
    price_ids = {dispatch.price_id for dispatch in dispatches if dispatch.price_id is not None}
    rows = Price.objects.filter(pk__in=price_ids)
    return {row.pk: row.version for row in rows}


def _write(statement: str, endings: Sequence[tuple[Attempt, Settlement | Void]]) -> Counter[str]:
    """End attempts in one transaction, unless another process is doing it."""
    if not endings:
        return Counter()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql.SWEEP_TIMEOUTS)
        cursor.execute(sql.SWEEP_LOCK)
        if not cursor.fetchone()[0]:
            return Counter()
        if _taken(statement, [end for _, end in endings]):
            return Counter(_way(end) for _, end in endings)
        return Counter(way for attempt, end in endings for way in _write_alone(statement, attempt, end=end))


def _write_alone(statement: str, attempt: Attempt, *, end: Settlement | Void) -> list[str]:
    """A batch the server refuses holds a row it cannot store: that attempt's charge is as good as unknown."""
    if _taken(statement, [end]):
        return [_way(end)]
    plainer = without_providers_words(end)
    if plainer is not None and _taken(statement, [plainer]):
        return [_way(plainer)]
    logger.critical("recovery.row_refused", extra={"row": _encode(end).decode()})
    unknown = unknown_charge(attempt)
    return [_way(unknown)] if _taken(sql.SWEEP_SETTLE, [unknown]) else []


def _taken(statement: str, ends: Sequence[Settlement | Void]) -> bool:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement, [_encode(ends).decode()])
    except (DataError, IntegrityError):
        return False
    return True


def _way(end: Settlement | Void) -> str:
    return "voided" if isinstance(end, Void) else end.usage_source


def _tidy(folder: Path, dead_after: dt.timedelta) -> None:
    """Forget dead processes that have nothing open, and a day later their files."""
    dead = GatewayProcess.objects.filter(beat_at__lt=Now() - UNKNOWN_AFTER * dead_after)
    dead.exclude(Exists(_open_attempts_of_it())).delete()
    with contextlib.suppress(FileNotFoundError):  # others tidy here too
        old = [
            path
            for path in folder.glob("*.*")
            if path.suffix != ".spool" and path.stat().st_mtime < time.time() - FILES_KEPT_SECONDS
        ]
        if not old:
            return
        known = {str(process_id) for process_id in GatewayProcess.objects.values_list("id", flat=True)}
        for path in old:
            if path.stem not in known:
                path.unlink(missing_ok=True)


def _open_attempts_of_it() -> QuerySet[Attempt]:
    return Attempt.objects.filter(state=AttemptState.OPEN, process=OuterRef("pk"))
