"""Months of audit events: made ahead of their time, and dropped whole when they are older than is kept.

Of a dropped month each chain keeps one event with the place and digest of the last one that went. The chain's base is
set to that, so what is kept still verifies, and a month that somebody else took away does not.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable

from django.db import OperationalError, connection, transaction
from django.utils import timezone

from gateway.audit.verification import CHECKPOINT, Place, Row, chain_name, month_tables, stored_rows
from tenants.audit import SYSTEM, Subject, record
from tenants.models import PLATFORM, AuditChain

MONTHS_AHEAD = 3
LOCK_TRIES = 30
LOCK_PAUSE_SECONDS = 1.0
DEFAULT_PART = "tenants_auditevent_default"
DROP = "ALTER TABLE tenants_auditevent DETACH PARTITION {month}; DROP TABLE {month}"


class BrokenMonthError(Exception):
    """A month that does not verify is evidence, and is not dropped."""


def retain_audit(months: int, *, say: Callable[[str], None]) -> None:
    """Make the coming months and drop those that are older than so many, telling of each. 0 drops none.

    Raises `BrokenMonthError` at the first month that does not verify.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT audit_make_partitions(now(), %s)", [1 + MONTHS_AHEAD])
        say(f"Partitions made for coming months: {cursor.fetchone()[0]}.")
    for table in expired_months(months):
        events = drop_month(table)
        say(f"Dropped the audit events of {month_of(table)}: {events:,}.")


def expired_months(keep_months: int) -> list[str]:
    """The tables of months that are older than so many, besides the one under way, the oldest first."""
    if not keep_months:
        return []
    now = timezone.now().astimezone(dt.UTC)
    newest = now.year * 12 + now.month - keep_months
    tables = [table for table in month_tables() if table != DEFAULT_PART]
    return [table for table in tables if _month_number(table) < newest]


def month_of(table: str) -> str:
    """A partition's month, such as 2026-11."""
    return table[-7:].replace("_", "-")


def _month_number(table: str) -> int:
    year, month = table[-7:].split("_")
    return int(year) * 12 + int(month)


@transaction.atomic
def drop_month(table: str) -> int:
    """Verify the oldest month and drop it; returns how many events it had. Raises `BrokenMonthError`."""
    bases = {head.chain: Place(head.base_sequence, head.base_digest) for head in AuditChain.objects.all()}
    gone: dict[int, list[int]] = {}
    for row in stored_rows(table=table):
        bases[row.chain] = _followed(bases.get(row.chain), row, table=table)
        gone.setdefault(row.chain, [0])[0] += 1
    for chain, (events,) in sorted(gone.items()):
        place = bases[chain]
        details = {"last_sequence": place.sequence, "last_digest": place.digest, "events": events}
        about = Subject(type="audit_month", id=month_of(table), tenant_id=None if chain == PLATFORM else chain)
        record(CHECKPOINT, by=SYSTEM, about=about, details=details)
    _lock()
    for chain in sorted(gone):
        AuditChain.objects.filter(chain=chain).update(
            base_sequence=bases[chain].sequence, base_digest=bases[chain].digest
        )
    with connection.cursor() as cursor:
        cursor.execute(DROP.format(month=table))
    return sum(events for (events,) in gone.values())


def _followed(before: Place | None, row: Row, *, table: str) -> Place:
    """The place after an event that follows another."""
    if before is None or row.sequence != before.sequence + 1 or row.digest_after(before.digest) != row.digest:
        raise BrokenMonthError(
            f"{month_of(table)} is kept: {chain_name(row.chain)}, event {row.sequence} does not follow "
            "the one before it."
        )
    return Place(row.sequence, row.digest)


def _lock() -> None:
    """A reader that takes long must not stop the writers with us: wait in short tries."""
    for remaining in reversed(range(LOCK_TRIES)):
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '2s'")
                cursor.execute("LOCK TABLE tenants_auditevent IN ACCESS EXCLUSIVE MODE")
            return
        except OperationalError:
            if not remaining:
                raise
            time.sleep(LOCK_PAUSE_SECONDS)
